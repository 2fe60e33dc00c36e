use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use starling_gossip::{Engine, Event, State, View};
use starling_proto::NodeId;

use super::traffic::Traffic;

/// What one node believes of another is no mistake for so long after a cut between them ended.
const GRACE: Duration = Duration::from_secs(30);

/// What really was, beside what each node believed.
pub(super) struct Ledger {
    /// All hosts by id, in the order of ids.
    order: Vec<(NodeId, usize)>,
    /// What each believes of each: observer times hosts, plus subject. `None`: it does not list it.
    seen: Vec<Option<State>>,
    /// Likewise: it lists it as up, and leaves it out of routing.
    aside: Vec<bool>,
    pub(super) truth: Vec<Truth>,
    /// No packet passes between the two.
    parted: Vec<bool>,
    /// When that ended last.
    parted_until: BTreeMap<(usize, usize), Duration>,
    /// Pairs that should list each other as up, and do not.
    unsettled: usize,
    /// When the last of these became right.
    pub(super) settled_at: Duration,
    /// When the last fault began or ended.
    pub(super) changed_at: Duration,
    pub(super) deaths: Vec<Death>,
    pub(super) struck: BTreeMap<usize, Struck>,
    pub(super) traffic: Traffic,
    pub(super) wrong: Wrong,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// From when on mistakes count.
    pub(super) judged_from: Option<Duration>,
}

/// What really is with a host.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Truth {
    /// Its process runs since then.
    pub(super) since: Option<Duration>,
    /// A fault made it a bad witness and a fair suspect, for good.
    pub(super) faulty: bool,
    /// Its death that nobody undid yet.
    death: Option<usize>,
}

/// A process that ended, or was stopped.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) at: Duration,
    pub(super) until: Option<Duration>,
    /// It said goodbye.
    pub(super) left: bool,
    /// When who listed it as gone first.
    pub(super) listed: BTreeMap<usize, Duration>,
    /// Healthy nodes that knew it.
    pub(super) witnesses: BTreeSet<usize>,
}

/// A host with a bad network.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub(super) since: Duration,
    pub(super) until: Option<Duration>,
    /// When all healthy nodes had it out of routing for the first time, as down or as flaky.
    pub(super) out: Option<Duration>,
    /// Of all seconds and healthy observers in the fault, but for its first 30 s: how many, and how many had it in routing.
    pub(super) looks: u64,
    pub(super) routed: u64,
}

/// What was believed and not so.
#[derive(Debug, Default)]
pub(super) struct Wrong {
    /// A healthy node within reach was listed as down by anyone,
    pub(super) downs: u64,
    /// by a healthy node.
    pub(super) downs_at_healthy: u64,
    /// Or was suspected.
    pub(super) suspicions: u64,
    /// Or was left out of routing by a healthy node, though listed as up.
    pub(super) asides: u64,
    /// Healthy nodes that a healthy one listed as down.
    pub(super) evicted: BTreeSet<usize>,
    /// When that was first.
    pub(super) first: Option<Duration>,
    /// A dead node was listed as up again.
    pub(super) risen: u64,
}

impl Ledger {
    pub(super) fn new(ids: impl Iterator<Item = NodeId>) -> Self {
        let mut order: Vec<_> = ids.enumerate().map(|(n, id)| (id, n)).collect();
        order.sort_unstable();
        let hosts = order.len();
        Self {
            order,
            seen: vec![None; hosts * hosts],
            aside: vec![false; hosts * hosts],
            truth: vec![Truth::default(); hosts],
            parted: vec![false; hosts * hosts],
            parted_until: BTreeMap::new(),
            unsettled: 0,
            settled_at: Duration::ZERO,
            changed_at: Duration::ZERO,
            deaths: Vec::new(),
            struck: BTreeMap::new(),
            traffic: Traffic::new(hosts),
            wrong: Wrong::default(),
            counts: BTreeMap::new(),
            judged_from: None,
        }
    }

    const fn hosts(&self) -> usize {
        self.truth.len()
    }

    /// Does every node list every other that it can reach as up, and do all run?
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// Do all run?
    pub(super) fn all_run(&self) -> bool {
        self.truth.iter().all(|truth| truth.since.is_some())
    }

    /// A process started, and knows nobody.
    pub(super) fn on_start(&mut self, n: usize, now: Duration) {
        let row = n * self.hosts();
        self.seen[row..row + self.truth.len()].fill(None);
        self.aside[row..row + self.truth.len()].fill(false);
        self.on_return(n, now);
    }

    /// A process runs again.
    pub(super) fn on_return(&mut self, n: usize, now: Duration) {
        self.truth[n].since = Some(now);
        if let Some(death) = self.truth[n].death.take() {
            self.deaths[death].until = Some(now);
        }
        self.recount(now);
    }

    /// A process ended, or is stopped.
    pub(super) fn on_end(&mut self, n: usize, now: Duration) {
        self.truth[n].since = None;
        self.dismiss(n);
        if self.truth[n].death.is_none() {
            self.die(n, false, now);
        }
        self.recount(now);
    }

    /// A process says goodbye.
    pub(super) fn on_leave(&mut self, n: usize, now: Duration) {
        self.truth[n].since = None;
        self.dismiss(n);
        self.die(n, true, now);
        self.recount(now);
    }

    /// It no longer bears witness of what it has not seen so far.
    fn dismiss(&mut self, n: usize) {
        for death in self.deaths.iter_mut().filter(|death| death.until.is_none() && !death.listed.contains_key(&n)) {
            death.witnesses.remove(&n);
        }
    }

    fn die(&mut self, n: usize, left: bool, now: Duration) {
        let knew = |a: &usize| {
            let truth = &self.truth[*a];
            truth.since.is_some() && !truth.faulty && !self.parted[self.pair(*a, n)] && self.is_up(*a, n)
        };
        let witnesses = (0..self.hosts()).filter(|a| *a != n).filter(knew).collect();
        self.truth[n].death = Some(self.deaths.len());
        self.deaths.push(Death { at: now, until: None, left, listed: BTreeMap::new(), witnesses });
    }

    /// A fault makes a host a bad witness for good; `judged`: the others should get rid of it until it ends.
    pub(super) fn on_struck(&mut self, n: usize, judged: bool, now: Duration) {
        self.truth[n].faulty = true;
        self.dismiss(n);
        if judged {
            self.struck.entry(n).or_insert(Struck { since: now, ..Struck::default() });
        } else if let Some(struck) = self.struck.get_mut(&n) {
            struck.until = Some(now);
        }
    }

    /// Who cannot reach whom, from now on.
    pub(super) fn set_parted(&mut self, now: Duration, parted: impl Fn(usize, usize) -> bool) {
        for a in 0..self.hosts() {
            for b in 0..self.hosts() {
                let (pair, parted) = (self.pair(a, b), parted(a, b));
                if self.parted[pair] && !parted {
                    self.parted_until.insert((a, b), now);
                }
                self.parted[pair] = parted;
            }
        }
        self.recount(now);
    }

    /// There is a new view at a node.
    pub(super) fn on_view(&mut self, n: usize, view: &View, now: Duration) {
        let mut members = view.members.iter().peekable();
        let mut changes = Vec::new();
        for (id, subject) in &self.order {
            while members.next_if(|(member, _)| *member < id).is_some() {}
            let member = members.next_if(|(member, _)| *member == id).map(|(_, member)| member);
            let state = member.map(|member| member.state);
            let aside = member.is_some_and(|member| member.flaky && member.state.is_up());
            let pair = n * self.order.len() + subject;
            if self.seen[pair] != state || self.aside[pair] != aside {
                changes.push((*subject, state, aside));
            }
        }
        for (subject, state, aside) in changes {
            self.set_aside(n, subject, aside, now);
            self.change(n, subject, state, now);
        }
    }

    fn change(&mut self, observer: usize, subject: usize, state: Option<State>, now: Duration) {
        let pair = self.pair(observer, subject);
        let before = std::mem::replace(&mut self.seen[pair], state);
        if observer == subject || before == state {
            return;
        }
        let (was_up, up) = (before.is_some_and(State::is_up), state.is_some_and(State::is_up));
        if was_up != up && self.should_list(observer, subject) {
            self.unsettled = if up { self.unsettled.saturating_sub(1) } else { self.unsettled + 1 };
            if self.unsettled == 0 {
                self.settled_at = now;
            }
        }
        let gone = matches!(state, Some(State::Down | State::Left));
        match self.truth[subject].death {
            Some(death) if gone => {
                self.deaths[death].listed.entry(observer).or_insert(now);
            }
            Some(_) if up && before.is_some_and(|before| !before.is_up()) => self.wrong.risen += 1,
            None if gone && was_up => self.on_listed_down(observer, subject, now),
            None if state == Some(State::Suspect) && self.is_mistaken(observer, subject, now) => {
                self.wrong.suspicions += 1;
            }
            _ => {}
        }
    }

    /// A node that runs was listed as down.
    fn on_listed_down(&mut self, observer: usize, subject: usize, now: Duration) {
        if self.is_mistaken(observer, subject, now) {
            self.wrong.downs += 1;
            if !self.truth[observer].faulty {
                self.wrong.downs_at_healthy += 1;
                self.wrong.evicted.insert(subject);
                self.wrong.first.get_or_insert(now);
            }
        }
        self.look_whether_out(subject, now);
    }

    /// A node leaves another out of routing, or no longer.
    fn set_aside(&mut self, observer: usize, subject: usize, aside: bool, now: Duration) {
        let pair = self.pair(observer, subject);
        let before = std::mem::replace(&mut self.aside[pair], aside);
        if aside && !before {
            self.look_whether_out(subject, now);
            if self.is_mistaken(observer, subject, now) && !self.truth[observer].faulty {
                self.wrong.asides += 1;
            }
        }
    }

    /// Has nobody healthy a host with a bad network in routing any more?
    fn look_whether_out(&mut self, subject: usize, now: Duration) {
        if self.struck.get(&subject).is_none_or(|struck| struck.out.is_some()) {
            return;
        }
        let healthy = |a: &usize| self.truth[*a].since.is_some() && !self.truth[*a].faulty;
        let out = (0..self.hosts()).filter(healthy).all(|a| !self.is_routed(a, subject));
        if let Some(struck) = self.struck.get_mut(&subject).filter(|_| out) {
            struck.out = Some(now);
        }
    }

    /// Is it wrong of the one to doubt the other?
    fn is_mistaken(&self, observer: usize, subject: usize, now: Duration) -> bool {
        let lately = self.parted_until.get(&(observer, subject)).is_some_and(|until| *until + GRACE > now);
        self.judged_from.is_some_and(|from| from <= now)
            && self.truth[subject].since.is_some()
            && !self.truth[subject].faulty
            && !lately
            && !self.parted[self.pair(observer, subject)]
    }

    /// Looks at who still has the hosts with a bad network in routing.
    pub(super) fn on_second(&mut self, now: Duration) {
        let healthy = |a: &usize| self.truth[*a].since.is_some() && !self.truth[*a].faulty;
        let witnesses: Vec<usize> = (0..self.hosts()).filter(healthy).collect();
        let is_judged = |struck: &Struck| struck.until.is_none() && struck.since + Duration::from_secs(30) <= now;
        let judged: Vec<usize> = self.struck.iter().filter(|(_, struck)| is_judged(struck)).map(|(n, _)| *n).collect();
        for subject in judged {
            let routed = witnesses.iter().filter(|a| self.is_routed(**a, subject)).count();
            if let Some(struck) = self.struck.get_mut(&subject) {
                struck.looks += witnesses.len() as u64;
                struck.routed += routed as u64;
            }
        }
    }

    pub(super) fn on_event(&mut self, event: &Event) {
        let name = match event {
            Event::MemberSuspect { .. } => "events.suspect",
            Event::MemberDown { .. } => "events.down",
            Event::Renewed { .. } => "events.renewed",
            Event::GenerationRaised { .. } => "events.generation_raised",
            Event::Joined { .. } => "events.joined",
            Event::KeyInUse { .. } => "events.key_in_use",
            _ => return,
        };
        *self.counts.entry(name).or_default() += 1;
    }

    /// Adds up what an engine counted, at its end.
    pub(super) fn count_engine(&mut self, engine: Option<&Engine>) {
        let Some(counters) = engine.map(Engine::counters) else { return };
        let mut add = |name, count| *self.counts.entry(name).or_default() += count;
        add("engine.rejected", counters.rejected.values().sum());
        add("engine.refused_joins", counters.refused.values().sum());
        add("engine.records_rejected", counters.records_rejected);
        add("engine.unsent", counters.unsent);
        add("engine.notices_dropped", counters.notices_dropped);
        add("engine.swim_errors", counters.swim_errors);
    }

    const fn pair(&self, observer: usize, subject: usize) -> usize {
        observer * self.hosts() + subject
    }

    fn is_up(&self, observer: usize, subject: usize) -> bool {
        self.seen[self.pair(observer, subject)].is_some_and(State::is_up)
    }

    /// Would the one send requests to the other?
    fn is_routed(&self, observer: usize, subject: usize) -> bool {
        self.is_up(observer, subject) && !self.aside[self.pair(observer, subject)]
    }

    /// Both run, and packets pass between them.
    fn should_list(&self, observer: usize, subject: usize) -> bool {
        observer != subject
            && self.truth[observer].since.is_some()
            && self.truth[subject].since.is_some()
            && !self.parted[self.pair(observer, subject)]
    }

    fn recount(&mut self, now: Duration) {
        let before = self.unsettled;
        let hosts = self.hosts();
        let pairs = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b)));
        self.unsettled = pairs.filter(|(a, b)| self.should_list(*a, *b) && !self.is_up(*a, *b)).count();
        if before > 0 && self.unsettled == 0 {
            self.settled_at = now;
        }
    }
}

#[cfg(test)]
mod tests;
