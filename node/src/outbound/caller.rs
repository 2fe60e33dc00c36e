use std::net::SocketAddr;

use starling_proto::ServiceName;
use tokio::net::TcpStream;

use super::Inlet;
use crate::shard::Shard;

/// A program of this host that opened a connection, and the service that it is.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The service that its requests are sent for; `None`: the node itself.
    pub(crate) source: Option<ServiceName>,
    /// Its address; `None` if it has gone already.
    pub(crate) peer: Option<SocketAddr>,
}

impl Caller {
    /// Whoever opened this connection, which came in there.
    pub(crate) fn of(shard: &Shard, stream: &TcpStream, inlet: &Inlet) -> Self {
        let source = inlet.source.clone().or_else(|| shard.plane.attestor.source_of(stream));
        Self { source, peer: stream.peer_addr().ok() }
    }

    /// The path of its service, as the far node is told; empty: the node itself.
    pub(crate) fn source_path(&self) -> &str {
        self.source.as_ref().map_or("", |source| source.path())
    }
}
