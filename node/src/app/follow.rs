//! What the mesh side and the data side tell each other while the node runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use starling_gossip::View;
use starling_proto::mesh::v1;
use tokio::sync::watch;

use crate::mesh::Mesh;
use crate::plane::Plane;

/// How often others are told of this node's load.
const TELL_LOAD_EVERY: Duration = Duration::from_secs(1);

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
        plane.clusters.rcu(|clusters| clusters.rebuild(&view.services));
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the mesh how busy this node is, when that has changed.
pub(super) async fn load(plane: Arc<Plane>, mesh: Mesh) {
    let mut told = v1::LoadSummary::default();
    let mut ticks = tokio::time::interval(TELL_LOAD_EVERY);
    loop {
        ticks.tick().await;
        let load = v1::LoadSummary { in_flight: plane.offers.in_flight(), ..v1::LoadSummary::default() };
        if load != told {
            mesh.load(load);
            told = load;
        }
    }
}
