//! What the mesh driver counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::troubles::Troubles;

/// A label's value is logged at most once in this time: a peer's input never fills the log.
const LOG_PAUSE: Duration = Duration::from_mins(1);

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start, shared by the driver's tasks.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            refused: Mutex<BTreeMap<(&'static str, &'static str), Refused>>,
            /// What an operator should see to.
            pub(super) troubles: Troubles,
        }

        /// A snapshot of what the mesh driver counted since its start.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// What peers sent and was refused: by where (`datagram`, `join`, `chitchat`, `record`, `control`) and reason.
            pub refused: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Counts {
                let mut refused: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
                for ((place, reason), entry) in self.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    refused.entry(*place).or_default().insert(*reason, entry.count);
                }
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* refused }
            }
        }
    };
}

numbers! {
    /// Datagrams that arrived on the gossip port.
    datagrams_received,
    /// Their bytes.
    bytes_received,
    /// Datagrams sent from the gossip port.
    datagrams_sent,
    /// Their bytes.
    bytes_sent,
    /// Datagrams that the operating system did not take.
    datagrams_unsent,
    /// Dials of control connections.
    dials,
    /// Dials that gave no connection.
    dials_failed,
    /// Dials that were not made, since too many were under way.
    dials_dropped,
    /// States exchanged with a peer, by either side.
    joins,
    /// Control streams of peers that were answered.
    control_requests,
    /// Control streams of peers that failed or took too long.
    control_failed,
    /// Chitchat messages of peers that passed the check.
    chitchat_received,
    /// Chitchat messages sent.
    chitchat_sent,
    /// Chitchat messages lost because a queue was full or nobody could be reached.
    chitchat_dropped,
    /// Rounds of chitchat that were not begun, since nothing was missing here.
    chitchat_rounds_saved,
    /// Parts of chitchat messages that were left out: of nodes not admitted here, or nothing new.
    chitchat_skipped,
    /// Values of the catalog that were new.
    values,
    /// Values pulled: from their owner, since its catalog and ours differed for long, or from whoever announced them.
    pulls,
    /// Pulls that were not made, since too many were under way.
    pulls_dropped,
    /// Peers that said they drain.
    go_aways,
    /// Writes to the data directory that failed.
    unwritten,
    /// Commands and reports lost because the driver's queue was full.
    inputs_dropped,
}

#[derive(Debug, Default)]
struct Refused {
    count: u64,
    logged: Option<Instant>,
}

/// Adds one.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn add_bytes_received(&self, len: usize) {
        self.bytes_received.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(super) fn add_bytes_sent(&self, len: usize) {
        self.bytes_sent.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Counts something of a peer that was refused and that honest nodes send too, now and then.
    pub(super) fn refuse_quietly(&self, place: &'static str, reason: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry((place, reason)).or_default().count += 1;
    }

    /// Counts something that a peer sent and that was refused, and names it in the log now and then.
    pub(super) fn refuse(&self, place: &'static str, reason: &'static str, detail: &dyn std::fmt::Display) {
        let now = Instant::now();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = refused.entry((place, reason)).or_default();
        entry.count += 1;
        let count = entry.count;
        let silent = entry.logged.is_some_and(|logged| now - logged < LOG_PAUSE);
        if !silent {
            entry.logged = Some(now);
        }
        drop(refused);
        if silent {
            tracing::debug!(place, reason, %detail, "refused");
        } else {
            tracing::warn!(place, reason, count, %detail, "refused (counted; named at most once a minute)");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_counted_by_place_and_reason() {
        let counters = Counters::default();
        counters.refuse("datagram", "replay", &"10.0.0.1:1");
        counters.refuse("datagram", "replay", &"10.0.0.1:1");
        counters.refuse("join", "version", &"a");
        add(&counters.joins);
        let counts = counters.snapshot();
        assert_eq!(counts.refused["datagram"]["replay"], 2);
        assert_eq!((counts.refused["join"]["version"], counts.joins), (1, 1));
    }
}
