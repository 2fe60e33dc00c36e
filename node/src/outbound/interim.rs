use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, StatusCode};
use starling_proto::mesh::v1;
use tokio::sync::Notify;

use crate::fields;

/// An answer before the answer: 100 (Continue), 103 (Early Hints) and their kin (RFC 9110, section 15.2).
#[derive(Debug)]
pub(super) struct Interim {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

/// Interim answers that may wait for their caller; more are dropped, since none of them must be heard.
const QUEUE: usize = 8;

/// Takes the interim answers to the requests of one connection, or of one stream of it, for whoever writes them.
#[derive(Debug, Clone)]
pub(super) struct Interims(Option<Arc<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Interim>>,
    came: Notify,
}

impl Interims {
    /// For a caller that understands them.
    pub(super) fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    /// For a caller that understands none: of HTTP/1.0.
    pub(super) const fn unwanted() -> Self {
        Self(None)
    }

    /// May there be any?
    pub(super) const fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Passes one on.
    pub(super) fn send(&self, head: v1::ResponseHead) {
        let status = u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        if let (Some(queue), Some(status), Ok(headers)) = (&self.0, status, fields::from_wire(head.headers, 0)) {
            let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() < QUEUE {
                waiting.push(Interim { status, headers });
                queue.came.notify_one();
            }
        }
    }

    /// Waits until there is one.
    pub(super) async fn came(&self) {
        match &self.0 {
            Some(queue) => queue.came.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Those that wait.
    pub(super) fn take(&self) -> Vec<Interim> {
        self.0.as_ref().map_or_else(Vec::new, |queue| {
            std::mem::take(&mut *queue.waiting.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}
