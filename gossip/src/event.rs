use std::fmt;
use std::net::SocketAddr;

use starling_proto::{Generation, NodeAddress, NodeId, ServiceName, SpiffeId};

use crate::{Offence, StatementError};

/// Something to log and to count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A member is alive: new, back, or it refuted a suspicion.
    MemberUp {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A probe of a member went unanswered.
    MemberSuspect {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A member is believed dead.
    MemberDown {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A member that is up fails probes of one member after another, and refutes each time: it is left out of routing
    /// while others can serve.
    MemberFlaky {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A member that was flaky has not been accused for a while.
    MemberSteady {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A member left on purpose.
    MemberLeft {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// What it gave as reason.
        reason: String,
    },
    /// A member said that the health of one of its service instances changed.
    HealthChanged {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// The service.
        service: ServiceName,
        /// Which instance of it.
        instance: u32,
        /// Can it serve now?
        healthy: bool,
    },
    /// A member said that it is overloaded, or no longer.
    OverloadChanged {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// How much, 0 to 100.
        overload: u32,
    },
    /// An operator somewhere said that a member which is down will not come back. It counts as left.
    Dismissed {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Whose operator: the node that signed it.
        by: NodeId,
        /// Is it no longer listed at all?
        pruned: bool,
        /// What the operator gave as reason.
        reason: String,
    },
    /// A member that was down or left for long is no longer listed.
    MemberForgotten {
        /// Who.
        node: NodeId,
    },
    /// A member restarted: its generation rose.
    MemberRestarted {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Its new generation.
        generation: Generation,
    },
    /// The states were exchanged with a peer over a connection: it is admitted.
    Joined {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
    },
    /// A peer's join was refused.
    Refused {
        /// The name in its certificate.
        peer: SpiffeId,
        /// Where it says it is.
        at: Option<NodeAddress>,
        /// Why.
        refusal: Refusal,
    },
    /// A datagram, or a part of it, was refused. Nothing else happened.
    Rejected {
        /// Where it came from.
        from: SocketAddr,
        /// Why.
        reason: Rejection,
    },
    /// A member broke a rule, as its own signature or connection shows. Told once a minute of each; all are counted.
    Offender {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Which rule.
        offence: Offence,
        /// How often by now.
        count: u64,
    },
    /// Something that a third party passed on was refused.
    RejectedRecord {
        /// Whose it claimed to be.
        owner: NodeId,
        /// Why.
        reason: String,
    },
    /// Members accuse one of having failed them.
    Accused {
        /// Whom.
        node: NodeId,
        /// By whom this time.
        by: NodeId,
        /// How many accuse this identity of it by now.
        accusers: usize,
    },
    /// Most of the members that were probed last did not answer: this node takes itself for cut off, and declares
    /// nobody down for a while.
    CutOff {
        /// How many are up, as far as it knows, itself included.
        members: usize,
    },
    /// Another's word that a member is down turned out wrong.
    DownDismissed {
        /// Of whom.
        node: NodeId,
        /// Whose word; this node's own identity where it only made sure.
        by: NodeId,
    },
    /// Others took this node for dead, so it renewed its identity.
    Renewed {
        /// The new number.
        rejoin: u16,
    },
    /// Another node runs with this node's key, in a higher generation: a copied identity. The mesh speaks with that one.
    KeyInUse {
        /// Of the other.
        generation: Generation,
        /// Where it is, if that is known.
        address: Option<NodeAddress>,
    },
    /// An administrator's statement about the group keys counts from now on.
    KeysChanged {
        /// Its revision.
        revision: u64,
        /// The epoch that packets are sealed with.
        in_use: u32,
        /// The epochs that are accepted.
        accepted: Vec<u32>,
    },
    /// Group keys that somebody gave were not believed.
    KeysRefused {
        /// Who gave them; `None` for this node's operator.
        from: Option<NodeId>,
        /// Why.
        error: StatementError,
    },
    /// This node's generation was raised, and with it all that it signed.
    GenerationRaised {
        /// Before.
        from: Generation,
        /// Now.
        to: Generation,
        /// Because the mesh remembers a higher one: the clock was set back, and the disk's memory is gone. Else since the
        /// one before had no number left, or was full of withdrawn records.
        remembered: bool,
    },
}

/// Why a join was refused. [`Refusal::code`] goes to the peer with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It speaks a version that this node does not.
    #[error("join state of version {0}; this node speaks version 1")]
    Version(u32),
    /// The state does not hold together.
    #[error("malformed join state: {0}")]
    Malformed(String),
    /// The node dialed itself.
    #[error("this is the node itself")]
    Ourselves,
    /// The credential does not hold.
    #[error("credential: {0}")]
    Credential(String),
    /// The credential is good, but of another node than the one that connected.
    #[error("the credential names {credential}, the connection {connection}")]
    OtherName {
        /// In the credential.
        credential: SpiffeId,
        /// In the TLS certificate.
        connection: SpiffeId,
    },
    /// Another live node has this name with another key.
    #[error("two nodes with one name: {name} is {holder} at {address}; issue each node a name of its own")]
    NameTaken {
        /// The name.
        name: SpiffeId,
        /// Who has it.
        holder: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// The mesh is full.
    #[error("the mesh has {limit} members, which is its limit (gossip.member_limit)")]
    MemberLimit {
        /// The limit.
        limit: usize,
    },
    /// It exchanges states more often than anyone needs.
    #[error("too often; try again in a second")]
    TooOften,
}

impl Refusal {
    /// A stable word for `mesh.v1.ControlError.code`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Malformed(_) => "malformed",
            Self::Ourselves => "self",
            Self::Credential(_) => "credential",
            Self::OtherName { .. } => "other-name",
            Self::NameTaken { .. } => "name-taken",
            Self::MemberLimit { .. } => "member-limit",
            Self::TooOften => "too-often",
        }
    }
}

/// Why a datagram, or a part of it, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// Longer than any packet may be, or shorter than any can be.
    Size,
    /// A version of the envelope that this node does not speak.
    Version,
    /// Sealed with a group key of an epoch that is not accepted.
    Epoch,
    /// Not sealed with the group key: an outsider, or damage.
    Unsealed,
    /// Sealed, but no packet.
    Malformed,
    /// For another node.
    WrongDestination,
    /// Of this node itself: an echo.
    Ourselves,
    /// The sender is not admitted.
    UnknownSender,
    /// Seen before, or too old to tell.
    Replay,
    /// Of a boot of the sender that is over.
    StaleGeneration,
    /// Of a boot of the sender that nothing is known of yet.
    UnknownGeneration,
    /// Of an identity that the sender has given up.
    StaleIdentity,
    /// Not signed by the sender.
    BadSignature,
    /// Not from the address of the identity that signed it.
    WrongSource,
    /// The SWIM part is malformed, or speaks in another's name.
    BadSwim,
    /// The sender has a name that another live node has.
    NameTaken,
    /// The mesh is full.
    MemberLimit,
    /// A notice that is malformed.
    BadNotice,
    /// A notice of an author who is not admitted.
    UnknownAuthor,
    /// A notice that its author did not sign.
    ForgedNotice,
    /// More from its source than is looked into.
    Flood,
}

impl Rejection {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 21] = [
        Self::Size,
        Self::Version,
        Self::Epoch,
        Self::Unsealed,
        Self::Malformed,
        Self::WrongDestination,
        Self::Ourselves,
        Self::UnknownSender,
        Self::Replay,
        Self::StaleGeneration,
        Self::UnknownGeneration,
        Self::StaleIdentity,
        Self::BadSignature,
        Self::WrongSource,
        Self::BadSwim,
        Self::NameTaken,
        Self::MemberLimit,
        Self::BadNotice,
        Self::UnknownAuthor,
        Self::ForgedNotice,
        Self::Flood,
    ];

    /// A stable word, for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Version => "version",
            Self::Epoch => "epoch",
            Self::Unsealed => "unsealed",
            Self::Malformed => "malformed",
            Self::WrongDestination => "wrong-destination",
            Self::Ourselves => "self",
            Self::UnknownSender => "unknown-sender",
            Self::Replay => "replay",
            Self::StaleGeneration => "stale-generation",
            Self::UnknownGeneration => "unknown-generation",
            Self::StaleIdentity => "stale-identity",
            Self::BadSignature => "bad-signature",
            Self::WrongSource => "wrong-source",
            Self::BadSwim => "bad-swim",
            Self::NameTaken => "name-taken",
            Self::MemberLimit => "member-limit",
            Self::BadNotice => "bad-notice",
            Self::UnknownAuthor => "unknown-author",
            Self::ForgedNotice => "forged-notice",
            Self::Flood => "flood",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
