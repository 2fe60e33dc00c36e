use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use starling_proto::NodeId;
use starling_proto::mesh::v1;

/// The most notices that are passed on at a time. Above it, of those of the author who has most of them the one that was
/// told most gives way: whoever writes many drowns itself and nobody else.
const MAX_RUMOURS: usize = 256;
/// An accusation is told so often by each node: the first few of one member say all the same, so that no single one has to
/// reach everybody (of an epidemic that each tells three others, 94 of 100 hear).
const ACCUSATIONS: u8 = 3;
/// And so many of them ride on one packet: when many members die at once, all of them are accused at once.
const ACCUSATIONS_AT_ONCE: usize = 2;

/// Notices that are still to be passed on: each rides on a number of packets. Authors take turns, each with what was
/// told least.
#[derive(Debug)]
pub(crate) struct Rumours {
    waiting: Vec<Rumour>,
    transmissions: u8,
    period: Duration,
    round: Option<Instant>,
    /// When the last one was, or the last packets that came to the same.
    last: Option<Instant>,
    dropped: u64,
}

#[derive(Debug)]
struct Rumour {
    notice: v1::Notice,
    /// Bytes it takes in a packet.
    size: usize,
    left: u8,
    /// The member that it accuses.
    accused: Option<NodeId>,
    /// How many of its author come before it.
    turn: usize,
}

impl Rumours {
    pub(crate) const fn new(transmissions: u8, period: Duration) -> Self {
        Self { waiting: Vec::new(), transmissions, period, round: None, last: None, dropped: 0 }
    }

    /// Passes a notice on from now.
    pub(crate) fn add(&mut self, notice: v1::Notice, now: Instant) {
        self.push(notice, None, now);
    }

    /// Passes an accusation on from now, until [`Self::drop_accusations`].
    pub(crate) fn add_accusation(&mut self, notice: v1::Notice, accused: NodeId, now: Instant) {
        self.push(notice, Some(accused), now);
    }

    /// What was said against this member is of no use any more.
    pub(crate) fn drop_accusations(&mut self, of: NodeId) {
        self.waiting.retain(|rumour| rumour.accused != Some(of));
        self.rest_if_empty();
    }

    fn push(&mut self, notice: v1::Notice, accused: Option<NodeId>, now: Instant) {
        if self.waiting.len() >= MAX_RUMOURS {
            self.drop_one();
        }
        let len = notice.encoded_len();
        // A tag of one byte and a length of at most two.
        let most = if accused.is_some() { ACCUSATIONS } else { u8::MAX };
        let left = self.transmissions.clamp(1, most);
        self.waiting.push(Rumour { notice, size: len + 3, left, accused, turn: 0 });
        let earliest = self.last.map_or(now, |last| now.max(last + self.period));
        self.round.get_or_insert(earliest);
    }

    /// Drops what was told most of the author who has most.
    fn drop_one(&mut self) {
        let mut counts: BTreeMap<&Bytes, usize> = BTreeMap::new();
        for rumour in &self.waiting {
            *counts.entry(&rumour.notice.author).or_default() += 1;
        }
        let Some(most) = counts.into_iter().max_by_key(|(_, count)| *count).map(|(author, _)| author) else { return };
        let of_it = self.waiting.iter().enumerate().filter(|(_, rumour)| rumour.notice.author == *most);
        if let Some(at) = of_it.min_by_key(|(_, rumour)| rumour.left).map(|(at, _)| at) {
            self.waiting.swap_remove(at);
            self.dropped += 1;
        }
    }

    /// Orders by turn: the least told one of each author, then the next of each.
    fn take_turns(&mut self) {
        self.waiting.sort_by_key(|rumour| Reverse(rumour.left));
        let mut turns: BTreeMap<Bytes, usize> = BTreeMap::new();
        for rumour in &mut self.waiting {
            let turn = turns.entry(rumour.notice.author.clone()).or_default();
            rumour.turn = *turn;
            *turn += 1;
        }
        self.waiting.sort_by_key(|rumour| (rumour.turn, Reverse(rumour.left)));
    }

    /// What fits into `room` bytes of a packet; it counts as told.
    pub(crate) fn take(&mut self, mut room: usize) -> Vec<v1::Notice> {
        let mut told = Vec::new();
        if self.waiting.iter().all(|rumour| rumour.size > room) {
            return told;
        }
        self.take_turns();
        let mut accusations = 0;
        for rumour in &mut self.waiting {
            let fits = rumour.accused.is_none() || accusations < ACCUSATIONS_AT_ONCE;
            if rumour.size <= room && fits {
                accusations += usize::from(rumour.accused.is_some());
                room -= rumour.size;
                rumour.left -= 1;
                told.push(rumour.notice.clone());
            }
        }
        self.waiting.retain(|rumour| rumour.left > 0);
        self.rest_if_empty();
        told
    }

    fn rest_if_empty(&mut self) {
        if self.waiting.is_empty() {
            self.round = None;
        }
    }

    /// When packets should go out for the sake of notices alone.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.round
    }

    /// Is it time for packets for the sake of notices alone? Sets the time of the next round.
    pub(crate) fn round_due(&mut self, now: Instant) -> bool {
        let due = self.round.is_some_and(|at| at <= now);
        if due {
            self.put_off(now);
        }
        due
    }

    /// Packets of another kind just went out to as many members, with what fits: no round is due before its time.
    pub(crate) fn put_off(&mut self, now: Instant) {
        self.last = Some(now);
        if let Some(round) = &mut self.round {
            *round = now + self.period;
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notices that gave way to others before they were told often enough.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn notice(seq: u64, body: usize) -> v1::Notice {
        v1::Notice { seq, body: vec![0; body].into(), ..Default::default() }
    }

    fn seqs(notices: &[v1::Notice]) -> Vec<u64> {
        notices.iter().map(|notice| notice.seq).collect()
    }

    #[test]
    fn a_notice_is_told_a_number_of_times_then_dropped() {
        let now = Instant::now();
        let mut rumours = Rumours::new(2, Duration::from_millis(200));
        rumours.add(notice(1, 10), now);
        assert_eq!(seqs(&rumours.take(1_000)), [1]);
        assert!(!rumours.is_empty());
        assert_eq!(seqs(&rumours.take(1_000)), [1]);
        assert!(rumours.is_empty());
        assert_eq!(rumours.next(), None);
    }

    #[test]
    fn the_least_told_go_first_and_what_does_not_fit_waits() {
        let now = Instant::now();
        let mut rumours = Rumours::new(3, Duration::from_millis(200));
        rumours.add(notice(1, 100), now);
        assert_eq!(seqs(&rumours.take(120)), [1]);
        rumours.add(notice(2, 100), now);
        assert_eq!(seqs(&rumours.take(120)), [2]);
        assert_eq!(seqs(&rumours.take(20)), [0; 0]);
        assert_eq!(rumours.take(1_000).len(), 2);
    }

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_drops() {
        let now = Instant::now();
        let mut rumours = Rumours::new(3, Duration::from_millis(200));
        for seq in 0..300 {
            rumours.add(notice(seq, 1), now);
        }
        assert_eq!(rumours.waiting.len(), MAX_RUMOURS);
        assert_eq!(rumours.dropped(), 300 - MAX_RUMOURS as u64);
    }

    #[test]
    fn one_who_writes_many_drowns_nobody_else() {
        let now = Instant::now();
        let by = |author: &'static [u8], seq| v1::Notice { author: Bytes::from_static(author), ..notice(seq, 1) };
        let mut rumours = Rumours::new(3, Duration::from_millis(200));
        for seq in 1_000..1_010 {
            rumours.add(by(b"honest", seq), now);
        }
        rumours.add(by(b"other", 2_000), now);
        for seq in 0..10_000 {
            rumours.add(by(b"flood", seq), now);
        }
        let mut told: BTreeMap<u64, usize> = BTreeMap::new();
        for round in 0..60 {
            // Fresh ones all the time, and room for three.
            rumours.add(by(b"flood", 20_000 + round), now);
            for notice in rumours.take(40) {
                *told.entry(notice.seq).or_default() += 1;
            }
        }
        assert!(rumours.waiting.len() <= MAX_RUMOURS);
        for seq in (1_000..1_010).chain([2_000]) {
            assert_eq!(told.get(&seq), Some(&3), "{seq} was told as often as it should be");
        }
    }

    #[test]
    fn an_accusation_is_told_less_often_and_not_once_it_is_settled() {
        let now = Instant::now();
        let (one, other) = (NodeId::of_key(b"one"), NodeId::of_key(b"other"));
        let mut rumours = Rumours::new(12, Duration::from_millis(200));
        rumours.add_accusation(notice(1, 10), one, now);
        rumours.add_accusation(notice(2, 10), other, now);
        rumours.add(notice(3, 10), now);
        assert_eq!(rumours.take(1_000).len(), 3);
        rumours.drop_accusations(one);
        let rest: Vec<_> = (0..12).map(|_| rumours.take(1_000).len()).collect();
        assert_eq!(rest, [2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
        rumours.add_accusation(notice(4, 10), one, now);
        rumours.drop_accusations(one);
        assert_eq!(rumours.next(), None);
        // Of many, two go with a packet.
        for seq in 5..10 {
            rumours.add_accusation(notice(seq, 10), other, now);
        }
        assert_eq!(rumours.take(1_000).len(), 2);
    }

    #[test]
    fn rounds_come_at_their_period_while_there_is_something_to_tell() {
        let now = Instant::now();
        let period = Duration::from_millis(200);
        let mut rumours = Rumours::new(1, period);
        assert!(!rumours.round_due(now));
        rumours.add(notice(1, 1), now);
        assert!(rumours.round_due(now));
        assert!(!rumours.round_due(now));
        assert_eq!(rumours.next(), Some(now + period));
        let later = now + Duration::from_millis(150);
        rumours.put_off(later);
        assert_eq!(rumours.next(), Some(later + period));
        // Nor does news that comes to an empty queue make one before its time.
        rumours.take(1_000);
        rumours.add(notice(2, 1), later);
        assert_eq!(rumours.next(), Some(later + period));
    }
}
