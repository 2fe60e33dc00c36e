//! A transport within this process that asks the machine of `node` which rounds go out, and counts what does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{ChannelTransport, Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use starling_gossip::catalog::{Rounds, wire};
use tokio::time::Instant;

/// A connection that nobody used for so long is closed, as in `node`.
const IDLE: Duration = Duration::from_secs(30);
/// What a handshake of mutual TLS costs each side, in bytes, as in the simulator.
const HANDSHAKE: u64 = 3_000;
/// Bytes of a message in one packet, and of what it costs to send one: its own head, and its share of acknowledgements.
const PACKET: u64 = 1_200;
const OVERHEAD: u64 = 60;

/// Opens sockets.
#[derive(Clone)]
pub(crate) struct Gate {
    round: Duration,
    channels: ChannelTransport,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rounds: Mutex<BTreeMap<SocketAddr, Rounds>>,
    used: Mutex<BTreeMap<(SocketAddr, SocketAddr), Instant>>,
    bytes: AtomicU64,
}

impl Gate {
    /// For nodes that begin rounds every `round`. All are behind at first.
    pub(crate) fn new(round: Duration) -> Self {
        Self { round, channels: ChannelTransport::default(), shared: Arc::default() }
    }

    /// Bytes that all nodes sent so far, with what connections cost.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// All nodes miss something, or none does.
    pub(crate) fn on_behind(&self, behind: bool) {
        self.shared.rounds.lock().unwrap().values_mut().for_each(|rounds| rounds.on_behind(behind));
    }
}

impl Shared {
    fn may_begin(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let mut rounds = self.rounds.lock().unwrap();
        rounds.get_mut(&from).is_some_and(|rounds| rounds.may_begin(to, Instant::now().into_std()))
    }

    fn count(&self, from: SocketAddr, to: SocketAddr, bytes: u64) {
        let now = Instant::now();
        let used = self.used.lock().unwrap().insert((from.min(to), from.max(to)), now);
        let handshake = if used.is_none_or(|used| now - used > IDLE) { 2 * HANDSHAKE } else { 0 };
        let all = bytes + bytes.div_ceil(PACKET) * OVERHEAD + handshake;
        self.bytes.fetch_add(all, Ordering::Relaxed);
    }
}

#[async_trait]
impl Transport for Gate {
    async fn open(&self, at: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        self.shared.rounds.lock().unwrap().insert(at, Rounds::new(self.round));
        let socket = self.channels.open(at).await?;
        Ok(Box::new(Gated { at, socket, shared: Arc::clone(&self.shared) }))
    }
}

struct Gated {
    at: SocketAddr,
    socket: Box<dyn Socket>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Socket for Gated {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let bytes = message.serialize_to_vec();
        if wire::is_syn(&bytes) && !self.shared.may_begin(self.at, to) {
            return Ok(());
        }
        self.shared.count(self.at, to, bytes.len() as u64);
        self.socket.send(to, message).await
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.socket.recv().await
    }
}
