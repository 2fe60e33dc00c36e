//! Connections to what is not of the mesh: carried on to where they were going, as if the node were not there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::config::Unknown;
use crate::dial::{self, Dialed};
use crate::netns::Netns;
use crate::shard::Shard;

/// What became of connections to what is not of the mesh: `starling_passed_connections_total{result}`.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    through: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    looped: AtomicU64,
}

impl Passed {
    /// How often the node's own connections came back to it.
    pub(crate) fn looped(&self) -> u64 {
        self.looped.load(Ordering::Relaxed)
    }

    /// Publishes the counts by the macros of `metrics`.
    pub(crate) fn publish(&self) {
        for (result, count) in
            [("passed", &self.through), ("refused", &self.refused), ("failed", &self.failed), ("looped", &self.looped)]
        {
            let count = count.load(Ordering::Relaxed);
            metrics::counter!("starling_passed_connections_total", "result" => result).absolute(count);
        }
    }
}

/// Why a connection does not go on.
#[derive(Debug)]
pub(super) enum NotPassed {
    /// `capture.unknown` says so.
    Forbidden,
    /// The far end, or the way to it.
    Failed(io::Error),
}

/// Connects to the first of these that accepts.
pub(super) async fn connect(
    shard: &Shard,
    addresses: &[SocketAddr],
    within: Option<&Arc<Netns>>,
) -> Result<Dialed, NotPassed> {
    let counts = &shard.plane.passed;
    if shard.plane.unknown == Unknown::Refuse {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return Err(NotPassed::Forbidden);
    }
    let mut failure = io::Error::from(io::ErrorKind::HostUnreachable);
    for address in addresses {
        match dial::beyond(*address, within).await {
            Ok(dialed) => {
                counts.through.fetch_add(1, Ordering::Relaxed);
                return Ok(dialed);
            }
            Err(error) => failure = error,
        }
    }
    counts.failed.fetch_add(1, Ordering::Relaxed);
    Err(NotPassed::Failed(failure))
}

/// Carries a captured connection on. If it cannot be, the connection is reset: TCP has no other word for it.
pub(super) async fn serve(shard: &Shard, stream: TcpStream, to: SocketAddr, within: Option<&Arc<Netns>>) {
    let came_back = within.is_none() && stream.peer_addr().is_ok_and(dial::is_own);
    // Whoever connects to the port itself was not redirected, and was going nowhere else.
    let direct = stream.local_addr().is_ok_and(|local| local == to);
    if came_back || direct {
        if came_back && shard.plane.passed.looped.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(
                %to,
                "the redirect catches this node's own connections: install it anew with `--agent-user USER`, the user \
                 that the agent runs as, or give the agent CAP_NET_ADMIN"
            );
        }
        return reset(&stream);
    }
    match connect(shard, &[to], within).await {
        Ok(dialed) => carry(shard, stream, dialed).await,
        Err(NotPassed::Forbidden) => reset(&stream),
        Err(NotPassed::Failed(error)) => {
            tracing::debug!(%to, %error, "a connection beyond the mesh failed");
            reset(&stream);
        }
    }
}

/// Carries bytes both ways until both ends have said that they are done, each direction closed on its own; if one breaks off, so
/// does the other.
pub(super) async fn carry(shard: &Shard, mut stream: TcpStream, mut dialed: Dialed) {
    let _holding = shard.plane.drain.hold();
    if tokio::io::copy_bidirectional(&mut stream, &mut dialed.stream).await.is_err() {
        reset(&stream);
        reset(&dialed.stream);
    }
}

/// Makes the close of a connection an RST.
pub(super) fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
