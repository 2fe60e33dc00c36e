use std::net::SocketAddr;

use starling_proto::ServiceName;
use tokio::net::TcpStream;

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
    /// Whoever opened this connection.
    pub(crate) fn of(shard: &Shard, stream: &TcpStream) -> Self {
        Self { source: shard.plane.source.clone(), peer: stream.peer_addr().ok() }
    }

    /// The path of its service, as the far node is told; empty: the node itself.
    pub(crate) fn source_path(&self) -> &str {
        self.source.as_ref().map_or("", |source| source.path())
    }
}
