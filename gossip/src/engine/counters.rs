use std::collections::BTreeMap;

use crate::Rejection;

/// What was refused or not done, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams, or parts of them, by reason.
    pub rejected: BTreeMap<Rejection, u64>,
    /// Joins and introductions, by [`crate::Refusal::code`].
    pub refused: BTreeMap<&'static str, u64>,
    /// Values of the catalog.
    pub records_rejected: u64,
    /// Values of owners who are not admitted here: most often ones that were down before this node came.
    pub records_unknown: u64,
    /// Exchanges of group keys that this node asked for.
    pub key_exchanges: u64,
    /// Packets that were not sent: to nobody known, or too large.
    pub unsent: u64,
    /// Notices that gave way to others before they were told often enough.
    pub notices_dropped: u64,
    /// Errors of the SWIM engine that no peer can cause: each is a bug.
    pub swim_errors: u64,
    /// How probing and suspecting went.
    pub liveness: Liveness,
}

/// How probing and suspecting went, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Liveness {
    /// Probes of members.
    pub probes: u64,
    /// Probes that nobody answered in any way.
    pub probes_failed: u64,
    /// Times that another member was asked to probe for this node.
    pub indirect_probes: u64,
    /// Pings over QUIC, as the last resort of a probe.
    pub stream_pings: u64,
    /// Suspicions begun, by own probes that failed.
    pub suspicions: u64,
    /// Suspicions of this node that it refuted.
    pub refutations: u64,
    /// Members that this node found down, nobody having said so before.
    pub downs: u64,
    /// Words of others that a member is down, which were not believed at once.
    pub downs_withheld: u64,
    /// Of these, those that turned out wrong.
    pub downs_dismissed: u64,
    /// Members back from down without a new identity, since they proved that they live.
    pub revivals: u64,
    /// Times that this node took itself for cut off, and held its timers.
    pub holds: u64,
    /// Times that this node ran late, and gave its timers that much more.
    pub stalls: u64,
    /// Times that a member was found flaky: up, and yet accused by one after another.
    pub flaky: u64,
    /// The local health multiplier now: 0 is healthy, [`MAX_HEALTH`](crate::MAX_HEALTH) is worst.
    pub health: u8,
}
