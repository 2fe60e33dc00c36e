use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use super::Shared;
use super::lanes::{LANES, Waiting};
use crate::config;

/// Between two batches under load: long enough that a batch is worth its system call, short enough for `tail -f`.
const PAUSE: Duration = Duration::from_millis(20);
/// While nothing comes.
const DOZE: Duration = Duration::from_secs(1);
/// Without records for so long it dozes.
const DOZE_AFTER: Duration = Duration::from_millis(200);

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
    /// Swapped with a lane's buffer, so that none is allocated while lines come.
    taken: Waiting,
}

impl Writer {
    pub(super) fn try_open(target: &config::AccessLog) -> io::Result<Self> {
        let sink = match target {
            config::AccessLog::Stdout => Sink::Stdout,
            config::AccessLog::File(path) => Sink::File { path: path.clone(), file: open(path)? },
        };
        Ok(Self::new(sink))
    }

    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, taken: Waiting::default() }
    }

    /// Writes until it is told to stop and everything is written.
    pub(super) fn run(mut self, shared: &Shared) {
        let mut last_line = Instant::now();
        loop {
            // Read before the lanes: what was handed over before the order is written before it is obeyed.
            let (stop, reopen) = (shared.stop.load(Acquire), shared.reopen.swap(false, Acquire));
            if self.drain(shared) {
                last_line = Instant::now();
            }
            if reopen {
                self.reopen();
            }
            if stop {
                return;
            }
            if last_line.elapsed() < DOZE_AFTER {
                park_timeout(PAUSE);
            } else {
                self.shrink(shared);
                shared.dozing.store(true, Relaxed);
                park_timeout(DOZE);
                shared.dozing.store(false, Relaxed);
            }
        }
    }

    /// Writes what waits. True if there was anything.
    fn drain(&mut self, shared: &Shared) -> bool {
        let before = shared.written.load(Relaxed) + shared.dropped_write.load(Relaxed);
        for lane in 0..LANES {
            shared.lanes.take(lane, &mut self.taken);
            self.flush(shared);
        }
        before != shared.written.load(Relaxed) + shared.dropped_write.load(Relaxed)
    }

    fn flush(&mut self, shared: &Shared) {
        let Waiting { text, lines } = &mut self.taken;
        if *lines == 0 {
            return;
        }
        let written = match &mut self.sink {
            Sink::Stdout => io::stdout().lock().write_all(text).and_then(|()| io::stdout().flush()),
            Sink::File { file, .. } => file.write_all(text),
            #[cfg(test)]
            Sink::Test(test) => test.write_all(text),
        };
        let counter = if written.is_ok() { &shared.written } else { &shared.dropped_write };
        counter.fetch_add(*lines, Relaxed);
        text.clear();
        *lines = 0;
    }

    /// Gives memory back, after a busy time.
    fn shrink(&mut self, shared: &Shared) {
        self.taken = Waiting::default();
        shared.lanes.shrink();
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
