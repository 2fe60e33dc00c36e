//! UDP from local programs: a flow for each of their sockets.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use starling_proto::ServiceName;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::tcp::{self, Tunnel};
use super::{Caller, Destination};
use crate::datagrams;
use crate::relay::Counts;
use crate::shard::Shard;
use crate::telemetry::DroppedDatagram;

/// Datagrams of one flow that wait for its stream. More are dropped, as a router would.
const QUEUE: usize = 128;
/// A pause after an error of the socket, so that it never becomes a busy loop.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// A local address that leads to a service of datagrams.
pub(crate) struct UdpWay {
    pub(crate) destination: Destination,
    /// Whoever sends here speaks for this service.
    pub(crate) source: Option<ServiceName>,
    pub(crate) socket: UdpSocket,
    flows: Mutex<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
}

impl UdpWay {
    /// # Errors
    /// If the runtime cannot take the socket.
    pub(crate) fn new(
        socket: std::net::UdpSocket,
        destination: Destination,
        source: Option<ServiceName>,
    ) -> io::Result<Self> {
        Ok(Self { destination, source, socket: UdpSocket::from_std(socket)?, flows: Mutex::default() })
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<Bytes>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what local programs send to `way`, until the node drains.
pub(crate) async fn serve(shard: Arc<Shard>, way: Arc<UdpWay>) {
    let mut drain = shard.plane.drain.clone();
    loop {
        let received = tokio::select! {
            received = datagrams::next_of(&way.socket, |room| way.socket.try_recv_from(room)) => received,
            () = drain.started() => return,
        };
        match received {
            Ok((datagram, peer)) => take(&shard, &way, peer, datagram),
            Err(error) => {
                // What a program does not take any more comes back as an error of the next call.
                tracing::trace!(%error, "a socket of datagrams");
                if error.kind() != io::ErrorKind::ConnectionRefused {
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }
}

fn take(shard: &Arc<Shard>, way: &Arc<UdpWay>, peer: SocketAddr, datagram: Bytes) {
    let mut flows = way.flows();
    if let Some(flow) = flows.get(&peer) {
        if let Err(mpsc::error::TrySendError::Full(_)) = flow.try_send(datagram) {
            shard.plane.telemetry.on_dropped(DroppedDatagram::QueueFull, 1);
        }
        return;
    }
    if flows.len() >= shard.plane.limits.flows {
        return shard.plane.telemetry.on_dropped(DroppedDatagram::TooManyFlows, 1);
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    let _ = sender.try_send(datagram);
    flows.insert(peer, sender);
    let (shard, way) = (Arc::clone(shard), Arc::clone(way));
    tokio::spawn(async move {
        let source = way.source.clone().or_else(|| shard.plane.attestor.only());
        let caller = Caller { source, peer: Some(peer) };
        match Box::pin(tcp::open_udp(&shard, &caller, &way.destination)).await {
            Ok(tunnel) => carry(&shard, &way, peer, tunnel, receiver).await,
            Err((mut record, failure)) => {
                shard.plane.telemetry.on_dropped(DroppedDatagram::NoService, 1);
                record.fail(&failure);
            }
        }
        way.flows().remove(&peer);
    });
}

/// Carries the datagrams of one flow both ways.
async fn carry(shard: &Shard, way: &UdpWay, peer: SocketAddr, tunnel: Tunnel, queue: mpsc::Receiver<Bytes>) {
    let Tunnel { send, recv, mut record, holding: _holding, .. } = tunnel;
    let counts = Arc::<Counts>::default();
    record.on_switched(&counts);
    let ends = (Queue(queue), Program { socket: &way.socket, peer });
    record.on_carried(datagrams::carry(&shard.plane, &counts, ends, (send, recv)).await);
}

/// What one local socket sends.
struct Queue(mpsc::Receiver<Bytes>);

impl datagrams::Source for Queue {
    async fn next(&mut self) -> Bytes {
        match self.0.recv().await {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }
}

/// Where its answers go.
struct Program<'s> {
    socket: &'s UdpSocket,
    peer: SocketAddr,
}

impl datagrams::Sink for Program<'_> {
    async fn deliver(&mut self, datagram: Bytes) {
        // A program that takes no more of them is not told twice.
        let _ = self.socket.send_to(&datagram, self.peer).await;
    }
}
