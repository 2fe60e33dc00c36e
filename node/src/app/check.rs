//! What `starling check` asks of the running node: facts are gathered here, and judged in [`verdict`].

mod path;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use starling_gossip::State as Alive;
use starling_proto::NodeId;
use tokio::task::JoinSet;

use super::hop;
use super::report::State;
use crate::admin::{CheckReport, CheckState, DismissError};
use crate::inbound::application::Names;
use crate::mesh::{MeshError, Survey};
use verdict::{Facts, Standing};

/// Members that are asked at a time: enough to see what is wrong, few enough for a mesh that is in trouble.
const ASKED: usize = 32;

impl State {
    /// Looks at the node, asks some members, and judges.
    pub(super) async fn check_all(&self) -> Vec<CheckReport> {
        let (survey, refusing) = tokio::join!(self.survey(), self.refusing());
        let survey = match survey {
            Ok(survey) => survey,
            Err(error) => return vec![report("loop", CheckState::Failed, error.to_string(), "see the agent's log")],
        };
        let view = self.mesh.view().load_full();
        let of_state = |state| view.members.values().filter(move |member| member.state == state);
        let ends = self.plane.identity.not_after().duration_since(SystemTime::now());
        let facts = Facts {
            live: self.is_live(),
            ready: self.is_ready(),
            watchdog: self.watchdog.counts(),
            certificate_ends: ends.unwrap_or(Duration::ZERO),
            standing: Standing {
                listed: view.members.len(),
                up: self.others_up(),
                down: of_state(Alive::Down).map(|member| member.name.clone()).collect(),
            },
            troubles: self.mesh.troubles(),
            alone: self.is_alone(),
            counts: self.mesh.counts(),
            offered: self.plane.offers.iter().count(),
            refusing,
            looped: self.plane.passed.looped(),
            gossip: self.config.mesh.address().gossip(),
            by_tcp: hop::by_tcp(&self.tls),
            survey,
        };
        verdict::judge(&facts)
    }

    /// Members that came up while nobody was there to be asked are asked after all.
    async fn survey(&self) -> Result<Survey, MeshError> {
        let first = self.mesh.survey(ASKED).await?;
        if first.up == 0 && self.others_up() > 0 { self.mesh.survey(ASKED).await } else { Ok(first) }
    }

    /// Has it seeds beside itself, and is no other member up?
    pub(super) fn is_alone(&self) -> bool {
        self.has_other_seeds() && self.others_up() == 0
    }

    fn others_up(&self) -> usize {
        let view = self.mesh.view().load();
        view.members.values().filter(|member| member.id != view.this && member.state.is_up()).count()
    }

    /// Services of this node whose program takes no connection, with its address.
    async fn refusing(&self) -> Vec<String> {
        let mut trying = JoinSet::new();
        let names = Arc::<Names>::default();
        for offer in self.plane.offers.iter().map(Arc::clone) {
            let names = Arc::clone(&names);
            trying.spawn(async move {
                let taken = offer.application.connect(&names).await;
                taken.is_err().then(|| format!("{} at {}", offer.service, offer.application))
            });
        }
        let mut refusing: Vec<String> = trying.join_all().await.into_iter().flatten().collect();
        refusing.sort_unstable();
        refusing
    }

    /// Finds a member that is down, by its name or id, and tells all that it will not come back. Gives its id.
    pub(super) async fn dismiss(&self, member: &str, prune: bool) -> Result<NodeId, DismissError> {
        let view = self.mesh.view().load_full();
        let called = || view.members.values().filter(|known| known.name == member || known.id.to_string() == member);
        let up = called().find(|known| known.state.is_up());
        let mut gone = called().filter(|known| !known.state.is_up());
        let node = match (gone.next(), gone.count(), up) {
            (Some(one), 0, _) => one.id,
            (Some(_), others, _) => {
                return Err(DismissError::Ambiguous { name: member.to_owned(), count: others + 1 });
            }
            (None, _, Some(up)) => {
                return Err(DismissError::Up { name: up.name.clone(), state: up.state.to_string() });
            }
            (None, _, None) => return Err(DismissError::Unknown(member.to_owned())),
        };
        let reason = format!("force-leave on {}", self.config.node.name);
        self.mesh.dismiss(node, prune, &reason).await.map_err(|_: MeshError| DismissError::Stopped)?;
        Ok(node)
    }
}

/// One line.
fn report(check: &str, state: CheckState, found: impl Into<String>, hint: impl Into<String>) -> CheckReport {
    CheckReport { check: check.to_owned(), state, found: found.into(), hint: hint.into() }
}

/// A line without a fault.
fn well(check: &str, found: impl Into<String>) -> CheckReport {
    report(check, CheckState::Ok, found, "")
}

/// Some names, the first few of them in full.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
