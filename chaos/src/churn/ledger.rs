//! What happened, and what must not have.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Violations that are told in words; more are counted.
const MOST_TOLD: usize = 50;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It was begun.
    Asked,
    /// Answered whole by the service.
    Answered,
    /// Answered by the mesh, which said what failed.
    Refused,
    /// Its connection or its stream broke.
    Broken,
    /// The caller cut it.
    Cut,
    /// It was sound on both sides, and failed nevertheless: by what others did to a connection that it shared.
    Collateral,
    /// The service read it whole.
    Served,
    /// The service met an end within it.
    Unserved,
}

const OUTCOMES: usize = 8;

/// Shared by callers and services.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: [AtomicU64; OUTCOMES],
    codes: Mutex<BTreeMap<String, u64>>,
    served_once: Mutex<HashSet<u64>>,
    violations: Mutex<Vec<String>>,
    violation_count: AtomicU64,
}

impl Ledger {
    pub(super) fn count(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn counted(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize].load(Relaxed)
    }

    /// The mesh answered in place of the service.
    pub(super) fn refused(&self, code: &str) {
        self.count(Outcome::Refused);
        *lock(&self.codes).entry(code.to_owned()).or_default() += 1;
    }

    /// What it said, and how often.
    pub(super) fn codes(&self) -> BTreeMap<String, u64> {
        lock(&self.codes).clone()
    }

    /// A request that must not be done twice reached the service.
    pub(super) fn once(&self, nonce: u64) {
        if !lock(&self.served_once).insert(nonce) {
            self.violation(format!("{nonce:016x}: a POST reached the service twice"));
        }
    }

    /// Something that must never be.
    pub(super) fn violation(&self, what: String) {
        self.violation_count.fetch_add(1, Relaxed);
        let mut told = lock(&self.violations);
        if told.len() < MOST_TOLD {
            told.push(what);
        }
    }

    pub(super) fn violations(&self) -> (u64, Vec<String>) {
        (self.violation_count.load(Relaxed), lock(&self.violations).clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
