//! A host is cut off under an open-loop load of 200 GETs a second: the machines of this room played together on virtual
//! time, as a node wires them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use starling_proto::{Endpoint, EndpointKey, ErrorCode, NodeId, Protocol, ServiceName};
use starling_routing::{Cluster, Clusters, Deadline, Failure, Outcome, Pick, RetryPolicy, Tries, Verdict};

const MS: Duration = Duration::from_millis(1);
/// The time between requests.
const INTERVAL: Duration = Duration::from_millis(5);
const ANSWER: Duration = Duration::from_millis(2);
/// How long a cut connection takes to be known as silent.
const SILENCE: Duration = Duration::from_millis(300);

/// Some moment to count from.
#[allow(clippy::disallowed_methods)]
fn epoch() -> Instant {
    Instant::now()
}

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

fn endpoint(n: u8) -> Endpoint {
    Endpoint {
        key: EndpointKey { node: NodeId::from_bytes([n; 16]), service: orders(), instance: 0 },
        spiffe: format!("spiffe://test.example/node/n{n}").parse().unwrap(),
        address: ([127, 0, 0, n], 7947).into(),
        port: 80,
        protocol: Protocol::Http,
        zone: "".into(),
        labels: Arc::default(),
        healthy: true,
        draining: false,
        weight: 100,
    }
}

/// A try under way; what it is waiting for happens at `ends`.
struct Try {
    asked: Instant,
    pick: Pick,
    tries: Tries,
}

#[derive(Default)]
struct Report {
    answered: usize,
    failed: usize,
    retried: usize,
    slowest: Duration,
    /// When the cut host was last given a request, from the cut on.
    last_to_cut_host: Option<Instant>,
}

struct Mesh {
    cluster: Arc<Cluster>,
    rng: SmallRng,
    cut: Option<Instant>,
    cut_host: NodeId,
    method_is_idempotent: bool,
    under_way: BTreeMap<usize, Try>,
    events: BinaryHeap<Reverse<(Instant, usize)>>,
    report: Report,
}

impl Mesh {
    fn new(hosts: u8, start: Instant, method_is_idempotent: bool) -> Self {
        let endpoints: Arc<[Endpoint]> = (1..=hosts).map(endpoint).collect();
        let clusters = Clusters::new(start).rebuild(&BTreeMap::from([(orders(), endpoints)]));
        Self {
            cluster: clusters.cluster(&orders()).unwrap().clone(),
            rng: SmallRng::seed_from_u64(42),
            cut: None,
            cut_host: NodeId::from_bytes([1; 16]),
            method_is_idempotent,
            under_way: BTreeMap::new(),
            events: BinaryHeap::new(),
            report: Report::default(),
        }
    }

    /// Sends one try and notes when it will end.
    fn send(&mut self, id: usize, asked: Instant, tries: Tries, now: Instant) {
        let silent = self.cut.is_some_and(|cut| now >= cut + SILENCE);
        let avoid = |endpoint: &Endpoint| silent && endpoint.key.node == self.cut_host;
        let pick = self.cluster.pick(tries.exclude(), avoid, &mut self.rng, now).unwrap();
        let to_cut_host = self.cut.is_some() && pick.endpoint().key.node == self.cut_host;
        if to_cut_host {
            self.report.last_to_cut_host = Some(now);
        }
        let ends = match self.cut {
            // The connection is known as silent for all that wait on it, at one moment.
            Some(cut) if to_cut_host => (cut + SILENCE).max(now),
            _ => now + ANSWER,
        };
        self.under_way.insert(id, Try { asked, pick, tries });
        self.events.push(Reverse((ends, id)));
    }

    fn on_end(&mut self, id: usize, now: Instant) {
        let Try { asked, pick, mut tries } = self.under_way.remove(&id).unwrap();
        let key = pick.endpoint().key.clone();
        if self.cut.is_none() || key.node != self.cut_host {
            pick.finish(Outcome::Served, now);
            self.report.answered += 1;
            self.report.slowest = self.report.slowest.max(now - asked);
            return;
        }
        let error = ErrorCode::ConnectionSilent;
        pick.finish(Outcome::of_error(error), now);
        let failure = Failure { endpoint: &key, error, idempotent: self.method_is_idempotent, replayable: true };
        match tries.on_failure(failure, &self.cluster, Deadline::default_at(asked), &mut self.rng, now) {
            Verdict::Retry { after, .. } => {
                assert!(after.is_zero(), "the first retry elsewhere is made at once");
                self.report.retried += 1;
                self.send(id, asked, tries, now);
            }
            Verdict::GiveUp(_) => self.report.failed += 1,
        }
    }

    fn run(mut self, start: Instant, seconds: u32, cut_after: Duration) -> Report {
        let arrivals: BTreeSet<_> = (0..seconds * 200).map(|n| start + INTERVAL * n).collect();
        for (id, arrival) in arrivals.into_iter().enumerate() {
            while let Some(Reverse((at, ended))) = self.events.peek().copied().filter(|next| next.0.0 <= arrival) {
                self.events.pop();
                self.on_end(ended, at);
            }
            if self.cut.is_none() && arrival >= start + cut_after {
                self.cut = Some(arrival);
            }
            self.cluster.budget().on_request(arrival);
            self.send(id, arrival, Tries::new(RetryPolicy::default()), arrival);
        }
        while let Some(Reverse((at, ended))) = self.events.pop() {
            self.on_end(ended, at);
        }
        self.report
    }
}

#[test]
fn of_200_gets_a_second_none_fails_and_none_takes_a_second_when_a_host_is_cut_off() {
    for hosts in [2, 3, 5] {
        let start = epoch();
        let report = Mesh::new(hosts, start, true).run(start, 10, Duration::from_secs(5));
        assert_eq!((report.failed, report.answered), (0, 2_000), "{hosts} hosts");
        assert!(report.slowest < SILENCE + 10 * MS, "{:?} with {hosts} hosts", report.slowest);
        assert!(report.retried > 0);
        let last = report.last_to_cut_host.unwrap() - (start + Duration::from_secs(5));
        assert!(last < SILENCE, "the cut host got a request {last:?} after the cut");
    }
}

#[test]
fn a_post_that_may_have_been_processed_is_never_sent_again() {
    let start = epoch();
    let report = Mesh::new(3, start, false).run(start, 6, Duration::from_secs(5));
    assert_eq!(report.retried, 0);
    assert!(report.failed > 0 && report.failed < 30, "{} of 60 in 300 ms to one host of three", report.failed);
}
