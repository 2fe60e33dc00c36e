//! When to start a round of chitchat ahead of its time, and with whom.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::seq::IteratorRandom;
use starling_proto::NodeId;

/// In a mesh with at most so many others, each of them is told of a change at once.
const FEW: usize = 7;
/// In a larger one, so many; they tell the next.
const FANOUT: usize = 3;
/// Changes that come together travel together.
const GATHER: Duration = Duration::from_millis(10);
/// Two pushes of one node are at least this far apart.
const PAUSE: Duration = Duration::from_millis(100);

/// Rounds that are wanted.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    newcomers: BTreeSet<SocketAddr>,
    change: bool,
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Pushes {
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    fn want(&mut self, gather: Duration, now: Instant) {
        let earliest = self.last.map_or(now, |last| last + PAUSE);
        let due = earliest.max(now + gather);
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// One of our own values is new.
    pub(super) fn on_own_change(&mut self, now: Instant) {
        self.change = true;
        self.want(GATHER, now);
    }

    /// Somebody is new here, or back.
    pub(super) fn on_newcomer(&mut self, at: SocketAddr, now: Instant) {
        if self.newcomers.len() <= FEW {
            self.newcomers.insert(at);
            self.want(PAUSE, now);
        }
    }

    /// With whom to start a round now.
    pub(super) fn poll(
        &mut self,
        alive: &[(NodeId, SocketAddr)],
        rng: &mut impl rand::Rng,
        now: Instant,
    ) -> BTreeSet<SocketAddr> {
        if self.due.is_none_or(|due| due > now) {
            return BTreeSet::new();
        }
        self.due = None;
        self.last = Some(now);
        let mut targets = std::mem::take(&mut self.newcomers);
        if alive.len() > FEW {
            // Each packet tells a newcomer whether it has all, and it asks. Else a mesh that starts would make as many
            // connections as it has pairs.
            targets.clear();
        }
        if std::mem::take(&mut self.change) {
            let others = alive.iter().map(|(_, at)| *at);
            let count = if alive.len() <= FEW { alive.len() } else { FANOUT };
            targets.extend(others.sample(rng, count));
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn others(count: u8) -> Vec<(NodeId, SocketAddr)> {
        (1..=count).map(|n| (NodeId::from_bytes([n; 16]), SocketAddr::from(([10, 0, 0, n], 1)))).collect()
    }

    #[test]
    fn a_change_goes_to_everyone_in_a_small_mesh_and_to_three_in_a_large_one() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        for (count, told) in [(0, 0), (4, 4), (7, 7), (8, 3), (100, 3)] {
            let mut pushes = Pushes::default();
            pushes.on_own_change(now);
            assert_eq!(pushes.poll(&others(count), &mut rng, now).len(), 0, "changes are gathered");
            let due = pushes.poll_timeout().unwrap();
            assert_eq!(pushes.poll(&others(count), &mut rng, due).len(), told, "{count}");
            assert_eq!(pushes.poll_timeout(), None);
        }
    }

    #[test]
    fn pushes_keep_a_pause() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut pushes = Pushes::default();
        pushes.on_own_change(start);
        pushes.poll(&others(8), &mut rng, start + GATHER);
        pushes.on_own_change(start + GATHER);
        assert_eq!(pushes.poll_timeout(), Some(start + GATHER + PAUSE));
    }

    #[test]
    fn a_newcomer_is_told_alone_and_asks_where_there_are_many() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        for (count, told) in [(1, 1), (7, 1), (8, 0)] {
            let mut pushes = Pushes::default();
            pushes.on_newcomer(others(1)[0].1, now);
            assert_eq!(pushes.poll(&others(count), &mut rng, now + GATHER).len(), 0, "it may be one of many");
            let due = pushes.poll_timeout().unwrap();
            assert_eq!(pushes.poll(&others(count), &mut rng, due).len(), told, "{count}");
        }
    }
}
