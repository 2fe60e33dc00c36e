use std::time::Duration;

use bytes::Bytes;
use starling_proto::{MemberIdentity, SpiffeId};

use crate::{Keyring, Lifeguard, SigningKey};

/// What an [`Engine`](crate::Engine) needs to know of its node.
#[derive(Debug)]
pub struct Config {
    /// The node's own identity. Its `node_id` is derived anew from `signing_key`.
    pub identity: MemberIdentity,
    /// The name in the node's certificate.
    pub spiffe: SpiffeId,
    /// The node's own encoded `mesh.v1.Credential`: what others check its key by.
    pub credential: Bytes,
    /// The long-lived gossip key.
    pub signing_key: SigningKey,
    /// The mesh's group key, by epochs.
    pub keyring: Keyring,
    /// Members that the mesh may have, this node included; the next one is refused.
    pub member_limit: usize,
    /// Where the node stands; empty if it does not say.
    pub zone: String,
    /// Version of the software, as others shall see it.
    pub version: String,
    /// Shards of the data plane.
    pub shards: u32,
    /// How often and how long.
    pub timings: Timings,
    /// How this node doubts what it sees. On in every mesh.
    pub lifeguard: Lifeguard,
}

/// How often and how long. The default is for a LAN (gossip.md, Defaults).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// One member is probed each period.
    pub probe_period: Duration,
    /// A direct answer is awaited this long before others are asked to try.
    pub probe_rtt: Duration,
    /// How many others are asked.
    pub indirect_probes: u8,
    /// A suspect has at least this long to refute, however many confirm the suspicion.
    pub suspicion_min: Duration,
    /// And this long while nobody confirms it. Both are multiplied by this node's own health.
    pub suspicion_max: Duration,
    /// Updates and notices leave at this rate while there are any.
    pub gossip_period: Duration,
    /// To how many members at a time.
    pub gossip_fanout: u8,
    /// How often each update or notice is passed on by one node: memberlist's 4 * ceil(log10(n + 1)) at 500.
    pub transmissions: u8,
    /// One random member is asked for members it knows each period: repairs what gossip missed.
    pub announce_period: Duration,
    /// A member believed down is dialed at this rate at first: a host is to be back in service within 3 s.
    pub redial_first: Duration,
    /// How long it is dialed at that rate.
    pub redial_first_for: Duration,
    /// And at this rate after that.
    pub redial_later: Duration,
    /// A member that is down or left is forgotten after this.
    pub forget_after: Duration,
    /// The node renews its identity at most once in this time.
    pub renewal_gap: Duration,
    /// A load summary alone makes a new `View` at most this often.
    pub load_period: Duration,
    /// What is to be persisted is emitted at most this often, but for the node's own generation.
    pub remember_gap: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(500),
            probe_rtt: Duration::from_millis(150),
            indirect_probes: 3,
            suspicion_min: Duration::from_millis(1_200),
            suspicion_max: Duration::from_secs(7),
            gossip_period: Duration::from_millis(200),
            gossip_fanout: 3,
            transmissions: 12,
            announce_period: Duration::from_mins(1),
            redial_first: Duration::from_secs(1),
            redial_first_for: Duration::from_mins(1),
            redial_later: Duration::from_secs(10),
            forget_after: Duration::from_hours(24),
            renewal_gap: Duration::from_secs(10),
            load_period: Duration::from_secs(1),
            remember_gap: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The default of `member_limit`.
    pub const MEMBER_LIMIT: usize = 500;
}
