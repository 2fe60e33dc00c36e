//! The access log: one line of JSON for each request, written by a thread of its own.

mod lanes;
mod line;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, Release},
};
use std::thread::{JoinHandle, Thread};

use super::RequestRecord;
use crate::config;
use lanes::Lanes;
use writer::Writer;

/// The access log of a node.
///
/// The request path appends a line to the lane of its shard, without a system call or an allocation; one thread writes
/// what waits in the lanes. When it can't keep up, lines are dropped and counted: a slow disk never slows a request.
#[derive(Debug)]
pub struct AccessLog {
    thread: Option<JoinHandle<()>>,
    writer: Thread,
    shared: Arc<Shared>,
}

/// What both sides see.
#[derive(Debug, Default)]
struct Shared {
    lanes: Lanes,
    /// The writer found nothing for a while and sleeps for longer: wake it.
    dozing: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
    written: AtomicU64,
    dropped_full: AtomicU64,
    dropped_write: AtomicU64,
}

/// Lines since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccessLogCounts {
    /// Written.
    pub written: u64,
    /// Lost since a lane was full.
    pub dropped_full: u64,
    /// Lost since they could not be written.
    pub dropped_write: u64,
}

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// If the file can't be opened for appending, or no thread started.
    pub fn try_open(target: &config::AccessLog) -> io::Result<Self> {
        Self::try_start(Writer::try_open(target)?)
    }

    fn try_start(writer: Writer) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || writer.run(&theirs))?;
        Ok(Self { writer: thread.thread().clone(), thread: Some(thread), shared })
    }

    /// Hands a line over. If too much waits already it is dropped and counted.
    pub fn write(&self, record: &RequestRecord) {
        if !self.shared.lanes.write(record) {
            self.shared.dropped_full.fetch_add(1, Relaxed);
        }
        // One wake-up after an idle time. If it is missed, the writer looks by itself within a second.
        if self.shared.dozing.load(Relaxed) && self.shared.dozing.swap(false, Relaxed) {
            self.writer.unpark();
        }
    }

    /// Opens the file anew, after it was moved away (SIGHUP). What was handed over before goes to the old one.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Release);
        self.writer.unpark();
    }

    /// What became of the lines so far.
    #[must_use]
    pub fn counts(&self) -> AccessLogCounts {
        AccessLogCounts {
            written: self.shared.written.load(Relaxed),
            dropped_full: self.shared.dropped_full.load(Relaxed),
            dropped_write: self.shared.dropped_write.load(Relaxed),
        }
    }
}

impl Drop for AccessLog {
    /// Writes what was handed over, and ends the thread.
    fn drop(&mut self) {
        self.shared.stop.store(true, Release);
        self.writer.unpark();
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
