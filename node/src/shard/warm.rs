//! Which nodes a shard keeps connections to: those that offer what is called here, dialed ahead of need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_gossip::{State, View};
use starling_proto::ServiceName;
use starling_transport::Target;
use tokio::sync::watch;

use super::Shard;

/// How often it is looked which services are called.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A service counts as in use for this long after its last request.
const IN_USE: Duration = Duration::from_mins(5);
/// Nodes that are kept connected ahead of need; the others of a very large service are dialed when chosen.
const MOST_TARGETS: usize = 128;

/// Runs until the mesh side ends.
pub(super) async fn keep_warm(shard: Arc<Shard>, mut views: watch::Receiver<Arc<View>>) {
    let mut used: BTreeMap<ServiceName, Instant> = BTreeMap::new();
    let mut warm: BTreeSet<Target> = BTreeSet::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = views.changed() => if changed.is_err() { return },
        }
        let view = Arc::clone(&views.borrow_and_update());
        let now = Instant::now();
        for cluster in shard.plane.clusters.load().iter() {
            if cluster.budget().requests(now) > 0 {
                used.insert(cluster.service().clone(), now);
            }
        }
        // Gossip doubts that they live; an idle connection would go on looking alive until its idle timeout.
        for member in view.members.values().filter(|member| matches!(member.state, State::Suspect | State::Down)) {
            shard.pool.examine(&member.spiffe);
        }
        used.retain(|_, last| now.duration_since(*last) < IN_USE);
        let wanted = targets(&view, shard.plane.expected.iter().chain(used.keys()));
        if wanted != warm {
            shard.pool.warm(&wanted.iter().cloned().collect::<Vec<_>>());
            warm = wanted;
        }
    }
}

/// The nodes that offer these services.
fn targets<'a>(view: &View, services: impl Iterator<Item = &'a ServiceName>) -> BTreeSet<Target> {
    services
        .filter_map(|service| view.services.get(service))
        .flat_map(|endpoints| endpoints.iter())
        .map(|endpoint| Target { spiffe: endpoint.spiffe.clone(), address: endpoint.address })
        .take(MOST_TARGETS)
        .collect()
}
