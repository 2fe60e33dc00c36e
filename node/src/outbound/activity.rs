use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What goes on on one connection of a local application.
#[derive(Debug, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    over: AtomicU64,
}

/// A request is under way while this lives: until its answer has been taken, or nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Serving(Arc<Counts>);

impl Activity {
    /// A request came.
    pub(super) fn begin(&self) -> Serving {
        self.0.begun.fetch_add(1, Relaxed);
        Serving(Arc::clone(&self.0))
    }

    /// Requests that came since the beginning.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.load(Relaxed)
    }

    /// Is none under way?
    pub(super) fn is_idle(&self) -> bool {
        self.begun() == self.0.over.load(Relaxed)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.over.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_until_a_request_comes_and_after_the_last_is_over() {
        let activity = Activity::default();
        assert!(activity.is_idle());
        let (first, second) = (activity.begin(), activity.begin());
        drop(first);
        assert!(!activity.is_idle());
        drop(second);
        assert!(activity.is_idle());
        assert_eq!(activity.begun(), 2);
    }
}
