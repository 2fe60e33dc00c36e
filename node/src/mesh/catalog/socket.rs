//! Chitchat's transport: queues towards the control streams, and the check of whatever comes in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use starling_gossip::catalog::wire::{self, Context, ReplicaId};
use starling_proto::SpiffeId;
use tokio::sync::mpsc;

use super::replica::Held;
use super::{SharedChitchat, add_many, beat};
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

struct Wire {
    this: ReplicaId,
    cluster: String,
    roster: SharedRoster,
    counters: Arc<Counters>,
    chitchat: SharedChitchat,
    outbox: mpsc::Sender<Outgoing>,
    inbox: mpsc::Receiver<Incoming>,
    started: Instant,
}

impl Opener {
    pub(super) fn new(
        this: ReplicaId,
        cluster: String,
        roster: SharedRoster,
        counters: Arc<Counters>,
        outbox: mpsc::Sender<Outgoing>,
        inbox: mpsc::Receiver<Incoming>,
    ) -> Self {
        let chitchat = SharedChitchat::default();
        let shared = Arc::clone(&chitchat);
        let wire = Wire { this, cluster, roster, counters, chitchat, outbox, inbox, started: Instant::now() };
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
        if self.outbox.try_send(Outgoing { to, bytes: message.serialize_to_vec() }).is_err() {
            add(&self.counters.chitchat_dropped);
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let Some(incoming) = self.inbox.recv().await else { return std::future::pending().await };
            if let Some(message) = self.check(&incoming).await {
                add(&self.counters.chitchat_received);
                return Ok((incoming.from, message));
            }
        }
    }
}

impl Wire {
    async fn check(&self, incoming: &Incoming) -> Option<ChitchatMessage> {
        let chitchat = self.chitchat.get().and_then(Weak::upgrade)?;
        // Free but for moments: nobody holds it while waiting for anything else.
        let chitchat = chitchat.lock().await;
        let roster = self.roster.load();
        let context = Context {
            this: &self.this,
            cluster: &self.cluster,
            admission: &**roster,
            replica: &Held(&chitchat),
            beat: beat(self.started),
        };
        let checked = match wire::check(&incoming.bytes, &context) {
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
