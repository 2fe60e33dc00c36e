//! UDP from local programs: a flow for each of their sockets, over a stream of the hop.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use starling_proto::ServiceName;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::tcp::{self, Tunnel};
use super::{Caller, Destination};
use crate::datagrams::{self, Reader};
use crate::failure::Failure;
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
    let mut room = BytesMut::new();
    loop {
        room.reserve(datagrams::MAX);
        let received = tokio::select! {
            received = way.socket.recv_buf_from(&mut room) => received,
            () = drain.started() => return,
        };
        match received {
            Ok((_, peer)) => take(&shard, &way, peer, room.split().freeze()),
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
            shard.plane.telemetry.on_dropped(DroppedDatagram::QueueFull);
        }
        return;
    }
    if flows.len() >= shard.plane.limits.flows {
        return shard.plane.telemetry.on_dropped(DroppedDatagram::TooManyFlows);
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
                shard.plane.telemetry.on_dropped(DroppedDatagram::NoService);
                record.fail(&failure);
            }
        }
        way.flows().remove(&peer);
    });
}

/// Carries the datagrams of one flow both ways, until none came for a while.
async fn carry(shard: &Shard, way: &UdpWay, peer: SocketAddr, tunnel: Tunnel, mut queue: mpsc::Receiver<Bytes>) {
    let Tunnel { mut send, mut recv, mut record, .. } = tunnel;
    let counts = Arc::<Counts>::default();
    record.on_switched(&counts);
    let mut reader = Reader::default();
    let patience = shard.plane.limits.flow_timeout;
    let mut until = Instant::now() + patience;
    loop {
        tokio::select! {
            Some(datagram) = queue.recv() => {
                counts.sent.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                if let Err(error) = datagrams::send(&mut send, &datagram).await {
                    return record.fail(&error.into());
                }
            }
            received = reader.next(&mut recv) => match received {
                Ok(Some(datagram)) => {
                    counts.received.fetch_add(datagram.len() as u64, Ordering::Relaxed);
                    // A program that takes no more of them is not told twice.
                    let _ = way.socket.send_to(&datagram, peer).await;
                }
                Ok(None) => return record.on_done(),
                Err(error) => return record.fail(&Failure::from(error)),
            },
            () = tokio::time::sleep_until(until) => {
                let _ = send.finish();
                return record.on_done();
            }
        }
        until = Instant::now() + patience;
    }
}
