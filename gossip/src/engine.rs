use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{NodeId, SpiffeId};

use crate::{Config, CredentialVerifier, Event, Refusal, Remembered, View};

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

/// Membership, catalog and view of one node, as one machine without IO.
pub struct Engine {
    config: Config,
    view: Arc<View>,
    #[allow(dead_code)]
    verifier: Box<dyn CredentialVerifier>,
}

impl Engine {
    /// A node that knows nobody yet. `rng_seed` must come from the operating system in production.
    #[must_use]
    pub fn new(config: Config, verifier: Box<dyn CredentialVerifier>, rng_seed: [u8; 32], now: Instant) -> Self {
        let _ = (rng_seed, now);
        let view = Arc::new(View {
            version: 0,
            this: config.signing_key.node_id(),
            members: std::collections::BTreeMap::new(),
            services: std::collections::BTreeMap::new(),
        });
        Self { config, view, verifier }
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        let _ = (input, now);
        Vec::new()
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What both sides of an admission send. The driver sets `clock`.
    #[must_use]
    pub fn join_state(&self, receiver: Option<NodeId>) -> v1::JoinState {
        let _ = (receiver, &self.config);
        v1::JoinState::default()
    }

    /// Answers a `mesh.v1.Resolve`.
    #[must_use]
    pub fn resolve(&self, ids: &[NodeId]) -> v1::Resolved {
        let _ = ids;
        v1::Resolved::default()
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }
}
