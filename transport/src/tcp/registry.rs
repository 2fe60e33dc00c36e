use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::line::Shared;

/// The connections of one listener or dialer that have not ended, to be closed together.
#[derive(Debug, Clone)]
pub(crate) struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: Mutex<Vec<Weak<Shared>>>,
    count: watch::Sender<usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry(Arc<Inner>);

impl Registry {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { open: Mutex::default(), count: watch::channel(0).0 }))
    }

    pub(super) fn enter(&self, shared: &Arc<Shared>) -> Entry {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked through only when it would grow: each entry is looked at a few times in its life.
        if open.len() == open.capacity() {
            open.retain(|known| known.strong_count() > 0);
        }
        open.push(Arc::downgrade(shared));
        self.0.count.send_modify(|count| *count += 1);
        Entry(Arc::clone(&self.0))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Closes all.
    pub(crate) fn close(&self, code: u32, reason: &str) {
        let open = std::mem::take(&mut *self.0.open.lock().unwrap_or_else(PoisonError::into_inner));
        for shared in open.iter().filter_map(Weak::upgrade) {
            shared.with(|mux| mux.close(code, reason));
        }
    }

    /// Waits until none is left.
    pub(crate) async fn wait_idle(&self) {
        let _ = self.0.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}
