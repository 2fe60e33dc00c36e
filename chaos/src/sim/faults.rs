//! What a scenario does to its hosts, and when.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use starling_gossip::Input;

use super::paths::{Effect, Rule};
use super::scenario::{Fault, Plane, Scenario, Way, Weather};
use super::world::{Happening, World};

/// How long a process that leaves still runs: as long as `node` waits by default.
const FAREWELL: Duration = Duration::from_secs(2);
/// A data connection under use is found dead after about this long, and dialed again after that.
const LINK_DOWN: Duration = Duration::from_secs(1);
const LINK_UP: Duration = Duration::from_millis(200);

/// What a starved process needs for one step: a datagram, a timer.
const STEP: Duration = Duration::from_micros(100);

/// A process that gets little of the CPU, or whose packets are stuck now and then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Starving {
    stalls: bool,
    /// How long it is blocked, and how long it is at work: between the two.
    spans: [(Duration, Duration); 2],
}

/// One fault begins or ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Action {
    pub(super) at: Duration,
    /// Tells occurrences apart.
    pub(super) id: usize,
    pub(super) weather: Weather,
    pub(super) hosts: Vec<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Begin,
    /// A flip-flop changes.
    Flip,
    End,
}

/// All that a scenario does, from its time zero on. Whom it strikes is a function of the seed alone, so that two engines
/// can be compared under the same faults.
pub(super) fn plan(scenario: &Scenario, seed: u64) -> Vec<Action> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7761_7468_6572);
    let mut pool: Vec<usize> = (scenario.seeds..scenario.nodes).collect();
    pool.shuffle(&mut rng);
    let mut actions = Vec::new();
    for fault in &scenario.faults {
        let count = count(fault, scenario.nodes).max(1);
        // Others each time, as long as there are.
        let wanted = if fault.nodes.is_some() { 0 } else { (count * fault.times).min(pool.len() / count * count) };
        let picked = pool.split_off(pool.len() - wanted);
        for time in 0..fault.times {
            let next = || picked.iter().cycle().skip(time * count % wanted.max(1)).take(count.min(wanted)).copied();
            let hosts = fault.nodes.clone().unwrap_or_else(|| next().collect());
            occur(fault, time, &hosts, scenario.length.0, &mut actions);
        }
    }
    actions
}

fn count(fault: &Fault, nodes: usize) -> usize {
    let share = fault.share.map(|share| (share.clamp(0.0, 1.0) * nodes as f64).ceil());
    // A share of some thousands.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let share = share.map(|share| share as usize);
    fault.count.or(share).unwrap_or_default()
}

fn occur(fault: &Fault, time: usize, hosts: &[usize], length: Duration, actions: &mut Vec<Action>) {
    let every = fault.every.map_or(Duration::ZERO, |every| every.0);
    let begin = fault.at.0 + every * u32::try_from(time).unwrap_or(u32::MAX);
    let end = fault.lasts.map(|lasts| begin + lasts.0);
    let id = actions.len();
    let mut push = |at, kind| {
        actions.push(Action { at, id, weather: fault.does.clone(), hosts: hosts.to_vec(), kind });
    };
    push(begin, Kind::Begin);
    if let Weather::Cut { flip: Some(flip), .. } = &fault.does {
        let mut at = begin + flip.0;
        while at < end.unwrap_or(length) {
            push(at, Kind::Flip);
            at += flip.0;
        }
    }
    if let Some(end) = end {
        push(end, Kind::End);
    }
}

impl World {
    pub(super) fn act(&mut self, action: &Action) {
        self.trace.add(self.now, action.id, 4, &[action.kind as u8]);
        match (&action.weather, action.kind) {
            (_, Kind::Flip) => {}
            (Weather::Loss { .. } | Weather::Cut { .. }, Kind::Begin) => self.add_rule(action),
            (Weather::Loss { .. } | Weather::Cut { .. }, Kind::End) => self.paths.remove(action.id),
            _ => action.hosts.iter().for_each(|host| self.act_on(*host, action)),
        }
        self.mark(action);
        self.review();
    }

    fn act_on(&mut self, n: usize, action: &Action) {
        match (&action.weather, action.kind) {
            (Weather::Crash { .. }, Kind::Begin) => self.end(n),
            (Weather::Crash { fresh }, _) => {
                if *fresh {
                    self.hosts[n].disk = None;
                }
                self.start(n);
            }
            (Weather::Suspend, Kind::Begin) => {
                self.hold(n);
                self.hosts[n].suspended = true;
                self.ledger.on_end(n, self.now);
            }
            (Weather::Suspend, _) => {
                self.hosts[n].suspended = false;
                self.ledger.on_return(n, self.now);
                self.release(n, usize::MAX);
            }
            (Weather::Starve { blocked, works } | Weather::Stall { blocked, works }, Kind::Begin) => {
                let stalls = matches!(action.weather, Weather::Stall { .. });
                let spans = [*blocked, *works].map(|[least, most]| (least.0, most.0));
                self.starving.insert((n, action.id), Starving { stalls, spans });
                self.on_turn(n, action.id, false);
            }
            (Weather::Starve { .. } | Weather::Stall { .. }, _) => {
                self.starving.remove(&(n, action.id));
            }
            (Weather::Clock { by }, Kind::Begin) => self.hosts[n].clock += by,
            (Weather::Clock { by }, _) => self.hosts[n].clock -= by,
            (Weather::Leave, Kind::Begin) => {
                self.ledger.on_leave(n, self.now);
                self.feed(n, Input::Leave { reason: "scenario".to_owned() });
                let boot = self.hosts[n].boot;
                self.queue.push(self.now + FAREWELL, Happening::Gone { host: n, boot });
            }
            (Weather::Leave, _) => self.start(n),
            (Weather::Loss { .. } | Weather::Cut { .. }, _) => {}
        }
    }

    fn add_rule(&mut self, action: &Action) {
        let effect = match &action.weather {
            Weather::Loss { ingress, egress } => Effect::Loss { ingress: *ingress, egress: *egress },
            Weather::Cut { way, plane, flip } => {
                Effect::Cut { way: *way, plane: *plane, flip: flip.map(|flip| flip.0) }
            }
            _ => return,
        };
        let mut inside = vec![false; self.hosts.len()];
        for host in &action.hosts {
            inside[*host] = true;
        }
        self.paths.add(Rule { id: action.id, inside, effect, since: self.now });
    }

    /// Tells the ledger who is no longer to be judged as healthy. A plain cut in two leaves both sides so.
    fn mark(&mut self, action: &Action) {
        let faulty = match &action.weather {
            Weather::Cut { way, plane, flip } => *plane == Plane::All && (*way != Way::Both || flip.is_some()),
            Weather::Loss { .. } | Weather::Starve { .. } | Weather::Stall { .. } | Weather::Suspend => true,
            Weather::Crash { .. } | Weather::Clock { .. } | Weather::Leave => false,
        };
        let judged = matches!(action.weather, Weather::Loss { .. } | Weather::Cut { .. });
        if faulty {
            for host in &action.hosts {
                self.ledger.on_struck(*host, judged && action.kind != Kind::End, self.now);
            }
        }
        if action.kind != Kind::Flip {
            self.ledger.changed_at = self.now;
        }
    }

    fn hold(&mut self, n: usize) {
        self.hosts[n].held += 1;
    }

    /// `budget`: how many steps it can take before it is held again; what is left then goes on waiting.
    fn release(&mut self, n: usize, budget: usize) {
        self.hosts[n].held = self.hosts[n].held.saturating_sub(1);
        if self.hosts[n].runs() {
            self.resume(n, budget);
        }
    }

    /// A starved process gets the CPU or loses it; packets that were stuck move or are stuck again.
    pub(super) fn on_turn(&mut self, n: usize, fault: usize, works: bool) {
        let known = self.starving.get(&(n, fault)).copied();
        let lasts = known.map(|Starving { spans, .. }| {
            let (least, most) = spans[usize::from(works)];
            least + most.saturating_sub(least).mul_f64(self.hosts[n].rng.random_range(0.0..1.0))
        });
        let stalls = known.map_or(self.hosts[n].stalled, |known| known.stalls);
        if stalls {
            self.hosts[n].stalled = known.is_some() && !works;
            if !self.hosts[n].stalled {
                self.unstall(n);
            }
        } else if works {
            let steps = lasts.map_or(u128::MAX, |lasts| lasts.as_nanos() / STEP.as_nanos());
            self.release(n, usize::try_from(steps).unwrap_or(usize::MAX));
        } else if known.is_some() {
            self.hold(n);
        }
        if let Some(lasts) = lasts {
            self.queue.push(self.now + lasts, Happening::Turn { host: n, fault, works: !works });
        }
    }

    /// What was stuck moves on.
    fn unstall(&mut self, n: usize) {
        for (to, bytes) in std::mem::take(&mut self.hosts[n].outbox) {
            self.transmit(n, to, bytes);
        }
        if self.hosts[n].runs() {
            self.resume(n, usize::MAX);
        }
    }

    /// What follows from a change of paths and processes: who can reach whom, and which connections break.
    pub(super) fn review(&mut self) {
        let (paths, now) = (&self.paths, self.now);
        self.ledger.set_parted(now, |from, to| {
            let cut = |plane| paths.is_cut(from, to, plane, now) || paths.is_cut(to, from, plane, now);
            cut(Plane::Gossip) && cut(Plane::Quic)
        });
        for n in 0..self.hosts.len() {
            for peer in self.hosts[n].links.keys().copied().collect::<Vec<_>>() {
                let up = self.may_link(n, peer);
                if self.hosts[n].links[&peer] != up {
                    let (boot, pause) = (self.hosts[n].boot, if up { LINK_UP } else { LINK_DOWN });
                    self.queue.push(self.now + pause, Happening::Link { host: n, boot, peer, up });
                }
            }
        }
    }

    pub(super) fn connect_links(&mut self, n: usize) {
        let nodes = self.hosts.len();
        let peers = (1..=self.links).map(|k| (n + k * k) % nodes).filter(|peer| *peer != n);
        self.hosts[n].links = peers.map(|peer| (peer, false)).collect();
        if self.links > 0 {
            self.review();
        }
    }

    fn may_link(&self, n: usize, peer: usize) -> bool {
        let (one, other) = (&self.hosts[n], &self.hosts[peer]);
        let cut = |from, to| self.paths.is_cut(from, to, Plane::Quic, self.now);
        one.engine.is_some() && other.engine.is_some() && !other.suspended && !cut(n, peer) && !cut(peer, n)
    }

    pub(super) fn on_link(&mut self, n: usize, boot: u32, peer: usize, up: bool) {
        if self.hosts[n].boot != boot || self.may_link(n, peer) != up || self.hosts[n].links.get(&peer) == Some(&up) {
            return;
        }
        self.hosts[n].links.insert(peer, up);
        let node = self.hosts[peer].id;
        self.feed(n, Input::Link { node, up });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn planned(faults: &str, seed: u64) -> Vec<Action> {
        let text = format!("about = 'x'\nnodes = 20\nseeds = 2\nlength = '100s'\n{faults}");
        plan(&Scenario::try_new(&text, None).unwrap(), seed)
    }

    #[test]
    fn a_fault_that_comes_again_strikes_others_and_never_a_seed() {
        let faults = "[[fault]]\ndoes = 'suspend'\ncount = 3\nat = '1s'\nfor = '5s'\nevery = '10s'\ntimes = 4";
        let actions = planned(faults, 1);
        let begin = |action: &&Action| action.kind == Kind::Begin;
        let struck: Vec<usize> = actions.iter().filter(begin).flat_map(|action| action.hosts.clone()).collect();
        assert_eq!((struck.len(), struck.iter().collect::<BTreeSet<_>>().len()), (12, 12));
        assert!(struck.iter().all(|host| (2..20).contains(host)), "{struck:?}");
        let times: Vec<u64> = actions.iter().map(|action| action.at.as_secs()).collect();
        assert_eq!(times, [1, 6, 11, 16, 21, 26, 31, 36]);
        assert_eq!(actions, planned(faults, 1));
        assert_ne!(actions, planned(faults, 2));
    }

    #[test]
    fn with_too_few_nodes_the_same_ones_are_struck_again() {
        let actions = planned("[[fault]]\ndoes = 'suspend'\ncount = 10\nevery = '1s'\ntimes = 3", 1);
        assert_eq!(actions.iter().map(|action| action.hosts.len()).collect::<Vec<_>>(), [10, 10, 10]);
        assert_eq!(actions[0].hosts, actions[1].hosts);
    }

    #[test]
    fn a_share_is_rounded_up_and_a_flip_flop_changes_until_it_ends() {
        let fault = "[[fault]]\ndoes = { cut = { way = 'in', flip = '20s' } }\nshare = 0.01\nat = '5s'\nfor = '50s'";
        let found: Vec<_> = planned(fault, 1).iter().map(|action| (action.at.as_secs(), action.kind)).collect();
        assert_eq!(found, [(5, Kind::Begin), (25, Kind::Flip), (45, Kind::Flip), (55, Kind::End)]);
        assert_eq!(planned(fault, 1)[0].hosts.len(), 1);
    }
}
