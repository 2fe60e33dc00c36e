//! Whose own values are others than we hold for too long: it is asked for them directly.
//!
//! Chitchat lets whoever is asked first decide what is missing: a member that leaves out another's values would hide them
//! behind the highest version that it did send. The hash of its own values, in every packet that the owner signs, shows
//! that; and nobody but the owner answers this.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use starling_proto::NodeId;

/// A difference that lasts so long is no news under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// One node is asked at most this often.
const PAUSE: Duration = Duration::from_mins(1);

/// Since when whose values differ.
#[derive(Debug, Default)]
pub(super) struct Resync {
    since: BTreeMap<NodeId, Instant>,
    asked: BTreeMap<NodeId, Instant>,
}

impl Resync {
    /// Whom to ask now, given whose values differ now: the one that waits longest.
    pub(super) fn poll(&mut self, differing: &[(NodeId, SocketAddr)], now: Instant) -> Option<(NodeId, SocketAddr)> {
        self.since.retain(|node, _| differing.iter().any(|(other, _)| other == node));
        self.asked.retain(|_, asked| now.duration_since(*asked) < PAUSE);
        for (node, _) in differing {
            self.since.entry(*node).or_insert(now);
        }
        let ripe = differing.iter().filter(|(node, _)| !self.asked.contains_key(node));
        let (node, at) = ripe.min_by_key(|(node, _)| self.since[node])?;
        if now.duration_since(self.since[node]) < PATIENCE {
            return None;
        }
        self.asked.insert(*node, now);
        Some((*node, *at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_asked_once_its_values_differed_for_long_and_then_not_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let at = SocketAddr::from(([10, 0, 0, 1], 1));
        let (one, two) = ((NodeId::from_bytes([1; 16]), at), (NodeId::from_bytes([2; 16]), at));
        let mut resync = Resync::default();
        assert_eq!(resync.poll(&[one], start), None);
        assert_eq!(resync.poll(&[one, two], after(5)), None);
        assert_eq!(resync.poll(&[one, two], after(10)), Some(one));
        assert_eq!(resync.poll(&[one, two], after(11)), None);
        assert_eq!(resync.poll(&[one, two], after(15)), Some(two));
        assert_eq!(resync.poll(&[one, two], after(69)), None);
        assert_eq!(resync.poll(&[one, two], after(70)), Some(one));
    }

    #[test]
    fn a_difference_that_passed_starts_anew() {
        let start = Instant::now();
        let one = (NodeId::from_bytes([1; 16]), SocketAddr::from(([10, 0, 0, 1], 1)));
        let mut resync = Resync::default();
        assert_eq!(resync.poll(&[one], start), None);
        assert_eq!(resync.poll(&[], start + Duration::from_secs(5)), None);
        assert_eq!(resync.poll(&[one], start + Duration::from_secs(12)), None);
    }
}
