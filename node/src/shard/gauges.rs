//! What a shard holds open now, for metrics: that all of it goes back when its load does shows that nothing leaks.

use std::sync::Arc;

use metrics::gauge;
use tokio::runtime::Handle;

use super::Shard;

/// Has a shard's numbers published whenever somebody asks. To be called on its thread; `places` is what it began with.
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn publish(shard: &Arc<Shard>, index: usize, places: usize) {
    let (runtime, weak) = (Handle::current(), Arc::downgrade(shard));
    shard.plane.telemetry.on_render(move || {
        let Some(shard) = weak.upgrade() else { return };
        let label = index.to_string();
        gauge!("starling_shard_tasks", "shard" => label.clone()).set(runtime.metrics().num_alive_tasks() as f64);
        let taken = places.saturating_sub(shard.places.available_permits());
        gauge!("starling_local_connections", "shard" => label).set(taken as f64);
        gauge!("starling_in_flight").set(f64::from(shard.plane.offers.in_flight()));
    });
}
