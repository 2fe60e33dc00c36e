use std::array::from_fn;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::line::{self, Clock};
use crate::telemetry::RequestRecord;

/// Threads that write lines have a lane of their own each, up to this number; then they share.
pub(super) const LANES: usize = 16;
/// Bytes that wait in a lane, at most: a tenth of a second at 20,000 requests a second, about.
pub(super) const LANE_MAX: usize = 512 * 1024;

/// Lines that wait to be written, in a lane for each thread, so that no thread waits for another: the writer holds a lane
/// only to take what is in it.
#[derive(Debug)]
pub(super) struct Lanes([Mutex<Lane>; LANES]);

#[derive(Debug, Default)]
struct Lane {
    waiting: Waiting,
    clock: Clock,
}

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) text: Vec<u8>,
    pub(super) lines: u64,
}

impl Default for Lanes {
    fn default() -> Self {
        Self(from_fn(|_| Mutex::default()))
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Which lane is this thread's.
    static LANE: usize = THREADS.fetch_add(1, Relaxed) % LANES;
}

impl Lanes {
    /// Appends a line; false if the lane is full.
    pub(super) fn write(&self, record: &RequestRecord) -> bool {
        let Lane { waiting, clock } = &mut *lock(&self.0[LANE.with(|lane| *lane)]);
        if waiting.text.len() >= LANE_MAX {
            return false;
        }
        line::write(&mut waiting.text, clock, record);
        waiting.lines += 1;
        true
    }

    /// Swaps what waits in a lane with `taken`, which is empty.
    pub(super) fn take(&self, lane: usize, taken: &mut Waiting) {
        std::mem::swap(&mut lock(&self.0[lane]).waiting, taken);
    }

    /// Frees the memory of lanes that are empty.
    pub(super) fn shrink(&self) {
        for lane in &self.0 {
            let mut lane = lock(lane);
            if lane.waiting.lines == 0 {
                lane.waiting = Waiting::default();
            }
        }
    }
}

fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}
