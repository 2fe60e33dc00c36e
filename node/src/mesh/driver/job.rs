use std::net::SocketAddr;
use std::time::Instant;

use starling_gossip::{HeldKey, KeyReport, Sought};
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId, ServiceName, SpiffeId};
use tokio::sync::oneshot;

use crate::mesh::catalog::Incoming;
use crate::mesh::seed::Seed;
use crate::mesh::{ChangeKeysError, Status};

/// How a join went: our own state if it was asked for, or what the peer is told.
pub(in crate::mesh) type JoinOutcome = Result<Option<Box<v1::JoinState>>, v1::ControlError>;

/// How this node stands with some members.
pub(in crate::mesh) struct Heard {
    /// When a gossip datagram of each came last, in the order in which they were asked for.
    pub(in crate::mesh) last: Vec<Option<Instant>>,
    /// The group keys that this node opens, the one that it seals with first.
    pub(in crate::mesh) keys: Vec<HeldKey>,
    /// What this node is.
    pub(in crate::mesh) own: MemberIdentity,
}

/// What others want of the driver.
pub(in crate::mesh) enum Job {
    Register(v1::ServiceRecord),
    Withdraw {
        service: ServiceName,
        instance: u32,
    },
    GoAway {
        reason: String,
        done: oneshot::Sender<()>,
    },
    Leave {
        reason: String,
        done: oneshot::Sender<()>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    /// Our state, for a peer that we dialed.
    State {
        receiver: Option<NodeId>,
        reply: oneshot::Sender<v1::JoinState>,
    },
    /// A peer's state arrived. `answer`: it wants ours.
    Joined {
        peer: SpiffeId,
        state: Box<v1::JoinState>,
        answer: bool,
        reply: oneshot::Sender<JoinOutcome>,
    },
    JoinDone {
        at: SocketAddr,
    },
    SeedDone {
        seed: Seed,
        sought: Sought,
    },
    Resolve {
        ids: Vec<NodeId>,
        reply: oneshot::Sender<v1::Resolved>,
    },
    Resolved {
        members: Vec<v1::MemberState>,
    },
    Pull {
        pull: v1::Pull,
        reply: oneshot::Sender<v1::Pulled>,
    },
    Pulled {
        owner: NodeId,
        values: Vec<v1::SignedValue>,
    },
    /// A peer asks whether this node is there.
    Ping {
        from: Option<NodeId>,
        ping: v1::Ping,
        reply: oneshot::Sender<v1::Pong>,
    },
    /// What came of a ping that the engine wanted.
    Pong {
        node: NodeId,
        pong: Option<v1::Pong>,
    },
    /// Sends members a datagram that says nothing.
    Nudge {
        nodes: Vec<NodeId>,
    },
    /// When members were heard last, and the epochs of the group key that this node opens.
    Heard {
        nodes: Vec<NodeId>,
        reply: oneshot::Sender<Heard>,
    },
    /// A local instance is (not) healthy.
    Health {
        service: ServiceName,
        instance: u32,
        healthy: bool,
    },
    /// The operator says that a member will not come back.
    Dismiss {
        node: NodeId,
        prune: bool,
        reason: String,
        done: oneshot::Sender<()>,
    },
    /// Group keys of a peer. `reply`: it wants ours.
    Keys {
        peer: SpiffeId,
        state: v1::KeyringState,
        reply: Option<oneshot::Sender<v1::KeyringState>>,
    },
    /// Who has which group keys.
    KeyReport {
        reply: oneshot::Sender<KeyReport>,
    },
    /// The operator brings what an administrator signed.
    ChangeKeys {
        state: v1::KeyringState,
        reply: oneshot::Sender<Result<(), ChangeKeysError>>,
    },
    Chitchat(Incoming),
}
