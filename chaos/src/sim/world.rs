use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use starling_gossip::{Backoff, Engine, Event, Input, Output, Refusal, Seeds};

use super::control::{Answer, Ask, Parcel, Why};
use super::faults::{Action, Starving};
use super::host::Host;
use super::ledger::Ledger;
use super::paths::Paths;
use super::queue::Queue;
use super::scenario::{Dials, EngineSettings, Network, Plane, Scenario};
use super::trace::Trace;

/// Admissions under way at a time that one node asks for.
const JOINS: usize = 64;
/// A process takes so many datagrams before it looks at what else there is.
const BATCH: usize = 64;
/// More ticks at one moment are a fault of the engine.
const TICKS: u32 = 10_000;

/// What can happen next.
pub(super) enum Happening {
    Start(usize),
    Tick(usize),
    Seeds(usize),
    Datagram {
        from: usize,
        to: usize,
        bytes: Bytes,
    },
    // Boxed, as are actions: there are many happenings, and most are small.
    Request(Box<Parcel<Ask>>),
    Reply(Box<Parcel<Answer>>),
    Deadline {
        host: usize,
        boot: u32,
        call: u64,
    },
    Link {
        host: usize,
        boot: u32,
        peer: usize,
        up: bool,
    },
    Act(Box<Action>),
    /// A starved process gets the CPU or loses it.
    Turn {
        host: usize,
        fault: usize,
        works: bool,
    },
    /// A process that left ends.
    Gone {
        host: usize,
        boot: u32,
    },
    Second,
}

/// A mesh on virtual time. A run is a function of its scenario and its seed.
pub(super) struct World {
    pub(super) base: Instant,
    pub(super) now: Duration,
    pub(super) hosts: Vec<Host>,
    pub(super) paths: Paths,
    pub(super) queue: Queue<Happening>,
    /// For packets.
    pub(super) rng: StdRng,
    pub(super) ledger: Ledger,
    pub(super) trace: Trace,
    pub(super) calls: u64,
    pub(super) accept: Duration,
    pub(super) links: usize,
    pub(super) settings: EngineSettings,
    pub(super) starving: BTreeMap<(usize, usize), Starving>,
    seeds: usize,
    dials: Dials,
    indices: BTreeMap<IpAddr, usize>,
    ticks: (usize, Duration, u32),
}

impl World {
    /// The hosts of a scenario, none of them started.
    pub(super) fn new(scenario: &Scenario, settings: &EngineSettings, seed: u64) -> Self {
        let hosts: Vec<Host> = (0..scenario.nodes).map(|number| Host::new(number, seed)).collect();
        let network: Network = scenario.network.clone();
        let (accept, links) = (network.accept.0, network.links);
        Self {
            base: Instant::now(),
            now: Duration::ZERO,
            ledger: Ledger::new(hosts.iter().map(|host| host.id)),
            indices: hosts.iter().enumerate().map(|(n, host)| (host.address.ip, n)).collect(),
            hosts,
            paths: Paths::new(network),
            queue: Queue::new(),
            rng: StdRng::seed_from_u64(seed),
            trace: Trace::new(),
            calls: 0,
            accept,
            links,
            settings: settings.clone(),
            starving: BTreeMap::new(),
            seeds: scenario.seeds,
            dials: scenario.dials,
            ticks: (0, Duration::ZERO, 0),
        }
    }

    /// One step of whatever comes first. `false` if that is after `end`.
    pub(super) fn step(&mut self, end: Duration) -> bool {
        let Some((at, happening)) = self.queue.pop(end) else {
            self.now = end;
            return false;
        };
        self.now = at;
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(host) = happening.host() {
            let host = &mut self.hosts[host];
            if host.engine.is_none() {
                return;
            }
            if host.held > 0 || (host.stalled && happening.is_packet()) {
                if !host.keep(happening) {
                    self.ledger.traffic.overrun += 1;
                }
                return;
            }
        }
        match happening {
            Happening::Start(host) => self.start(host),
            Happening::Tick(host) => self.on_tick(host),
            Happening::Seeds(host) => self.on_seeds(host),
            Happening::Datagram { from, to, bytes } => {
                let from = self.hosts[from].address.gossip();
                self.feed(to, Input::Datagram { from, bytes });
            }
            Happening::Request(parcel) => self.on_request(parcel),
            Happening::Reply(parcel) => self.on_reply(*parcel),
            Happening::Deadline { host, boot, call } => self.on_deadline(host, boot, call),
            Happening::Link { host, boot, peer, up } => self.on_link(host, boot, peer, up),
            Happening::Act(action) => self.act(&action),
            Happening::Turn { host, fault, works } => self.on_turn(host, fault, works),
            Happening::Gone { host, boot } => {
                if self.hosts[host].boot == boot {
                    self.end(host);
                }
            }
            Happening::Second => {
                self.ledger.traffic.on_second();
                self.ledger.on_second(self.now);
                self.queue.push(self.now + Duration::from_secs(1), Happening::Second);
            }
        }
    }

    /// Starts the process of a host.
    pub(super) fn start(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        host.start(&self.settings, self.now, self.base);
        let seeds = (0..self.seeds).filter(|seed| {
            let own = self.dials == Dials::All || n < self.seeds || n % self.seeds == *seed;
            own && *seed != n
        });
        let kept = host.disk.as_ref().map_or(&[][..], |kept| &kept.members);
        let kept = kept.iter().filter_map(|member| self.indices.get(&member.address.ip).copied());
        let seeds = Seeds::new(seeds, kept, Backoff::default(), self.base + self.now);
        self.hosts[n].seeds = seeds;
        self.ledger.on_start(n, self.now);
        self.schedule(n);
        self.schedule_seeds(n);
        self.connect_links(n);
    }

    /// Ends the process of a host.
    pub(super) fn end(&mut self, n: usize) {
        self.ledger.count_engine(self.hosts[n].engine.as_ref());
        self.hosts[n].stop();
        self.ledger.on_end(n, self.now);
    }

    /// Gives an engine an input and carries out what it wants. Gives why a join was refused.
    pub(super) fn feed(&mut self, n: usize, input: Input) -> Option<Refusal> {
        let engine = self.hosts[n].engine.as_mut()?;
        let outputs = engine.handle(input, self.base + self.now);
        self.schedule(n);
        self.carry_out(n, outputs)
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) -> Option<Refusal> {
        let mut refused = None;
        for output in outputs {
            match output {
                Output::Send { to, bytes } => self.transmit(n, to, bytes),
                Output::Dial { at, .. } => {
                    if let Some(to) = self.at(at) {
                        self.dial(n, to);
                    }
                }
                Output::Resolve { at, ids, .. } => self.ask_at(n, at, Ask::Resolve(ids), Why::Resolve),
                Output::Ping { node, at, ping } => self.ask_at(n, at, Ask::Ping(ping), Why::Ping(node)),
                Output::Pull { at, owner, keys, .. } => {
                    self.ask_at(n, at, Ask::Pull { owner, keys }, Why::Pull(owner));
                }
                Output::ExchangeKeys { at, .. } => {
                    if let Some(state) = self.hosts[n].engine.as_ref().map(Engine::keyring_state) {
                        self.ask_at(n, at, Ask::Keys(state), Why::Keys);
                    }
                }
                Output::Refused { refusal, .. } => refused = Some(refusal),
                Output::View(view) => {
                    self.trace.add(self.now, n, 2, &view.version.to_be_bytes());
                    self.ledger.on_view(n, &view, self.now);
                }
                Output::Event(event) => self.on_event(n, &event),
                Output::Remember(remembered) => self.hosts[n].disk = Some(remembered),
                Output::Value { .. } | Output::Keys(_) => {}
            }
        }
        refused
    }

    fn ask_at(&mut self, n: usize, at: SocketAddr, what: Ask, why: Why) {
        if let Some(to) = self.at(at) {
            self.ask(n, to, |_| Some(what), why);
        }
    }

    fn on_event(&mut self, n: usize, event: &Event) {
        if let Event::MemberDown { .. } | Event::MemberLeft { .. } = event {
            self.hosts[n].seeds.hasten(self.base + self.now);
            self.schedule_seeds(n);
        }
        self.trace.add(self.now, n, 3, format!("{event:?}").as_bytes());
        self.ledger.on_event(event);
    }

    pub(super) fn transmit(&mut self, n: usize, to: SocketAddr, bytes: Bytes) {
        if self.hosts[n].stalled {
            self.hosts[n].outbox.push((to, bytes));
            return;
        }
        self.trace.add(self.now, n, 1, &bytes);
        self.ledger.traffic.sent(n, bytes.len());
        let Some(to) = self.at(to) else { return };
        let Some(at) = self.paths.carry(n, to, Plane::Gossip, self.now, &mut self.rng) else { return };
        let (copy, late) = self.paths.disorder(&mut self.rng);
        if let Some(delay) = copy {
            self.queue.push(at + delay, Happening::Datagram { from: n, to, bytes: bytes.clone() });
        }
        self.queue.push(at + late, Happening::Datagram { from: n, to, bytes });
    }

    fn dial(&mut self, from: usize, to: usize) {
        if self.hosts[from].joining.len() < JOINS && self.hosts[from].joining.insert(to) {
            self.join(from, to, Why::Admission);
        }
    }

    pub(super) fn join(&mut self, from: usize, to: usize, why: Why) {
        self.ask(from, to, |world| world.join_state(from, to).map(Ask::Join), why);
    }

    /// Tells each of each, as by a join of every two.
    pub(super) fn acquaint(&mut self) {
        let hosts = 0..self.hosts.len();
        let states: Vec<_> = hosts.clone().filter_map(|n| Some((n, self.join_state(n, n)?))).collect();
        for n in hosts {
            for (other, state) in states.iter().filter(|(other, _)| *other != n) {
                self.feed(n, Input::Joined { peer: self.hosts[*other].spiffe(), state: (**state).clone() });
            }
        }
    }

    fn at(&self, address: SocketAddr) -> Option<usize> {
        self.indices.get(&address.ip()).copied()
    }

    pub(super) fn jitter(&mut self, n: usize) -> f64 {
        self.hosts[n].rng.random_range(0.0..1.0)
    }

    fn on_tick(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        if host.tick_at.is_some_and(|at| at > self.now) {
            // It wants it later by now; that one is queued, too.
            return;
        }
        host.tick_at = None;
        let due = host.engine.as_ref().and_then(Engine::poll_timeout);
        if due.is_some_and(|due| due <= self.base + self.now) {
            self.ticks =
                (n, self.now, if self.ticks.0 == n && self.ticks.1 == self.now { self.ticks.2 + 1 } else { 0 });
            assert!(self.ticks.2 < TICKS, "node {n} asks for ticks without end");
            self.feed(n, Input::Tick);
        } else {
            self.schedule(n);
        }
    }

    /// Takes note of when a node wants its next tick.
    pub(super) fn schedule(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let due = host.engine.as_ref().and_then(Engine::poll_timeout);
        let Some(due) = due.map(|due| due.saturating_duration_since(self.base).max(self.now)) else { return };
        if host.tick_at.is_none_or(|at| due < at) {
            host.tick_at = Some(due);
            self.queue.push(due, Happening::Tick(n));
        }
    }

    /// A process runs again: what came meanwhile is taken as its loop would, whatever is ready in random order, and at
    /// most so many steps of it.
    pub(super) fn resume(&mut self, n: usize, mut budget: usize) {
        let waiting = self.hosts[n].take_waiting();
        self.hosts[n].tick_at = None;
        self.hosts[n].seeds_at = None;
        let (mut datagrams, mut others) = (Vec::new(), Vec::new());
        for happening in waiting {
            match happening {
                Happening::Datagram { .. } => datagrams.push(happening),
                Happening::Tick(_) | Happening::Seeds(_) => {}
                _ => others.push(happening),
            }
        }
        let (mut datagrams, mut others) = (datagrams.into_iter(), others.into_iter());
        loop {
            let late = |engine: &Engine| engine.poll_timeout().is_some_and(|due| due <= self.base + self.now);
            let due = self.hosts[n].engine.as_ref().is_some_and(late);
            let ready = [datagrams.len() > 0, others.len() > 0, due];
            let count = ready.iter().filter(|ready| **ready).count();
            if count == 0 || budget == 0 {
                break;
            }
            let pick = self.hosts[n].rng.random_range(0..count);
            let chosen = ready.iter().enumerate().filter(|(_, ready)| **ready).nth(pick);
            match chosen.map(|(kind, _)| kind) {
                Some(0) => {
                    let batch = BATCH.min(datagrams.len()).min(budget);
                    datagrams.by_ref().take(batch).for_each(|happening| self.happen(happening));
                    budget -= batch;
                }
                Some(1) => {
                    others.by_ref().take(1).for_each(|happening| self.happen(happening));
                    budget -= 1;
                }
                _ => {
                    self.feed(n, Input::Tick);
                    budget -= 1;
                }
            }
        }
        for happening in datagrams.chain(others) {
            self.hosts[n].keep(happening);
        }
        self.schedule(n);
        self.schedule_seeds(n);
    }
}

impl Happening {
    /// Does it come from the network?
    const fn is_packet(&self) -> bool {
        matches!(self, Self::Datagram { .. } | Self::Request(_) | Self::Reply(_))
    }

    /// The host whose process it is for.
    const fn host(&self) -> Option<usize> {
        match self {
            Self::Datagram { to, .. } => Some(*to),
            Self::Request(parcel) => Some(parcel.to),
            Self::Reply(parcel) => Some(parcel.to),
            Self::Tick(host) | Self::Seeds(host) | Self::Deadline { host, .. } | Self::Link { host, .. } => Some(*host),
            Self::Start(_) | Self::Act(_) | Self::Turn { .. } | Self::Gone { .. } | Self::Second => None,
        }
    }
}
