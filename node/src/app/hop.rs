//! What connections between nodes run over: for `starling status`, metrics, and the log.

use std::sync::Arc;

use starling_transport::{ByTcp, Carrier, Tls};
use tokio::sync::watch;

use crate::admin::HopReport;

pub(super) fn report(tls: &Tls) -> HopReport {
    let open = |carrier: Carrier| (carrier.to_string(), tls.census().of(carrier));
    HopReport { connections: Carrier::ALL.map(open).into(), by_tcp: by_tcp(tls) }
}

/// Names of the nodes that are reached over TCP only.
pub(super) fn by_tcp(tls: &Tls) -> Vec<String> {
    let mut names: Vec<String> = tls.paths().by_tcp().values().map(|peer| peer.node().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[allow(clippy::cast_precision_loss, reason = "counts of connections")]
pub(super) fn publish(tls: &Tls) {
    for carrier in Carrier::ALL {
        metrics::gauge!("starling_hop_connections", "carrier" => carrier.as_str()).set(tls.census().of(carrier) as f64);
    }
    metrics::gauge!("starling_hop_peers_by_tcp").set(by_tcp(tls).len() as f64);
}

/// Says in the log which peers UDP does not reach, and which it reaches again. Runs until the node ends.
pub(super) async fn follow(mut paths: watch::Receiver<Arc<ByTcp>>) {
    let mut known = ByTcp::new();
    while paths.changed().await.is_ok() {
        let now = Arc::clone(&paths.borrow_and_update());
        for (address, peer) in now.iter().filter(|(address, _)| !known.contains_key(address)) {
            tracing::warn!(%peer, %address, "peer is reached over TCP only: UDP does not pass, or is slow");
        }
        for (address, peer) in known.iter().filter(|(address, _)| !now.contains_key(address)) {
            tracing::info!(%peer, %address, "peer is reached over QUIC again");
        }
        known.clone_from(&now);
    }
}
