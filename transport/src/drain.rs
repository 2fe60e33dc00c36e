//! Stop taking work, finish what is there: one signal, and holders as values.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// Starts the drain and waits for its end.
#[derive(Debug)]
pub struct DrainSignal {
    started: watch::Sender<bool>,
    held: mpsc::Sender<Never>,
    ended: mpsc::Receiver<Never>,
}

/// Tells when the drain starts. Cheap to clone, and holds nothing up.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    started: watch::Receiver<bool>,
    held: mpsc::WeakSender<Never>,
}

/// Work under way: the drain ends when the last of these is dropped.
#[derive(Debug, Clone)]
pub struct DrainHold(#[allow(dead_code, reason = "it works by being dropped")] Option<mpsc::Sender<Never>>);

/// Nothing is ever sent.
#[derive(Debug)]
enum Never {}

/// A signal, and a watch to be cloned for everyone who should hear it.
#[must_use]
pub fn channel() -> (DrainSignal, DrainWatch) {
    let (started, watch) = watch::channel(false);
    let (held, ended) = mpsc::channel(1);
    let weak = held.downgrade();
    (DrainSignal { started, held, ended }, DrainWatch { started: watch, held: weak })
}

impl DrainSignal {
    /// Starts the drain and waits until all holds are gone, at most `patience`. Says whether they were.
    pub async fn drain(self, patience: Duration) -> bool {
        let Self { started, held, mut ended } = self;
        let _ = started.send(true);
        drop(held);
        tokio::time::timeout(patience, ended.recv()).await.is_ok()
    }
}

impl DrainWatch {
    /// Waits until the drain starts (or whoever could start it is gone).
    pub async fn started(&mut self) {
        let _ = self.started.wait_for(|started| *started).await;
    }

    /// Has it started?
    pub fn is_started(&self) -> bool {
        *self.started.borrow()
    }

    /// Keeps the drain from ending while the value lives. One taken after its end holds nothing up.
    pub fn hold(&self) -> DrainHold {
        DrainHold(self.held.upgrade())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_with_the_last_hold() {
        let (signal, mut watch) = channel();
        let hold = watch.hold();
        assert!(!watch.is_started());
        let draining = tokio::spawn(signal.drain(LONG));
        watch.started().await;
        let second = watch.hold();
        drop(hold);
        tokio::task::yield_now().await;
        assert!(!draining.is_finished());
        drop(second);
        assert!(draining.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_gives_up_after_its_patience() {
        let (signal, watch) = channel();
        let _hold = watch.hold();
        assert!(!signal.drain(LONG).await);
    }

    #[tokio::test]
    async fn a_drain_with_nothing_held_ends_at_once() {
        let (signal, _watch) = channel();
        assert!(signal.drain(LONG).await);
    }
}
