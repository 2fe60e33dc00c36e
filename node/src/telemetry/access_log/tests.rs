use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::lanes::LANE_MAX;
use super::writer::Sink;
use super::*;
use crate::telemetry::testing::record;

/// Waits for what another thread will do.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 40 s");
        std::thread::yield_now();
    }
}

fn lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn what_was_handed_over_is_written_before_the_log_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::try_open(&config::AccessLog::File(path.clone())).unwrap();
    (0..1_000).for_each(|_| log.write(&record()));
    let shared = log.shared.clone();
    drop(log);
    assert_eq!(lines(&path), 1_000);
    assert_eq!((shared.written.load(Relaxed), shared.dropped_full.load(Relaxed)), (1_000, 0));
}

#[test]
fn a_log_that_was_idle_wakes_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::try_open(&config::AccessLog::File(path.clone())).unwrap();
    // A busy machine may be late once; who is never woken is late each time.
    let woken = (1..=20).any(|round| {
        until("dozing", || log.shared.dozing.load(Relaxed));
        let asked = Instant::now();
        log.write(&record());
        until("written", || log.counts().written == round);
        asked.elapsed() < Duration::from_millis(300)
    });
    assert!(woken, "it slept on");
    assert_eq!(lines(&path) as u64, log.counts().written);
}

#[test]
fn after_reopen_lines_go_to_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let [path, moved] = ["access.log", "access.log.1"].map(|name| dir.path().join(name));
    let log = AccessLog::try_open(&config::AccessLog::File(path.clone())).unwrap();
    log.write(&record());
    until("written", || log.counts().written == 1);
    std::fs::rename(&path, &moved).unwrap();
    log.write(&record());
    log.reopen();
    until("reopened", || path.exists());
    log.write(&record());
    drop(log);
    assert_eq!((lines(&moved), lines(&path)), (2, 1));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("no/such/directory");
    assert!(AccessLog::try_open(&config::AccessLog::File(path)).is_err());
}

/// A disk that stands still until it is let go, and fails if told so.
struct Disk {
    entered: Sender<()>,
    go_on: Receiver<io::Result<()>>,
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entered.send(()).expect("the test waits");
        self.go_on.recv().expect("the test says so")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn when_the_disk_stands_still_lines_are_dropped_and_counted_and_nobody_waits() {
    let (entered, is_entered) = channel();
    let (go, go_on) = channel();
    let log = AccessLog::try_start(Writer::new(Sink::Test(Box::new(Disk { entered, go_on })))).unwrap();
    log.write(&record());
    is_entered.recv().unwrap();
    let mut fit = 0;
    while log.counts().dropped_full == 0 {
        log.write(&record());
        fit += 1;
    }
    fit -= 1;
    let one = LANE_MAX / fit;
    assert!((100..1_000).contains(&one), "lines of {one} bytes");
    assert_eq!(log.counts(), AccessLogCounts { written: 0, dropped_full: 1, dropped_write: 0 });
    go.send(Err(io::Error::other("disk full"))).unwrap();
    until("the first line is lost", || log.counts().dropped_write == 1);
    until("the rest is written", || {
        while is_entered.try_recv().is_ok() {
            go.send(Ok(())).unwrap();
        }
        log.counts().written == fit as u64
    });
}
