use std::net::SocketAddr;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{NodeId, ServiceName, SpiffeId};

/// What happened, for [`Engine::handle`](crate::Engine::handle).
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "it is handed over once and never kept")]
pub enum Input {
    /// An own service instance is (not) healthy from now on: told to all at once, and written into its record.
    Health {
        /// The service, registered before.
        service: ServiceName,
        /// Which instance.
        instance: u32,
        /// Can it serve?
        healthy: bool,
    },
    /// An operator says that a member which is down will not come back. Nothing is done of one that is up.
    Dismiss {
        /// Whom.
        node: NodeId,
        /// Not even list it any more.
        prune: bool,
        /// Why, for logs.
        reason: String,
    },
    /// Send a member a datagram that says nothing, so that it can tell whether it hears this node.
    Nudge {
        /// Whom.
        node: NodeId,
    },
    /// The time of [`Engine::poll_timeout`](crate::Engine::poll_timeout) has come.
    Tick,
    /// A datagram arrived on the gossip port.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A peer's state arrived over a mutual-TLS connection. If this node answers with its own, it does so after
    /// this input, so that the answer carries what came of it; unless an [`Output::Refused`](crate::Output::Refused) says what to answer.
    Joined {
        /// The name in the peer's TLS certificate.
        peer: SpiffeId,
        /// Its state.
        state: v1::JoinState,
    },
    /// The answer to an [`Output::Resolve`](crate::Output::Resolve).
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
    /// The answer to an [`Output::Ping`](crate::Output::Ping), or `None` if there was none: nobody was reached, or in
    /// time. Its driver knows by the certificate of the connection that `node` gave it.
    Pong {
        /// Who was asked.
        node: NodeId,
        /// What it said.
        pong: Option<v1::Pong>,
    },
    /// A member asks over a mutual-TLS connection whether this node is there. The driver answers with
    /// [`Engine::pong`](crate::Engine::pong) after this input.
    Pinged {
        /// Who.
        from: NodeId,
        /// What it asked.
        ping: v1::Ping,
    },
    /// Group keys arrived: over a mutual-TLS connection, as an answer to an
    /// [`Output::ExchangeKeys`](crate::Output::ExchangeKeys) or a request of the same kind, or from this node's operator.
    Keys {
        /// Which member's they are; `None` for the operator's.
        from: Option<NodeId>,
        /// What it has.
        state: v1::KeyringState,
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
