//! Plays a scenario and says what it showed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cost::Cost;
use super::faults;
use super::ledger::{Death, Ledger};
use super::report::{Report, Samples};
use super::scenario::{EngineSettings, Scenario};
use super::world::{Happening, World};

/// A mesh that has not found together by then never will.
const JOIN: Duration = Duration::from_mins(5);
/// A death that lasts less long need not be listed.
const LISTED: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

/// One run.
pub(super) struct Played {
    pub(super) samples: Samples,
    pub(super) trace: u64,
    pub(super) cost: BTreeMap<String, f64>,
}

/// Plays a scenario as often as it says, from this seed on, and judges it.
#[must_use]
pub fn play(name: &str, scenario: &Scenario, seed: u64) -> Report {
    let runs = || (seed..).take(usize::try_from(scenario.runs).unwrap_or(usize::MAX));
    let (mut samples, mut traces, mut cost) = (Samples::default(), Vec::new(), BTreeMap::new());
    for seed in runs() {
        let played = run(scenario, &scenario.engine, seed);
        traces.push(format!("{:016x}", played.trace));
        samples.merge(played.samples);
        if cost.is_empty() {
            cost = played.cost;
        }
    }
    let mut figures = samples.figures();
    if let Some(baseline) = &scenario.baseline {
        let mut other = Samples::default();
        for seed in runs() {
            other.merge(run(scenario, baseline, seed).samples);
        }
        compare(&mut figures, &other.figures());
    }
    let mut report = Report {
        scenario: name.to_owned(),
        nodes: scenario.nodes,
        seed,
        runs: scenario.runs,
        traces,
        figures,
        cost,
        bounds: Vec::new(),
    };
    report.judge(&scenario.bounds);
    report
}

/// How many times fewer mistakes than the baseline made; as many as that made if there was none.
fn compare(figures: &mut BTreeMap<String, Option<f64>>, baseline: &BTreeMap<String, Option<f64>>) {
    for name in ["wrong.downs", "wrong.downs_at_healthy"] {
        let (Some(Some(ours)), Some(Some(theirs))) = (figures.get(name).copied(), baseline.get(name).copied()) else {
            continue;
        };
        figures.insert(format!("{name}.times_fewer"), Some(theirs / ours.max(1.0)));
    }
    figures.extend(baseline.iter().map(|(name, value)| (format!("baseline.{name}"), *value)));
}

pub(super) fn run(scenario: &Scenario, engine: &EngineSettings, seed: u64) -> Played {
    let mut world = World::new(scenario, engine, seed);
    let nodes = u32::try_from(scenario.nodes).unwrap_or(u32::MAX);
    world.queue.push(SECOND, Happening::Second);
    for n in 0..nodes {
        world.queue.push(scenario.start_over.0 * n / nodes, Happening::Start(n as usize));
    }
    let mut samples = Samples::default();
    let mut zero = Duration::ZERO;
    if scenario.acquainted {
        world.run_to(scenario.start_over.0);
        world.acquaint();
    }
    if scenario.joined {
        let joined = world.run_until_settled(JOIN);
        samples.worst("join_s", joined.map(|took| took.as_secs_f64()));
        zero = ceil(world.now) + scenario.quiet.0;
    }
    let idle = ceil(zero.saturating_sub(scenario.quiet.0 / 2));
    world.run_to(idle);
    let before = Cost::now();
    world.run_to(zero);
    let cost = Cost::since(before, scenario.nodes, zero.saturating_sub(idle));
    world.ledger.judged_from = Some(zero);
    let actions = faults::plan(scenario, seed);
    let last_end = actions.iter().map(|action| action.at).max().unwrap_or_default();
    for mut action in actions {
        action.at += zero;
        world.queue.push(action.at, Happening::Act(Box::new(action)));
    }
    let end = zero + scenario.length.0;
    world.run_to(end);
    if last_end > scenario.length.0 {
        samples.sum("faults_not_played", 1.0);
    }
    for n in 0..world.hosts.len() {
        world.ledger.count_engine(world.hosts[n].engine.as_ref());
    }
    measure(&world.ledger, &mut samples, [idle, zero, end]);
    Played { samples, trace: world.trace.hash(), cost }
}

impl World {
    fn run_to(&mut self, end: Duration) {
        while self.step(end) {}
    }

    /// Until all run and list one another; `None` if that does not come.
    fn run_until_settled(&mut self, end: Duration) -> Option<Duration> {
        while !(self.ledger.all_run() && self.ledger.is_settled()) {
            if !self.step(end) {
                return None;
            }
        }
        Some(self.now)
    }
}

/// The next full second.
fn ceil(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// Puts together what the ledger of a run holds: the idle time began at the first moment, the faults at the second.
fn measure(ledger: &Ledger, samples: &mut Samples, [idle, zero, end]: [Duration; 3]) {
    let settled = ledger.is_settled().then(|| ledger.settled_at.saturating_sub(ledger.changed_at).as_secs_f64());
    samples.worst("settle_s", settled);
    measure_deaths(ledger, samples, end);
    measure_struck(ledger, samples);
    let wrong = &ledger.wrong;
    samples.sum("wrong.downs", wrong.downs as f64);
    samples.sum("wrong.downs_at_healthy", wrong.downs_at_healthy as f64);
    samples.sum("wrong.evicted", wrong.evicted.len() as f64);
    samples.sum("wrong.suspicions", wrong.suspicions as f64);
    samples.sum("wrong.risen", wrong.risen as f64);
    samples.sum("wrong.asides", wrong.asides as f64);
    if let Some(first) = wrong.first {
        samples.worst("wrong.first_s", Some(first.saturating_sub(zero).as_secs_f64()));
    }
    let traffic = &ledger.traffic;
    let [idle, zero] = [idle, zero].map(|at| usize::try_from(at.as_secs()).unwrap_or(usize::MAX));
    for (name, of) in [
        ("bytes.gossip", (|second| second.gossip) as fn(&super::traffic::Second) -> f64),
        ("bytes.gossip_of_one", |second| second.gossip_most),
        ("bytes.control", |second| second.control),
        ("packets", |second| second.packets),
    ] {
        if idle < zero {
            samples.worst(&format!("idle.{name}"), traffic.mean(idle..zero, of));
        }
        samples.worst(&format!("peak.{name}"), traffic.peak(zero, of));
        samples.worst(&format!("join_peak.{name}"), traffic.peak(0, of));
        samples.worst(&format!("mean.{name}"), traffic.mean(zero..usize::MAX, of));
    }
    samples.sum("datagrams_overrun", traffic.overrun as f64);
    for (name, count) in &ledger.counts {
        samples.sum(name, *count as f64);
    }
}

fn measure_deaths(ledger: &Ledger, samples: &mut Samples, end: Duration) {
    let (mut unlisted, mut deaths) = (0, 0);
    for death in &ledger.deaths {
        let listed = listed(death);
        let lasted = death.until.unwrap_or(end).saturating_sub(death.at);
        let until = death.until.unwrap_or(end);
        deaths += 1;
        if lasted >= LISTED {
            unlisted += listed.iter().filter(|at| at.is_none_or(|at| at > until)).count();
        }
        let mut times: Vec<Duration> = listed.into_iter().flatten().collect();
        times.sort_unstable();
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else { continue };
        let kind = if death.left { "leave" } else { "crash" };
        samples.spread(&format!("{kind}.first_s"), [first.saturating_sub(death.at).as_secs_f64()]);
        samples.spread(&format!("{kind}.all_s"), [last.saturating_sub(death.at).as_secs_f64()]);
        samples.spread(&format!("{kind}.spread_s"), times.iter().map(|at| at.saturating_sub(first).as_secs_f64()));
    }
    if deaths > 0 {
        samples.sum("crash.deaths", f64::from(deaths));
        samples.sum("crash.unlisted", unlisted as f64);
    }
}

/// When each healthy node that was there all the time listed it as gone.
fn listed(death: &Death) -> Vec<Option<Duration>> {
    death.witnesses.iter().map(|witness| death.listed.get(witness).copied()).collect()
}

fn measure_struck(ledger: &Ledger, samples: &mut Samples) {
    for struck in ledger.struck.values() {
        samples.worst("faulty.out_s", struck.out.map(|out| out.saturating_sub(struck.since).as_secs_f64()));
        if struck.looks > 0 {
            samples.spread("faulty.routed_to_after_30s", [struck.routed as f64 / struck.looks as f64]);
        }
    }
}
