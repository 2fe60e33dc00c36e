use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::{Silence, Step, TICK};
use crate::connection::Link;

/// Looks after the connections of one shard that have requests outstanding. One task, one timer, both asleep while
/// there are none.
#[derive(Debug)]
pub(crate) struct Watch {
    board: Arc<Board>,
    task: AbortHandle,
}

/// Where connections are given to the task.
#[derive(Debug)]
pub(crate) struct Board {
    arrivals: Mutex<Vec<Weak<Link>>>,
    wake: Notify,
    changed: watch::Sender<()>,
}

impl Watch {
    /// Starts the task on the current runtime.
    pub(crate) fn start() -> Self {
        let board = Arc::new(Board { arrivals: Mutex::default(), wake: Notify::new(), changed: watch::channel(()).0 });
        let task = tokio::spawn(look(board.clone())).abort_handle();
        Self { board, task }
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Board {
    /// Looks after this connection from now on, until it has been idle for a while.
    pub(crate) fn add(&self, link: Weak<Link>) {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        self.wake.notify_one();
    }

    /// Some connection fell silent, healed, or is left by its peer.
    pub(crate) fn on_changed(&self) {
        self.changed.send_replace(());
    }

    /// Hears of each such change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn take_arrivals(&self, into: &mut Vec<(Weak<Link>, Silence)>) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        into.extend(arrivals.drain(..).map(|link| (link, Silence::default())));
    }
}

async fn look(board: Arc<Board>) {
    let mut watched: Vec<(Weak<Link>, Silence)> = Vec::new();
    loop {
        board.take_arrivals(&mut watched);
        if watched.is_empty() {
            board.wake.notified().await;
            continue;
        }
        let before = Instant::now();
        tokio::time::sleep(TICK).await;
        let elapsed = before.elapsed();
        watched.retain_mut(|(link, silence)| {
            let Some(link) = link.upgrade() else { return false };
            let Some(seen) = link.observe() else { return false };
            match silence.handle(seen, elapsed) {
                Step::Wait => true,
                Step::Probe => link.probe(),
                Step::FellSilent => {
                    link.set_silent(true);
                    board.on_changed();
                    link.probe()
                }
                Step::Healed => {
                    link.set_silent(false);
                    board.on_changed();
                    true
                }
                Step::Forget => link.stay_watched(),
            }
        });
    }
}
