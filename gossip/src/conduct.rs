//! How a member behaves: what it may do how often, and which rules it broke that nobody else can have broken for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::allowance::{Allowance, Rate};

/// Datagrams from one member's address that are looked into. In a mesh of 500 a member gets some tens a second of all
/// others together.
const DATAGRAMS: Rate = Rate { burst: 1_024, each: Duration::from_millis(4) };
/// Notices of one author that are passed on. It may offer 256 services at once.
const NOTICES: Rate = Rate { burst: 320, each: Duration::from_millis(200) };
/// Members that it says will not come back: a rack at once, too few to make a mesh forget a site.
const DISMISSALS: Rate = Rate { burst: 32, each: Duration::from_secs(2) };
/// An offender is named at most this often.
const NAMED: Rate = Rate { burst: 1, each: Duration::from_mins(1) };

/// A rule that a member broke, as its own signature or connection shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// A datagram that it signed and that is none, or that speaks in another's name.
    Datagram,
    /// It passed on a notice that its author did not write.
    ForgedNotice,
    /// It signed a notice that says nothing, or speaks in another's name.
    Notice,
    /// More notices of its own than anyone needs.
    NoticeFlood,
    /// It dismisses more others than anyone needs.
    DismissalFlood,
    /// It signed a record that is none, or more of them than it may.
    Record,
    /// It offers a service that its certificate does not name.
    ServiceNotNamed,
    /// It exchanges states more often than anyone needs.
    JoinFlood,
    /// A state with more records than anyone can have.
    RecordFlood,
    /// It named nodes, or identities of nodes, that never answered, again and again.
    Phantoms,
    /// It gave a statement about the group keys that nobody signed, or a key that is not the one signed for.
    ForgedKeys,
    /// It brings group keys more often than anyone needs.
    KeyFlood,
}

impl Offence {
    /// A stable word, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::ForgedNotice => "forged-notice",
            Self::Notice => "notice",
            Self::NoticeFlood => "notice-flood",
            Self::DismissalFlood => "dismissal-flood",
            Self::Record => "record",
            Self::ServiceNotNamed => "service-not-named",
            Self::JoinFlood => "join-flood",
            Self::RecordFlood => "record-flood",
            Self::Phantoms => "phantoms",
            Self::ForgedKeys => "forged-keys",
            Self::KeyFlood => "key-flood",
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is held of one member's behaviour.
#[derive(Debug, Default)]
pub(crate) struct Conduct {
    datagrams: Allowance,
    notices: Allowance,
    dismissals: Allowance,
    named: Allowance,
    offences: BTreeMap<Offence, u64>,
}

impl Conduct {
    /// May a datagram from its address be looked into?
    pub(crate) fn take_datagram(&mut self, now: Instant) -> bool {
        self.datagrams.take(DATAGRAMS, now)
    }

    /// May a notice of its own be passed on?
    pub(crate) fn take_notice(&mut self, now: Instant) -> bool {
        self.notices.take(NOTICES, now)
    }

    /// Does one more dismissal by it count?
    pub(crate) fn take_dismissal(&mut self, now: Instant) -> bool {
        self.dismissals.take(DISMISSALS, now)
    }

    /// Counts an offence. True if it is time to name the offender.
    pub(crate) fn blame(&mut self, offence: Offence, now: Instant) -> bool {
        *self.offences.entry(offence).or_default() += 1;
        self.named.take(NAMED, now)
    }

    pub(crate) const fn offences(&self) -> &BTreeMap<Offence, u64> {
        &self.offences
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn an_offender_is_named_once_a_minute_and_counted_each_time() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        let named = [0, 1, 59, 60, 61].map(|at| conduct.blame(Offence::Record, start + Duration::from_secs(at)));
        assert_eq!(named, [true, false, false, true, false]);
        assert_eq!(conduct.offences()[&Offence::Record], 5);
    }
}
