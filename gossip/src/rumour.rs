use std::time::{Duration, Instant};

use prost::Message;
use starling_proto::mesh::v1;

/// The most notices that are passed on at a time; above it the one that was passed on most gives way.
const MAX_RUMOURS: usize = 256;

/// Notices that are still to be passed on: each rides on a number of packets, the least told ones first.
#[derive(Debug)]
pub(crate) struct Rumours {
    waiting: Vec<Rumour>,
    transmissions: u8,
    period: Duration,
    round: Option<Instant>,
    dropped: u64,
}

#[derive(Debug)]
struct Rumour {
    notice: v1::Notice,
    /// Bytes it takes in a packet.
    size: usize,
    left: u8,
}

impl Rumours {
    pub(crate) const fn new(transmissions: u8, period: Duration) -> Self {
        Self { waiting: Vec::new(), transmissions, period, round: None, dropped: 0 }
    }

    /// Passes a notice on from now.
    pub(crate) fn add(&mut self, notice: v1::Notice, now: Instant) {
        if self.waiting.len() >= MAX_RUMOURS {
            let told = self.waiting.iter().enumerate().min_by_key(|(_, rumour)| rumour.left).map(|(at, _)| at);
            if let Some(at) = told {
                self.waiting.swap_remove(at);
                self.dropped += 1;
            }
        }
        let len = notice.encoded_len();
        // A tag of one byte and a length of at most two.
        self.waiting.push(Rumour { notice, size: len + 3, left: self.transmissions.max(1) });
        self.round.get_or_insert(now);
    }

    /// What fits into `room` bytes of a packet; it counts as told.
    pub(crate) fn take(&mut self, mut room: usize) -> Vec<v1::Notice> {
        self.waiting.sort_by_key(|rumour| std::cmp::Reverse(rumour.left));
        let mut told = Vec::new();
        for rumour in &mut self.waiting {
            if rumour.size <= room {
                room -= rumour.size;
                rumour.left -= 1;
                told.push(rumour.notice.clone());
            }
        }
        self.waiting.retain(|rumour| rumour.left > 0);
        if self.waiting.is_empty() {
            self.round = None;
        }
        told
    }

    /// When packets should go out for the sake of notices alone.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.round
    }

    /// Is it time for packets for the sake of notices alone? Sets the time of the next round.
    pub(crate) fn round_due(&mut self, now: Instant) -> bool {
        let due = self.round.is_some_and(|at| at <= now);
        if due {
            self.round = Some(now + self.period);
        }
        due
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
    fn rounds_come_at_their_period_while_there_is_something_to_tell() {
        let now = Instant::now();
        let period = Duration::from_millis(200);
        let mut rumours = Rumours::new(1, period);
        assert!(!rumours.round_due(now));
        rumours.add(notice(1, 1), now);
        assert!(rumours.round_due(now));
        assert!(!rumours.round_due(now));
        assert_eq!(rumours.next(), Some(now + period));
    }
}
