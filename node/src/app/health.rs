//! Are the programs behind this node's services there? What the requests of others show is enough to notice that one is
//! not; since then few come any more, it is tried until it is back. Either is told to all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::inbound::application::Names;
use crate::inbound::offers::Offer;
use crate::mesh::Mesh;
use crate::plane::Plane;

/// So many connections in a row that a program does not accept show that it is not there: one may be a restart.
const FAILS_AFTER: u32 = 3;
/// How often this is looked at: others are to know within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a program that fails is tried.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// What is known of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Well,
    /// To be tried then.
    Failing(Instant),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Tell(bool),
    Try,
}

impl Health {
    /// A look: so many connections in a row were refused by now.
    fn look(&mut self, refused: u32, now: Instant) -> Step {
        match *self {
            Self::Well if refused >= FAILS_AFTER => {
                *self = Self::Failing(now + TRY_EVERY);
                Step::Tell(false)
            }
            Self::Failing(_) if refused == 0 => {
                *self = Self::Well;
                Step::Tell(true)
            }
            Self::Failing(at) if at <= now => {
                *self = Self::Failing(now + TRY_EVERY);
                Step::Try
            }
            _ => Step::Nothing,
        }
    }
}

/// Watches all instances of this node. Runs until `stop`, or until the mesh side ends.
pub(super) async fn watch(plane: Arc<Plane>, mesh: Mesh, stop: CancellationToken) {
    let mut known: Vec<_> = plane.offers.iter().map(|offer| (Arc::clone(offer), Health::Well)).collect();
    if known.is_empty() {
        // Nothing is to be woken for.
        return;
    }
    let names = Arc::<Names>::default();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        for (offer, health) in &mut known {
            match health.look(offer.refused(), Instant::now()) {
                Step::Nothing => {}
                Step::Tell(well) => {
                    if tell(&mesh, offer, well).await.is_err() {
                        return;
                    }
                }
                Step::Try => {
                    let offer = Arc::clone(offer);
                    let names = Arc::clone(&names);
                    tokio::spawn(async move { offer.on_reached(offer.application.connect(&names).await.is_ok()) });
                }
            }
        }
    }
}

async fn tell(mesh: &Mesh, offer: &Offer, well: bool) -> Result<(), crate::mesh::MeshError> {
    let (service, address) = (&offer.service, &offer.application);
    if well {
        tracing::info!(%service, %address, "the program behind a service is back");
    } else {
        tracing::warn!(%service, %address, "the program behind a service accepts no connections");
    }
    mesh.health(service, offer.instance, well).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_fails_after_three_refusals_and_is_tried_until_it_is_back() {
        let start = Instant::now();
        let mut health = Health::Well;
        for (ms, refused, step) in [
            (0, 0, Step::Nothing),
            (250, 2, Step::Nothing),
            (500, 3, Step::Tell(false)),
            (750, 4, Step::Nothing),
            (1_500, 4, Step::Try),
            (1_750, 5, Step::Nothing),
            (2_500, 5, Step::Try),
            (2_750, 0, Step::Tell(true)),
            (3_000, 0, Step::Nothing),
            (3_250, 7, Step::Tell(false)),
        ] {
            assert_eq!(health.look(refused, start + Duration::from_millis(ms)), step, "at {ms} ms");
        }
    }
}
