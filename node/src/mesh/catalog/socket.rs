//! Chitchat's transport: queues towards the control streams, and the check of whatever comes in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use starling_gossip::catalog::wire::{self, Admission, Context, Replica, ReplicaId};
use starling_proto::SpiffeId;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::replica::Held;
use super::{SharedChitchat, SharedRounds, add_many, beat};
use crate::mesh::counters::{Counters, add};
use crate::mesh::roster::SharedRoster;

/// Messages of peers that wait for their check: a few rounds of everyone who may speak at once.
pub(in crate::mesh) const INBOX: usize = 64;
/// Messages that wait for a stream.
pub(in crate::mesh) const OUTBOX: usize = 128;

/// A message of an admitted peer, as it came.
#[derive(Debug)]
pub(in crate::mesh) struct Incoming {
    /// The name in the certificate of the connection it came on.
    pub(in crate::mesh) peer: SpiffeId,
    /// Where that peer accepts QUIC: the answer goes there.
    pub(in crate::mesh) from: SocketAddr,
    pub(in crate::mesh) bytes: Bytes,
}

/// A message for a peer.
#[derive(Debug)]
pub(in crate::mesh) struct Outgoing {
    pub(in crate::mesh) to: SocketAddr,
    pub(in crate::mesh) bytes: Vec<u8>,
}

/// Opens the one socket of a chitchat.
pub(super) struct Opener(Mutex<Option<Wire>>, SharedChitchat);

/// What a socket needs to know of its node.
pub(super) struct Wiring {
    pub(super) this: ReplicaId,
    pub(super) cluster: String,
    pub(super) roster: SharedRoster,
    pub(super) round: Duration,
    pub(super) rounds: SharedRounds,
}

struct Wire {
    wiring: Wiring,
    counters: Arc<Counters>,
    chitchat: SharedChitchat,
    outbox: mpsc::Sender<Outgoing>,
    inbox: mpsc::Receiver<Incoming>,
    started: Instant,
    beats: Interval,
}

impl Opener {
    pub(super) fn new(
        wiring: Wiring,
        counters: Arc<Counters>,
        outbox: mpsc::Sender<Outgoing>,
        inbox: mpsc::Receiver<Incoming>,
    ) -> Self {
        let chitchat = SharedChitchat::default();
        let shared = Arc::clone(&chitchat);
        // Heartbeats count seconds.
        let mut beats = tokio::time::interval(wiring.round.max(Duration::from_secs(1)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wire = Wire { wiring, counters, chitchat, outbox, inbox, started: Instant::now(), beats };
        Self(Mutex::new(Some(wire)), shared)
    }

    /// Where the running chitchat is put, once there is one.
    pub(super) fn chitchat(&self) -> SharedChitchat {
        Arc::clone(&self.1)
    }
}

#[async_trait]
impl Transport for Opener {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let wire = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(wire.ok_or_else(|| anyhow::anyhow!("opened twice"))?))
    }
}

#[async_trait]
impl Socket for Wire {
    /// Only queues: a peer that does not read must not hold up the rounds with the others.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let bytes = message.serialize_to_vec();
        if to == self.wiring.this.address {
            // The answer to our own heartbeats.
            return Ok(());
        }
        if wire::is_syn(&bytes) && !self.wiring.rounds.lock().may_begin(to, Instant::now()) {
            add(&self.counters.chitchat_rounds_saved);
            return Ok(());
        }
        if self.outbox.try_send(Outgoing { to, bytes }).is_err() {
            add(&self.counters.chitchat_dropped);
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let incoming = tokio::select! {
                incoming = self.inbox.recv() => incoming,
                _ = self.beats.tick() => match self.beat().await {
                    Some(message) => return Ok((self.wiring.this.address, message)),
                    None => continue,
                },
            };
            let Some(incoming) = incoming else { return std::future::pending().await };
            if let Some(message) = self.check(&incoming).await {
                add(&self.counters.chitchat_received);
                return Ok((incoming.from, message));
            }
        }
    }
}

impl Wire {
    /// The heartbeats of those who are alive by foca. Chitchat hears them here, whether there are rounds or not.
    async fn beat(&self) -> Option<ChitchatMessage> {
        let chitchat = self.chitchat.get().and_then(Weak::upgrade)?;
        let chitchat = chitchat.lock().await;
        let roster = self.wiring.roster.load();
        let replica = Held(&chitchat);
        let alive = roster.alive.iter().filter_map(|(node, address)| {
            let generation = roster.admitted(*node)?.generation.0.into();
            Some(ReplicaId { node: *node, generation, address: *address })
        });
        let held = alive.chain([self.wiring.this]).map(|id| (id, replica.max_version(&id).unwrap_or(0)));
        let syn = wire::syn(&self.wiring.cluster, held.collect());
        let checked = wire::check(&syn, &self.context(&**roster, &replica)).ok()?;
        ChitchatMessage::deserialize(&mut &checked.bytes[..]).ok()
    }

    fn context<'a>(&'a self, admission: &'a dyn Admission, replica: &'a dyn Replica) -> Context<'a> {
        let Wiring { this, cluster, .. } = &self.wiring;
        Context { this, cluster, admission, replica, beat: beat(self.started) }
    }

    async fn check(&self, incoming: &Incoming) -> Option<ChitchatMessage> {
        let chitchat = self.chitchat.get().and_then(Weak::upgrade)?;
        // Free but for moments: nobody holds it while waiting for anything else.
        let chitchat = chitchat.lock().await;
        let roster = self.wiring.roster.load();
        let replica = Held(&chitchat);
        let checked = match wire::check(&incoming.bytes, &self.context(&**roster, &replica)) {
            Ok(checked) => checked,
            Err(error) => {
                let detail = format!("{error} (from {} at {})", incoming.peer, incoming.from);
                self.counters.refuse("chitchat", error.reason(), &detail);
                return None;
            }
        };
        let skipped = &checked.skipped;
        add_many(&self.counters.chitchat_skipped, u64::from(skipped.unknown + skipped.stale + skipped.own));
        for owner in &skipped.full {
            let detail = format!("values of {} (from {})", owner.short(), incoming.peer);
            self.counters.refuse("chitchat", "full", &detail);
        }
        // What the checker wrote always decodes.
        ChitchatMessage::deserialize(&mut &checked.bytes[..]).ok()
    }
}
