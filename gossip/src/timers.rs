use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is to happen when, in order of time; at one time in order of rank, then of arrival.
#[derive(Debug)]
pub(crate) struct TimerQueue<T> {
    entries: BTreeMap<(Instant, u8, u64), T>,
    arrivals: u64,
}

impl<T> TimerQueue<T> {
    pub(crate) const fn new() -> Self {
        Self { entries: BTreeMap::new(), arrivals: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, rank: u8, entry: T) {
        self.arrivals += 1;
        self.entries.insert((at, rank, self.arrivals), entry);
    }

    /// When the next entry is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.keys().next().map(|(at, ..)| *at)
    }

    /// The next entry that is due by now.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Everything is due so much later.
    pub(crate) fn shift(&mut self, by: Duration) {
        let entries = std::mem::take(&mut self.entries);
        self.entries =
            entries.into_iter().map(|((at, rank, arrival), entry)| ((at + by, rank, arrival), entry)).collect();
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn entries_come_out_in_order_of_time_then_rank_then_arrival() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = TimerQueue::new();
        for (ms, rank, name) in [(20, 0, "d"), (10, 1, "b"), (10, 0, "a"), (10, 1, "c"), (30, 0, "e")] {
            queue.push(at(ms), rank, name);
        }
        assert_eq!(queue.next(), Some(at(10)));
        let due: String = std::iter::from_fn(|| queue.pop_due(at(20))).collect();
        assert_eq!(due, "abcd");
        assert_eq!(queue.next(), Some(at(30)));
        queue.shift(Duration::from_millis(5));
        assert_eq!((queue.next(), queue.pop_due(at(34)), queue.next()), (Some(at(35)), None, Some(at(35))));
        queue.clear();
        assert_eq!(queue.next(), None);
    }
}
