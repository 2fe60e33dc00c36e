use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use starling_proto::{Endpoint, EndpointKey, ServiceName};

use crate::{EndpointStats, RetryBudget, StatsSnapshot, Timeline};

/// The most of a service's endpoints that may be left out as ejected, in percent. Over that, ejection says more of the
/// service than of its endpoints, and all are used.
const EJECTED_PERCENT_MAX: usize = 50;

/// The endpoints of one service and what this node knows of them. Immutable: a change makes a new one.
///
/// What is read for each request lies together: a slice of entries, those that can serve first; each entry leads in one
/// step to the one cache line of its numbers.
#[derive(Debug)]
pub struct Cluster {
    service: ServiceName,
    /// As they were given, to see whether anything changed.
    source: Arc<[Endpoint]>,
    /// Healthy ones that do not drain first.
    pub(crate) entries: Box<[Entry]>,
    /// How many those are.
    pub(crate) ready: usize,
    pub(crate) timeline: Timeline,
    budget: Arc<RetryBudget>,
}

/// One endpoint and its numbers.
#[derive(Debug, Clone)]
pub struct Entry {
    stats: Arc<EndpointStats>,
    endpoint: Arc<Endpoint>,
    /// 100 / its weight: costs count that much.
    scale: f64,
}

impl Entry {
    fn new(endpoint: &Endpoint, previous: Option<&Self>) -> Self {
        let scale = 100.0 / f64::from(endpoint.weight.max(1));
        match previous {
            Some(same) if *same.endpoint == *endpoint => same.clone(),
            Some(changed) => Self { stats: changed.stats.clone(), endpoint: Arc::new(endpoint.clone()), scale },
            None => Self { stats: Arc::default(), endpoint: Arc::new(endpoint.clone()), scale },
        }
    }

    /// The endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its numbers.
    #[must_use]
    pub const fn stats(&self) -> &Arc<EndpointStats> {
        &self.stats
    }

    /// Latency x queue, by weight, in nanoseconds.
    pub(crate) fn cost(&self, now: u64) -> f64 {
        self.stats.cost(now) * self.scale
    }
}

impl Cluster {
    /// The cluster of these endpoints. Numbers of endpoints (by key) that were there before, and the budget, are kept.
    pub(crate) fn new(
        service: ServiceName,
        source: Arc<[Endpoint]>,
        previous: Option<&Self>,
        timeline: Timeline,
    ) -> Self {
        let known: BTreeMap<&EndpointKey, &Entry> =
            previous.iter().flat_map(|cluster| &cluster.entries).map(|entry| (&entry.endpoint.key, entry)).collect();
        let mut entries: Box<[Entry]> =
            source.iter().map(|endpoint| Entry::new(endpoint, known.get(&endpoint.key).copied())).collect();
        let is_ready = |entry: &Entry| entry.endpoint.healthy && !entry.endpoint.draining;
        entries.sort_by_key(|entry| !is_ready(entry));
        let ready = entries.partition_point(is_ready);
        let budget = previous.map_or_else(|| Arc::new(RetryBudget::new(timeline)), |cluster| cluster.budget.clone());
        Self { service, source, entries, ready, timeline, budget }
    }

    /// Was it made of the same endpoints?
    pub(crate) fn is_of(&self, source: &Arc<[Endpoint]>) -> bool {
        Arc::ptr_eq(&self.source, source) || *self.source == **source
    }

    /// The service.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its retry budget: shared by the shards, and kept when endpoints come and go.
    #[must_use]
    pub const fn budget(&self) -> &Arc<RetryBudget> {
        &self.budget
    }

    /// How many endpoints it has, usable or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Has it none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All its endpoints.
    #[must_use]
    pub const fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// An endpoint's numbers as of `now`.
    #[must_use]
    pub fn snapshot(&self, entry: &Entry, now: Instant) -> StatsSnapshot {
        entry.stats.snapshot(self.timeline.nanos(now))
    }

    /// Is there an endpoint that is none of these?
    #[must_use]
    pub fn has_other_than(&self, keys: &[EndpointKey]) -> bool {
        self.entries.iter().any(|entry| !keys.contains(&entry.endpoint.key))
    }

    /// Are so many endpoints ejected (over half) that ejection is ignored?
    #[must_use]
    pub fn is_panicking(&self, now: Instant) -> bool {
        self.panics_at(self.timeline.nanos(now))
    }

    pub(crate) fn panics_at(&self, now: u64) -> bool {
        let ejected = self.entries.iter().filter(|entry| entry.stats.is_ejected(now)).count();
        ejected * 100 > self.len() * EJECTED_PERCENT_MAX
    }
}
