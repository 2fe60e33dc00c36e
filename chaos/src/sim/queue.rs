use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What is to happen, in order of time, and of arrival where times are equal.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry<T> {
    at: Duration,
    order: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), arrivals: 0 }
    }

    pub(super) fn push(&mut self, at: Duration, what: T) {
        self.arrivals += 1;
        self.heap.push(Entry { at, order: self.arrivals, what });
    }

    /// What comes first, if it comes by `end`.
    pub(super) fn pop(&mut self, end: Duration) -> Option<(Duration, T)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

impl<T> Ord for Entry<T> {
    /// The heap gives its greatest: the earliest one.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_comes_out_first_and_equals_in_the_order_they_came_in() {
        let mut queue = Queue::new();
        for (at, name) in [(3, "d"), (1, "a"), (2, "b"), (2, "c"), (9, "e")] {
            queue.push(Duration::from_secs(at), name);
        }
        let come: String = std::iter::from_fn(|| queue.pop(Duration::from_secs(5)).map(|(_, name)| name)).collect();
        assert_eq!(come, "abcd");
        assert_eq!(queue.pop(Duration::from_secs(9)), Some((Duration::from_secs(9), "e")));
        assert_eq!(queue.pop(Duration::MAX), None);
    }
}
