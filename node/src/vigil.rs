//! The time in which a tunnel carries something counts as a request of its connection: silence is then looked for, so that a tunnel over a path
//! that is gone breaks in about a second, and not with the connection's idle timeout. One that is idle costs nothing.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use starling_transport::Connection;
use tokio::sync::Notify;

use crate::relay::Counts;

/// A tunnel that carried nothing for so long (to twice as long) is idle.
const IDLE: Duration = Duration::from_secs(1);

/// Of one tunnel.
#[derive(Debug, Default)]
pub(crate) struct Vigil {
    active: AtomicBool,
    wake: Notify,
}

impl Vigil {
    /// Something is about to be carried, or was.
    pub(crate) fn note(&self) {
        if !self.active.load(Ordering::Relaxed) && !self.active.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Counts the tunnel as a request while `counts` rise. Never ends; to be polled beside what is carried.
    pub(crate) async fn keep(&self, connection: &Connection, counts: &Counts) -> Infallible {
        loop {
            self.wake.notified().await;
            let _request = connection.begin_request();
            let mut seen = counts.total();
            loop {
                tokio::time::sleep(IDLE).await;
                let total = counts.total();
                if std::mem::replace(&mut seen, total) == total {
                    break;
                }
            }
            self.active.store(false, Ordering::Relaxed);
        }
    }
}
