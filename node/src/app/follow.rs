//! What the mesh side and the data side tell each other while the node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use starling_gossip::View;
use starling_proto::mesh::v1;
use starling_proto::{Endpoint, ServiceName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::host_load::{HostLoad, overload};
use crate::mesh::{Heartbeat, Mesh};
use crate::plane::Plane;

/// How often others are told of this node's load.
const TELL_LOAD_EVERY: Duration = Duration::from_secs(1);

/// How often the thread of the mesh side shows that it has its turn.
const PULSE: Duration = Duration::from_millis(500);

/// Makes clusters and names out of each new view. Runs until the mesh side ends.
pub(super) async fn view(plane: Arc<Plane>, mut views: watch::Receiver<Arc<View>>) {
    loop {
        let view = Arc::clone(&views.borrow_and_update());
        let observed = plane.vips.observe(view.services.keys(), SystemTime::now());
        if observed.refused > 0 {
            tracing::warn!(
                services = observed.refused,
                "dns.vip_range is full: services got no address; choose a larger range"
            );
        }
        plane.vips.set_ports(ports(&view));
        plane.clusters.rcu(|clusters| clusters.rebuild(&view.services));
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// On which ports callers reach each service.
fn ports(view: &View) -> BTreeMap<ServiceName, Vec<u16>> {
    let of = |endpoints: &[Endpoint]| {
        let ports: BTreeSet<u16> = endpoints.iter().map(|endpoint| endpoint.port).collect();
        ports.into_iter().collect()
    };
    view.services.iter().map(|(service, endpoints)| (service.clone(), of(endpoints))).collect()
}

/// Tells the mesh how busy this node is, when that has changed.
pub(super) async fn load(plane: Arc<Plane>, mesh: Mesh) {
    let mut told = v1::LoadSummary::default();
    let mut host = HostLoad::default();
    let mut ticks = tokio::time::interval(TELL_LOAD_EVERY);
    loop {
        ticks.tick().await;
        let cpu_permille = host.sample();
        let load = v1::LoadSummary {
            in_flight: plane.offers.in_flight(),
            cpu_permille,
            overload: overload(cpu_permille),
            // The engine knows which of the node's instances fail.
            unhealthy: 0,
        };
        if load != told {
            mesh.load(load);
            told = load;
        }
    }
}

/// Shows a watchdog that this thread has its turn.
pub(super) async fn pulse(heartbeat: Arc<Heartbeat>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        heartbeat.promise(Instant::now() + PULSE);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PULSE) => {}
        }
        heartbeat.turn(Instant::now());
    }
    heartbeat.end();
}
