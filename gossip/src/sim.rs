//! A mesh of engines on virtual time, for tests: one seed, one run. The network decides about each datagram, and
//! connections work where datagrams of both directions would.

mod adversary;
mod attacks;
mod catalog;
mod conduct;
mod credentials;
mod dismissal;
mod flaky;
mod fuzz;
mod health;
mod hostile;
mod keys;
mod life;
mod lifeguard;
mod limits;
mod network;
mod scale;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};

use crate::{Config, Engine, Event, Input, Lifeguard, Output, Refusal, Remembered, SigningKey, State, Timings};

use network::Happening;

pub(crate) use credentials::{Verifier, credential, credential_for, spiffe};

pub(crate) const GROUP_KEY: [u8; 32] = [42; 32];
const GOSSIP: u16 = 7_946;
const QUIC: u16 = 7_947;

pub(crate) struct SimNode {
    pub(crate) engine: Engine,
    pub(crate) id: NodeId,
    name: String,
    address: NodeAddress,
    up: bool,
    tick: Option<Instant>,
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) refused: Vec<Refusal>,
    pub(crate) remembered: Option<Remembered>,
    pub(crate) values: BTreeMap<String, Bytes>,
    /// On its disk.
    pub(crate) keys: v1::KeyringState,
}

pub(crate) struct World {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) rng: StdRng,
    /// Datagrams of the first to the second get lost.
    deaf: BTreeSet<(usize, usize)>,
    /// Processes that stand still, with the datagrams that wait for them.
    suspended: BTreeMap<usize, Vec<(SocketAddr, Bytes)>>,
    /// Pairs that hear nothing of one another.
    cut: BTreeSet<(usize, usize)>,
    /// Those that lose this share of all that is sent to them.
    pub(crate) lossy: BTreeMap<usize, f64>,
    /// Share of datagrams that get lost.
    pub(crate) loss: f64,
    /// QUIC is blocked.
    pub(crate) no_connections: bool,
    pub(crate) member_limit: usize,
    /// What certificates of nodes to come name, and when they were issued.
    pub(crate) certified: (&'static [&'static str], u8),
    pub(crate) timings: Timings,
    pub(crate) lifeguard: Lifeguard,
    indices: BTreeMap<IpAddr, usize>,
    queue: BTreeMap<(Instant, u64), Happening>,
    arrivals: u64,
    ticks_due: BTreeSet<(Instant, usize)>,
    last_tick: (usize, Instant),
    ticks: u32,
    /// All datagrams that were sent, while it is asked for.
    pub(crate) tap: Option<Vec<(SocketAddr, SocketAddr, Bytes)>>,
}

impl World {
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn new(seed: u64) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            nodes: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            deaf: BTreeSet::new(),
            suspended: BTreeMap::new(),
            cut: BTreeSet::new(),
            lossy: BTreeMap::new(),
            loss: 0.0,
            no_connections: false,
            member_limit: 500,
            certified: (&["*/*"], 1),
            timings: Timings::default(),
            lifeguard: Lifeguard::On,
            indices: BTreeMap::new(),
            queue: BTreeMap::new(),
            arrivals: 0,
            ticks_due: BTreeSet::new(),
            last_tick: (0, start),
            ticks: 0,
            tap: None,
        }
    }

    /// A mesh whose nodes all joined by the first and know one another.
    pub(crate) fn mesh(seed: u64, size: usize) -> Self {
        let mut world = Self::new(seed);
        for n in 0..size {
            world.add(&format!("n{n}"));
            if n > 0 {
                world.dial(n, 0);
            }
        }
        assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some(), "no mesh: {}", world.table());
        world.level();
        world
    }

    pub(crate) fn key(n: usize) -> SigningKey {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
        SigningKey::from_seed(seed).unwrap()
    }

    pub(crate) fn add(&mut self, name: &str) -> usize {
        let n = self.nodes.len();
        let [high, low] = u16::try_from(n + 1).unwrap().to_be_bytes();
        let address = NodeAddress { ip: IpAddr::from([10, 0, high, low]), gossip_port: GOSSIP, quic_port: QUIC };
        let engine = self.engine(n, name, address, Generation(1_000));
        let id = engine.identity().node_id;
        self.indices.insert(address.ip, n);
        self.nodes.push(SimNode {
            engine,
            id,
            name: name.to_owned(),
            address,
            up: true,
            tick: None,
            events: Vec::new(),
            refused: Vec::new(),
            remembered: None,
            values: BTreeMap::new(),
            keys: v1::KeyringState::default(),
        });
        self.schedule(n);
        n
    }

    fn engine(&mut self, n: usize, name: &str, address: NodeAddress, generation: Generation) -> Engine {
        let signing_key = Self::key(n);
        let config = Config {
            identity: MemberIdentity { node_id: signing_key.node_id(), address, generation, rejoin: 0, cell: 0 },
            spiffe: spiffe(name),
            credential: credential_for(&signing_key, name, self.certified.0, self.certified.1),
            signing_key,
            keyring: keys::keyring(&self.nodes.get(n).map(|node| node.keys.clone()).unwrap_or_default()),
            member_limit: self.member_limit,
            zone: format!("zone-{}", n % 2),
            version: "0.1.0".to_owned(),
            shards: 1,
            timings: self.timings.clone(),
            lifeguard: self.lifeguard,
        };
        Engine::new(config, Box::new(Verifier), self.rng.random(), self.now)
    }

    pub(crate) fn input(&mut self, n: usize, input: Input) {
        let outputs = self.nodes[n].engine.handle(input, self.now);
        self.schedule(n);
        self.carry_out(n, outputs);
    }

    /// A node offers a service from now on.
    pub(crate) fn offer(&mut self, n: usize, name: &str) {
        let (key, body) = catalog::service(name);
        self.input(n, Input::Register { key, body });
    }

    /// Takes note of when a node wants its next tick.
    fn schedule(&mut self, n: usize) {
        if let Some(at) = self.nodes[n].tick.take() {
            self.ticks_due.remove(&(at, n));
        }
        if self.nodes[n].up
            && !self.suspended.contains_key(&n)
            && let Some(at) = self.nodes[n].engine.poll_timeout()
        {
            self.nodes[n].tick = Some(at);
            self.ticks_due.insert((at, n));
        }
    }

    fn carry_out(&mut self, n: usize, outputs: Vec<Output>) {
        let mut views = 0;
        for output in outputs {
            match output {
                Output::Send { to, bytes } => self.transmit(self.nodes[n].address.gossip(), to, bytes),
                Output::Dial { at, .. } => {
                    if let Some(to) = self.at(at) {
                        self.dial(n, to);
                    }
                }
                Output::Resolve { at, ids, .. } => {
                    if let Some(to) = self.at(at).filter(|_| !self.no_connections) {
                        self.later(Happening::Resolve { from: n, to, ids });
                    }
                }
                Output::Ping { at, ping, .. } => self.ping(n, at, ping),
                Output::Pull { at, owner, keys, .. } => {
                    if let Some(to) = self.at(at).filter(|_| !self.no_connections) {
                        self.later(Happening::Pull { from: n, to, owner, keys });
                    }
                }
                Output::ExchangeKeys { at, .. } => self.exchange_keys(n, at),
                Output::Keys(keys) => self.nodes[n].keys = keys,
                Output::Event(event) => {
                    let at = self.now - self.start;
                    self.nodes[n].events.push((at, event));
                }
                Output::Refused { refusal, .. } => self.nodes[n].refused.push(refusal),
                Output::Remember(remembered) => self.nodes[n].remembered = Some(remembered),
                Output::Value { key, value } => {
                    self.nodes[n].values.insert(key, value);
                }
                Output::View(view) => {
                    views += 1;
                    assert_eq!(*view, *self.nodes[n].engine.view());
                }
            }
        }
        assert!(views <= 1, "{views} views at once");
    }

    fn at(&self, quic: SocketAddr) -> Option<usize> {
        self.indices.get(&quic.ip()).copied()
    }

    /// One step of whatever comes first. `false` if that is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let tick = self.ticks_due.first().copied();
        let happening = self.queue.keys().next().map(|(at, _)| *at);
        let next = tick.map(|(at, _)| at).into_iter().chain(happening).min();
        let Some(next) = next.filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        match tick {
            Some((at, n)) if happening.is_none_or(|happening| at <= happening) => {
                self.ticks = if self.last_tick == (n, self.now) { self.ticks + 1 } else { 0 };
                self.last_tick = (n, self.now);
                assert!(self.ticks < 3, "node {n} asks for ticks without end");
                self.input(n, Input::Tick);
            }
            _ => {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Runs until something holds, and says how long that took.
    pub(crate) fn run_until(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, end) = (self.now, self.now + most);
        loop {
            if holds(self) {
                return Some(self.now - start);
            }
            if !self.step(end) {
                return None;
            }
        }
    }

    /// Does every node that is up list every other that is up as alive?
    pub(crate) fn all_alive(&self) -> bool {
        let up = || (0..self.nodes.len()).filter(|n| self.nodes[*n].up);
        up().all(|a| up().all(|b| self.sees(a, b) == Some(State::Alive)))
    }

    pub(crate) fn sees(&self, a: usize, b: usize) -> Option<State> {
        self.nodes[a].engine.view().members.get(&self.nodes[b].id).map(|member| member.state)
    }

    /// Do all nodes that are up, but for the one itself, see `b` so?
    pub(crate) fn all_see(&self, b: usize, state: State) -> bool {
        (0..self.nodes.len()).filter(|a| self.nodes[*a].up && *a != b).all(|a| self.sees(a, b) == Some(state))
    }

    pub(crate) fn kill(&mut self, n: usize) {
        self.nodes[n].up = false;
        self.schedule(n);
    }

    /// Starts a node that was killed, in a higher generation, and lets it dial a seed.
    pub(crate) fn restart(&mut self, n: usize, generation: u32, seed: usize) {
        let (name, address) = (self.nodes[n].name.clone(), self.nodes[n].address);
        self.nodes[n].engine = self.engine(n, &name, address, Generation(generation));
        self.nodes[n].up = true;
        self.schedule(n);
        self.dial(n, seed);
    }

    pub(crate) fn gossip(&self, n: usize) -> SocketAddr {
        self.nodes[n].address.gossip()
    }

    /// Who sees whom how, for the message of a test that fails.
    pub(crate) fn table(&self) -> String {
        let row = |a: usize| -> String {
            let cell = |b| self.sees(a, b).map_or_else(|| "-".to_owned(), |state| state.to_string());
            let cells: Vec<String> = (0..self.nodes.len()).map(cell).collect();
            format!("\n{a}: {}", cells.join(" "))
        };
        (0..self.nodes.len()).map(row).collect()
    }
}
