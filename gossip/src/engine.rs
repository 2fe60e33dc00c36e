mod admitted;
mod clockwork;
mod inbound;
mod join;
mod notices;
mod outbound;
mod publish;
mod records;
mod renewal;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId, SpiffeId};

use crate::admission::Admission;
use crate::catalog::Catalog;
use crate::contact::Contacts;
use crate::membership::Membership;
use crate::redial::Redials;
use crate::rumour::Rumours;
use crate::{Config, CredentialVerifier, Event, Keyring, Refusal, Rejection, Remembered, SigningKey, Timings, View};
use publish::Publish;
use renewal::Renewal;

/// What happened, for [`Engine::handle`].
#[derive(Debug, Clone)]
pub enum Input {
    /// The time of [`Engine::poll_timeout`] has come.
    Tick,
    /// A datagram arrived on the gossip port.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A peer's state arrived over a mutual-TLS connection. If this node answers with its own, it does so after
    /// this input, so that the answer carries what came of it; unless an [`Output::Refused`] says what to answer.
    Joined {
        /// The name in the peer's TLS certificate.
        peer: SpiffeId,
        /// Its state.
        state: v1::JoinState,
    },
    /// The answer to an [`Output::Resolve`].
    Resolved {
        /// What the other node knows of those asked for.
        members: Vec<v1::MemberState>,
    },
    /// A live QUIC connection to a node exists, or the last one is gone.
    Link {
        /// The node.
        node: NodeId,
        /// Does one exist?
        up: bool,
    },
    /// This node's own load, to be told to others.
    Load(v1::LoadSummary),
    /// Sets one of this node's own catalog records.
    Register {
        /// Its key.
        key: String,
        /// Its encoded record.
        body: Bytes,
    },
    /// Withdraws one of this node's own catalog records.
    Withdraw {
        /// Its key.
        key: String,
    },
    /// A value of the catalog arrived by chitchat.
    Value {
        /// Whose.
        owner: NodeId,
        /// Its key.
        key: String,
        /// An encoded `mesh.v1.SignedValue`.
        value: Bytes,
    },
    /// This node leaves: the outputs tell the others.
    Leave {
        /// Why, for the others' logs.
        reason: String,
    },
}

/// What the driver is to do.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send a datagram from the gossip port.
    Send {
        /// To whom.
        to: SocketAddr,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Ask a member for the credentials of nodes that it named; feed the answer as [`Input::Resolved`].
    Resolve {
        /// Whom to ask.
        ask: NodeId,
        /// Where it accepts QUIC.
        at: SocketAddr,
        /// Of which nodes.
        ids: Vec<NodeId>,
    },
    /// Exchange states with a node over QUIC; feed its state as [`Input::Joined`]. Repeated as long as it is wanted:
    /// a failure needs no answer.
    Dial {
        /// Who should be there, if it is known.
        node: Option<NodeId>,
        /// Where it accepts QUIC.
        at: SocketAddr,
    },
    /// A join was refused: answer the peer with this.
    Refused {
        /// The name in the peer's TLS certificate.
        peer: SpiffeId,
        /// What to answer.
        refusal: Refusal,
    },
    /// Put a value into chitchat under this node.
    Value {
        /// Its key.
        key: String,
        /// An encoded `mesh.v1.SignedValue`.
        value: Bytes,
    },
    /// There is a new view. At most one at a time.
    View(Arc<View>),
    /// Something to log and to count.
    Event(Event),
    /// Persist this, off the hot path.
    Remember(Remembered),
}

/// What was refused or not done, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams, or parts of them, by reason.
    pub rejected: BTreeMap<Rejection, u64>,
    /// Joins and introductions, by [`Refusal::code`].
    pub refused: BTreeMap<&'static str, u64>,
    /// Values of the catalog.
    pub records_rejected: u64,
    /// Values of owners who are not admitted here: most often ones that were down before this node came.
    pub records_unknown: u64,
    /// Packets that were not sent: to nobody known, or too large.
    pub unsent: u64,
    /// Notices that gave way to others before they were told often enough.
    pub notices_dropped: u64,
    /// Errors of the SWIM engine that no peer can cause: each is a bug.
    pub swim_errors: u64,
}

/// What the node knows of itself.
struct Me {
    identity: MemberIdentity,
    spiffe: SpiffeId,
    credential: Bytes,
    signing_key: SigningKey,
    keyring: Keyring,
    zone: Arc<str>,
    version: String,
    shards: u32,
    load: v1::LoadSummary,
    /// Packets sent.
    counter: u64,
    /// Notices written.
    notices: u64,
    rejoin_reserved: u16,
    leaving: bool,
}

impl Me {
    const fn node(&self) -> NodeId {
        self.identity.node_id
    }
}

/// Membership, catalog and view of one node, as one machine without IO.
pub struct Engine {
    me: Me,
    timings: Timings,
    verifier: Box<dyn CredentialVerifier>,
    rng: StdRng,
    admission: Admission,
    contacts: Contacts,
    membership: Membership,
    rumours: Rumours,
    redials: Redials,
    renewal: Renewal,
    catalog: Catalog,
    /// Nodes that were asked after, until when they are not asked after again.
    hints: BTreeMap<NodeId, Instant>,
    links: BTreeSet<NodeId>,
    view: Arc<View>,
    publish: Publish,
    sweep_at: Instant,
    counters: Counters,
    out: Vec<Output>,
}

impl Engine {
    /// A node that knows nobody yet. `rng_seed` must come from the operating system in production: nonces come of it.
    ///
    /// The first [`Input::Tick`] is due at once.
    #[must_use]
    pub fn new(config: Config, verifier: Box<dyn CredentialVerifier>, rng_seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(rng_seed);
        let timings = config.timings;
        let identity = MemberIdentity { node_id: config.signing_key.node_id(), ..config.identity };
        let membership = Membership::new(identity, &timings, StdRng::from_rng(&mut rng));
        let me = Me {
            identity,
            spiffe: config.spiffe,
            credential: config.credential,
            signing_key: config.signing_key,
            keyring: config.keyring,
            zone: config.zone.into(),
            version: config.version,
            shards: config.shards,
            load: v1::LoadSummary::default(),
            counter: 0,
            notices: 0,
            rejoin_reserved: identity.rejoin,
            leaving: false,
        };
        let view = View { version: 0, this: me.node(), members: BTreeMap::new(), services: BTreeMap::new() };
        let mut engine = Self {
            catalog: Catalog::new(me.node(), identity.generation),
            admission: Admission::new(config.member_limit),
            contacts: Contacts::default(),
            rumours: Rumours::new(timings.transmissions, timings.gossip_period),
            redials: Redials::default(),
            renewal: Renewal::default(),
            hints: BTreeMap::new(),
            links: BTreeSet::new(),
            view: Arc::new(view),
            publish: Publish { changed: true, remember_own: true, ..Publish::default() },
            sweep_at: now,
            counters: Counters::default(),
            out: Vec::new(),
            me,
            timings,
            verifier,
            rng,
            membership,
        };
        engine.register_node(now);
        engine.publish_view(now);
        // The driver starts with `view()`.
        engine.out.retain(|output| !matches!(output, Output::View(_)));
        engine
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        match input {
            Input::Tick => self.on_tick(now),
            Input::Datagram { from, bytes } => self.on_datagram(from, &bytes, now),
            Input::Joined { peer, state } => self.on_joined(peer, state, now),
            Input::Resolved { members } => self.on_resolved(members, now),
            Input::Link { node, up } => self.on_link(node, up),
            Input::Load(load) => {
                self.me.load = load;
                self.publish.load_due.get_or_insert(now + self.timings.load_period);
            }
            Input::Register { key, body } => self.register(&key, body, now),
            Input::Withdraw { key } => self.withdraw(&key, now),
            Input::Value { owner, key, value } => self.on_value(owner, &key, &value),
            Input::Leave { reason } => self.on_leave(reason, now),
        }
        self.accuse_failed(now);
        self.sync_states(now);
        self.flush_swim(now);
        self.publish_view(now);
        self.remember_if_due(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout()
    }

    /// What both sides of an admission send: to `receiver`, if it is known who that will be. The driver sets `clock`.
    #[must_use]
    pub fn join_state(&self, receiver: Option<NodeId>) -> v1::JoinState {
        self.state_for(receiver)
    }

    /// Answers a `mesh.v1.Resolve`.
    #[must_use]
    pub fn resolve(&self, ids: &[NodeId]) -> v1::Resolved {
        self.resolve_ids(ids)
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// The node's own identity, as it is now.
    #[must_use]
    pub const fn identity(&self) -> &MemberIdentity {
        &self.me.identity
    }

    /// All values of all nodes.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What was refused or not done, since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            notices_dropped: self.rumours.dropped(),
            swim_errors: self.membership.errors(),
            ..self.counters.clone()
        }
    }

    fn on_link(&mut self, node: NodeId, up: bool) {
        let changed = if up { self.links.insert(node) } else { self.links.remove(&node) };
        self.publish.changed |= changed;
    }

    fn emit(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_can_move_to_the_thread_that_drives_it() {
        fn sendable<T: Send>() {}
        sendable::<Engine>();
    }
}
