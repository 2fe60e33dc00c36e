//! A long path between two nodes: what one sends the other arrives half a round trip later, in order.
//!
//! It stands where each node says that it is reached (`mesh.advertise`), with the ports of one, and to each it looks as if the other were
//! there: gossip counts only from the address that its sender names.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::relay_tcp;

pub(super) const GOSSIP: u16 = 7946;
pub(super) const HOP: u16 = 7947;
/// What is sent here comes back, by the same path.
pub(super) const ECHO: u16 = 7948;
/// Datagrams, or reads of TCP, that one direction of one client's path holds.
pub(super) const MOST_UNDER_WAY: usize = 2_048;
/// Sockets that send through one port, at a time and ever: two agents have a handful.
const MOST_CLIENTS: usize = 256;
const LARGEST_DATAGRAM: usize = 65_536;

/// The path, and what it carried. It ends with the runtime that it was started on.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) delay: Duration,
    /// Where the calling node is reached, and the serving one.
    pub(super) fronts: [Ipv4Addr; 2],
    /// Where they are.
    pub(super) nodes: [Ipv4Addr; 2],
    pub(super) carried: Arc<Carried>,
}

/// The way to one node, for what the other dials, and back.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) delay: Duration,
    pub(super) at: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    /// Where it seems to come from.
    seeming: Ipv4Addr,
    pub(super) carried: Arc<Carried>,
    quic: Choose,
    pub(super) tcp: Choose,
}

/// What was passed on.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) gossip: Passed,
    /// Over what the calling node dialed.
    pub(super) quic: Passed,
    pub(super) tcp: Passed,
    /// Over what the serving node dialed.
    other: Passed,
    echo: Passed,
    /// Datagrams that no room was left for, on any port.
    pub(super) dropped: AtomicU64,
}

/// Datagrams, or reads of TCP.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) towards: AtomicU64,
    pub(super) back: AtomicU64,
}

/// Which of them counts a port's datagrams.
pub(super) type Choose = fn(&Carried) -> &Passed;

impl Relay {
    /// Takes the ports and passes on what comes there.
    pub(super) async fn start(self) -> io::Result<()> {
        let Self { delay, fronts: [caller, server], nodes, carried } = &self;
        let path = |at, to, seeming, quic, tcp| {
            let carried = Arc::clone(carried);
            Path { delay: *delay, at, to, seeming, carried, quic, tcp }
        };
        path(*server, nodes[1], *caller, |all| &all.quic, |all| &all.tcp).start().await?;
        path(*caller, nodes[0], *server, |all| &all.other, |all| &all.other).start().await?;
        let fronts = [*caller, *server].map(|front| UdpSocket::bind((front, GOSSIP)));
        let [caller, server] = fronts;
        let (caller, server) = (Arc::new(caller.await?), Arc::new(server.await?));
        self.gossip(&server, &caller, 1, |all| &all.gossip.towards);
        self.gossip(&caller, &server, 0, |all| &all.gossip.back);
        let echo = UdpSocket::bind((self.nodes[1], ECHO)).await?;
        tokio::spawn(async move {
            let mut block = [0; 64];
            while let Ok((length, from)) = echo.recv_from(&mut block).await {
                let _ = echo.send_to(&block[..length], from).await;
            }
        });
        Ok(())
    }

    /// Passes on gossip to one node. It is sent from one socket to another, so the far front is what it seems to come from.
    fn gossip(&self, front: &Arc<UdpSocket>, out: &Arc<UdpSocket>, to: usize, count: fn(&Carried) -> &AtomicU64) {
        let (sender, node) = (SocketAddr::from((self.nodes[1 - to], GOSSIP)), (self.nodes[to], GOSSIP));
        let (front, out) = (Arc::clone(front), Arc::clone(out));
        let (queue, mut queued) = mpsc::channel::<(Instant, Bytes)>(MOST_UNDER_WAY);
        let (delay, carried) = (self.delay, Arc::clone(&self.carried));
        tokio::spawn(async move {
            let mut block = vec![0; LARGEST_DATAGRAM];
            loop {
                let Ok((length, from)) = front.recv_from(&mut block).await else { continue };
                let datagram = (Instant::now() + delay, Bytes::copy_from_slice(&block[..length]));
                if from != sender || queue.try_send(datagram).is_err() {
                    carried.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let carried = Arc::clone(&self.carried);
        tokio::spawn(async move {
            while let Some((due, datagram)) = queued.recv().await {
                sleep_until(due).await;
                if out.send_to(&datagram, node).await.is_ok() {
                    count(&carried).fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
}

impl Path {
    async fn start(self) -> io::Result<()> {
        for (port, choose) in [(HOP, self.quic), (ECHO, (|all| &all.echo) as Choose)] {
            let front = Arc::new(UdpSocket::bind((self.at, port)).await?);
            tokio::spawn(self.clone().carry(front, port, choose));
        }
        relay_tcp::start(self).await
    }

    /// Carries what comes at one port, with a socket towards the node for each client.
    async fn carry(self, front: Arc<UdpSocket>, port: u16, choose: Choose) {
        let mut clients: BTreeMap<SocketAddr, mpsc::Sender<(Instant, Bytes)>> = BTreeMap::new();
        let mut block = vec![0; LARGEST_DATAGRAM];
        loop {
            // An error is the echo of one that was sent before (ICMP): whoever sent it is gone.
            let Ok((length, from)) = front.recv_from(&mut block).await else { continue };
            let due = Instant::now() + self.delay;
            if !clients.contains_key(&from) && clients.len() < MOST_CLIENTS {
                let Ok(path) = self.open(&front, port, from, choose).await else { continue };
                clients.insert(from, path);
            }
            let sent = clients.get(&from).map(|path| path.try_send((due, Bytes::copy_from_slice(&block[..length]))));
            if !matches!(sent, Some(Ok(()))) {
                self.carried.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The path of one client, both ways.
    async fn open(
        &self,
        front: &Arc<UdpSocket>,
        port: u16,
        client: SocketAddr,
        choose: Choose,
    ) -> io::Result<mpsc::Sender<(Instant, Bytes)>> {
        let upstream = UdpSocket::bind((self.seeming, 0)).await?;
        upstream.connect((self.to, port)).await?;
        let upstream = Arc::new(upstream);
        let (towards, mut queue) = mpsc::channel::<(Instant, Bytes)>(MOST_UNDER_WAY);
        let (out, carried) = (Arc::clone(&upstream), Arc::clone(&self.carried));
        tokio::spawn(async move {
            while let Some((due, datagram)) = queue.recv().await {
                sleep_until(due).await;
                if out.send(&datagram).await.is_ok() {
                    choose(&carried).towards.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let (back, mut queue) = mpsc::channel::<(Instant, Bytes)>(MOST_UNDER_WAY);
        let (out, carried) = (Arc::clone(front), Arc::clone(&self.carried));
        tokio::spawn(async move {
            while let Some((due, datagram)) = queue.recv().await {
                sleep_until(due).await;
                if out.send_to(&datagram, client).await.is_ok() {
                    choose(&carried).back.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        tokio::spawn(self.clone().carry_back(upstream, back));
        Ok(towards)
    }

    async fn carry_back(self, upstream: Arc<UdpSocket>, back: mpsc::Sender<(Instant, Bytes)>) {
        let mut block = vec![0; LARGEST_DATAGRAM];
        loop {
            let Ok(length) = upstream.recv(&mut block).await else { continue };
            let due = Instant::now() + self.delay;
            if back.try_send((due, Bytes::copy_from_slice(&block[..length]))).is_err() {
                self.carried.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
