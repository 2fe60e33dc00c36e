//! Connections of the world outside the mesh.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{Caller, Way, http1, http2, tcp};
use crate::ingress::{Ingress, To, Visit};
use crate::rejected::Rejected;
use crate::shard::Shard;
use crate::wire::Wire;

/// Serves one connection that came to `ingress`.
pub(super) async fn serve(shard: Arc<Shard>, stream: TcpStream, ingress: Arc<Ingress>, caller: Caller) {
    let peer = caller.peer.map(|peer| peer.ip());
    let visit = Visit { ingress: Arc::clone(&ingress), peer };
    let (wire, is_http2) = match &ingress.tls {
        None => (Wire::from(stream), false),
        Some(tls) => match tokio::time::timeout(shard.plane.limits.header_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.is_http2();
                (Wire::from(stream), is_http2)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, ?peer, "a client's TLS handshake came to nothing");
                return shard.plane.telemetry.on_rejected(Rejected::Tls);
            }
            Err(_) => return shard.plane.telemetry.on_rejected(Rejected::SlowHead),
        },
    };
    match &ingress.to {
        To::Service(destination) => tcp::serve(shard, wire, Bytes::new(), destination.clone(), caller).await,
        To::Routes(_) if is_http2 => {
            let way = Way::Ingress(visit);
            http2::serve_wire(shard, wire, Bytes::new(), way, caller).await;
        }
        To::Routes(_) => http1::serve(shard, wire, Bytes::new(), Way::Ingress(visit), caller).await,
    }
}
