use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::mpsc::Receiver;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use super::{Shared, line};
use crate::config;
use crate::telemetry::RequestRecord;

/// Between two batches under load: long enough that a batch is worth its system call, short enough for `tail -f`.
const PAUSE: Duration = Duration::from_millis(20);
/// While nothing comes.
const DOZE: Duration = Duration::from_secs(1);
/// Without records for so long it dozes.
const DOZE_AFTER: Duration = Duration::from_millis(200);
/// The most that is written at once, in bytes, about.
const BATCH: usize = 64 * 1024;

/// Where lines go.
pub(super) enum Sink {
    Stdout,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

/// The thread's side of the access log.
pub(super) struct Writer {
    sink: Sink,
    buffer: Vec<u8>,
    lines: u64,
}

impl Writer {
    pub(super) fn try_open(target: &config::AccessLog) -> io::Result<Self> {
        let sink = match target {
            config::AccessLog::Stdout => Sink::Stdout,
            config::AccessLog::File(path) => Sink::File { path: path.clone(), file: open(path)? },
        };
        Ok(Self::new(sink))
    }

    pub(super) const fn new(sink: Sink) -> Self {
        Self { sink, buffer: Vec::new(), lines: 0 }
    }

    /// Writes until it is told to stop and everything is written.
    pub(super) fn run(mut self, records: &Receiver<RequestRecord>, shared: &Shared) {
        let mut last_record = Instant::now();
        loop {
            // Read before the queue: what was handed over before the order is written before it is obeyed.
            let (stop, reopen) = (shared.stop.load(Acquire), shared.reopen.swap(false, Acquire));
            if self.drain(records, shared) {
                last_record = Instant::now();
            }
            if reopen {
                self.reopen();
            }
            if stop {
                return;
            }
            if last_record.elapsed() < DOZE_AFTER {
                park_timeout(PAUSE);
            } else {
                self.buffer = Vec::new();
                shared.dozing.store(true, Relaxed);
                park_timeout(DOZE);
                shared.dozing.store(false, Relaxed);
            }
        }
    }

    /// True if there was anything.
    fn drain(&mut self, records: &Receiver<RequestRecord>, shared: &Shared) -> bool {
        let mut any = false;
        for record in records.try_iter() {
            any = true;
            line::write(&mut self.buffer, &record);
            self.lines += 1;
            if self.buffer.len() >= BATCH {
                self.flush(shared);
            }
        }
        self.flush(shared);
        any
    }

    fn flush(&mut self, shared: &Shared) {
        if self.lines == 0 {
            return;
        }
        let written = match &mut self.sink {
            Sink::Stdout => io::stdout().lock().write_all(&self.buffer).and_then(|()| io::stdout().flush()),
            Sink::File { file, .. } => file.write_all(&self.buffer),
            #[cfg(test)]
            Sink::Test(test) => test.write_all(&self.buffer),
        };
        let counter = if written.is_ok() { &shared.written } else { &shared.dropped_write };
        counter.fetch_add(self.lines, Relaxed);
        self.buffer.clear();
        self.lines = 0;
    }

    fn reopen(&mut self) {
        if let Sink::File { path, file } = &mut self.sink {
            match open(path) {
                Ok(new) => *file = new,
                Err(error) => tracing::warn!(path = %path.display(), %error, "the access log stays in its old file"),
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
