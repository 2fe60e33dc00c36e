//! Requests over QUIC control streams: join, resolve, ping. Each is a few flights of packets and a deadline.

use std::time::Duration;

use prost::Message;
use starling_gossip::{Engine, Input, Sought};
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::scenario::Plane;
use super::world::{Happening, World};

/// A connection that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// A dial ends after this.
const CONNECT: Duration = Duration::from_secs(1);
/// And the whole of a request after so much more; `node` allows its answers a little longer.
const ANSWER: Duration = Duration::from_secs(3);
/// QUIC sends its first packet again after about this, and a later one after a few round trips.
const FIRST_AGAIN: Duration = Duration::from_millis(300);
const AGAIN: Duration = Duration::from_millis(50);
/// What the handshake of mutual TLS costs each side, in bytes.
const HANDSHAKE: usize = 3_000;
/// What a dial costs to which nobody answers: three packets of 1,200 bytes within its second.
const FIRST_PACKETS: usize = 3_600;
/// What a request or an answer costs beside its payload: headers and acknowledgements.
const OVERHEAD: usize = 150;

pub(super) enum Ask {
    Join(Box<v1::JoinState>),
    Resolve(Vec<NodeId>),
    Ping(v1::Ping),
    Keys(v1::KeyringState),
    Pull { owner: NodeId, keys: Vec<String> },
}

pub(super) enum Answer {
    Joined(Box<v1::JoinState>),
    Refused,
    Resolved(Vec<v1::MemberState>),
    Pong(v1::Pong),
    Keys(v1::KeyringState),
    Pulled(Vec<v1::SignedValue>),
}

/// A request without an answer so far.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) to: usize,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Seed,
    Admission,
    Resolve,
    Ping(NodeId),
    Keys,
    Pull(NodeId),
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Well,
    Refused,
    Unanswered,
}

/// A request on its way, or the answer to it.
pub(super) struct Parcel<T> {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Which process of the asking host waits for the answer.
    pub(super) boot: u32,
    pub(super) call: u64,
    pub(super) what: T,
    /// Did the peer's host take it in already?
    pub(super) taken: bool,
}

impl World {
    /// Asks another host something: what, it says once there is a connection.
    pub(super) fn ask(&mut self, from: usize, to: usize, what: impl FnOnce(&Self) -> Option<Ask>, why: Why) {
        self.calls += 1;
        let (call, boot) = (self.calls, self.hosts[from].boot);
        self.hosts[from].calls.insert(call, Pending { to, why });
        let connected = self.connect(from, to);
        let limit = connected.map_or(self.now + CONNECT, |at| at + ANSWER);
        self.queue.push(limit, Happening::Deadline { host: from, boot, call });
        let Some((at, what)) = connected.and_then(|at| Some((at, what(self)?))) else { return };
        self.ledger.traffic.control(from, OVERHEAD + what.encoded_len());
        if let Some(at) = self.flight(from, to, at, AGAIN, ANSWER) {
            let parcel = Parcel { from, to, boot, call, what, taken: false };
            self.queue.push(at, Happening::Request(Box::new(parcel)));
        }
    }

    /// When there is a connection: now, or after a handshake. `None` if there is no way, or nobody who would answer.
    fn connect(&mut self, from: usize, to: usize) -> Option<Duration> {
        if self.hosts[from].connections.get(&to).is_some_and(|used| self.now.saturating_sub(*used) < IDLE) {
            return Some(self.now);
        }
        let answers = self.hosts[to].runs() && !self.hosts[to].stalled && !self.hosts[from].stalled;
        let there = self.flight(from, to, self.now, FIRST_AGAIN, CONNECT).filter(|_| answers);
        let at = there.and_then(|at| self.flight(to, from, at, FIRST_AGAIN, CONNECT));
        let handshake = if at.is_some() { HANDSHAKE } else { FIRST_PACKETS };
        self.ledger.traffic.control(from, handshake);
        if there.is_some() {
            self.ledger.traffic.control(to, HANDSHAKE);
        }
        at
    }

    /// One packet, sent again until it arrives; `None` if that takes longer than `limit`.
    fn flight(
        &mut self,
        from: usize,
        to: usize,
        start: Duration,
        mut again: Duration,
        limit: Duration,
    ) -> Option<Duration> {
        let mut at = start;
        while at < start + limit {
            if let Some(arrives) = self.paths.carry(from, to, Plane::Quic, at, &mut self.rng) {
                return Some(arrives);
            }
            at += again;
            again *= 2;
        }
        None
    }

    pub(super) fn on_request(&mut self, mut parcel: Box<Parcel<Ask>>) {
        let (from, to) = (parcel.from, parcel.to);
        if !parcel.taken && matches!(parcel.what, Ask::Join(_)) {
            // Handshakes and states take the host's time, one after another.
            let free = self.hosts[to].busy_until.max(self.now) + self.accept;
            self.hosts[to].busy_until = free;
            parcel.taken = true;
            self.queue.push(free, Happening::Request(parcel));
            return;
        }
        let Some(what) = self.answer(from, to, parcel.what) else { return };
        self.hosts[to].connections.insert(from, self.now);
        self.ledger.traffic.control(to, OVERHEAD + what.encoded_len());
        if let Some(at) = self.flight(to, from, self.now, AGAIN, ANSWER) {
            let (boot, call) = (parcel.boot, parcel.call);
            let parcel = Parcel { from: to, to: from, boot, call, what, taken: false };
            self.queue.push(at, Happening::Reply(Box::new(parcel)));
        }
    }

    /// What a process answers; `None` if it ended over it.
    fn answer(&mut self, from: usize, to: usize, what: Ask) -> Option<Answer> {
        let asks = self.hosts[from].id;
        Some(match what {
            Ask::Join(state) => match self.feed(to, Input::Joined { peer: self.hosts[from].spiffe(), state: *state }) {
                Some(_) => Answer::Refused,
                None => Answer::Joined(self.join_state(to, from)?),
            },
            Ask::Resolve(ids) => Answer::Resolved(self.engine(to)?.resolve(&ids).members),
            Ask::Ping(ping) => {
                self.feed(to, Input::Pinged { from: asks, ping });
                Answer::Pong(self.engine(to)?.pong(Some(asks)))
            }
            Ask::Keys(state) => {
                self.feed(to, Input::Keys { from: Some(asks), state });
                Answer::Keys(self.engine(to)?.keyring_state())
            }
            Ask::Pull { owner, keys } => {
                let values = self.engine(to)?.catalog().values_of(owner);
                Answer::Pulled(values.filter(|value| keys.is_empty() || keys.contains(&value.key)).cloned().collect())
            }
        })
    }

    pub(super) fn on_reply(&mut self, parcel: Parcel<Answer>) {
        let (from, to) = (parcel.from, parcel.to);
        if self.hosts[to].boot != parcel.boot {
            return;
        }
        let Some(pending) = self.hosts[to].calls.remove(&parcel.call) else { return };
        self.hosts[to].connections.insert(from, self.now);
        let mut done = Done::Well;
        match parcel.what {
            Answer::Joined(state) => {
                let peer = self.hosts[from].spiffe();
                if self.feed(to, Input::Joined { peer, state: *state }).is_some() {
                    done = Done::Refused;
                }
            }
            Answer::Refused => done = Done::Refused,
            Answer::Resolved(members) => drop(self.feed(to, Input::Resolved { members })),
            Answer::Keys(state) => {
                let from = Some(self.hosts[from].id);
                self.feed(to, Input::Keys { from, state });
            }
            Answer::Pulled(values) => {
                if let Why::Pull(owner) = pending.why {
                    for value in values {
                        let (key, value) = (value.key.clone(), value.encode_to_vec().into());
                        self.feed(to, Input::Value { owner, key, value });
                    }
                }
            }
            Answer::Pong(pong) => {
                if let Why::Ping(node) = pending.why {
                    self.feed(to, Input::Pong { node, pong: Some(pong) });
                }
            }
        }
        self.on_done(to, &pending, done);
    }

    pub(super) fn on_deadline(&mut self, host: usize, boot: u32, call: u64) {
        if self.hosts[host].boot == boot
            && let Some(pending) = self.hosts[host].calls.remove(&call)
        {
            self.hosts[host].connections.remove(&pending.to);
            self.on_done(host, &pending, Done::Unanswered);
        }
    }

    fn on_done(&mut self, host: usize, pending: &Pending, done: Done) {
        match pending.why {
            Why::Seed => {
                let sought = match done {
                    Done::Well => Sought::Admitted,
                    Done::Refused => Sought::Refused,
                    Done::Unanswered if self.state_of(host, pending.to).is_some() => Sought::Lost,
                    Done::Unanswered => Sought::Silent,
                };
                self.on_sought(host, pending.to, sought);
            }
            Why::Admission => drop(self.hosts[host].joining.remove(&pending.to)),
            Why::Ping(node) if done == Done::Unanswered => drop(self.feed(host, Input::Pong { node, pong: None })),
            Why::Resolve | Why::Ping(_) | Why::Keys | Why::Pull(_) => {}
        }
    }

    fn engine(&self, n: usize) -> Option<&Engine> {
        self.hosts[n].engine.as_ref()
    }

    /// What `of` tells `receiver` when they join; `None` if its process is gone.
    pub(super) fn join_state(&self, of: usize, receiver: usize) -> Option<Box<v1::JoinState>> {
        let host = &self.hosts[of];
        let mut state = Box::new(host.engine.as_ref()?.join_state(Some(self.hosts[receiver].id)));
        state.clock = u64::try_from(host.wall(self.now).max(0)).unwrap_or_default() * 1_000;
        Some(state)
    }
}

impl Ask {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Join(state) => state.encoded_len(),
            Self::Resolve(ids) => ids.len() * 18,
            Self::Ping(ping) => ping.encoded_len(),
            Self::Keys(state) => state.encoded_len(),
            Self::Pull { keys, .. } => 18 + keys.iter().map(|key| key.len() + 2).sum::<usize>(),
        }
    }
}

impl Answer {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Joined(state) => state.encoded_len(),
            Self::Refused => 100,
            Self::Resolved(members) => members.iter().map(Message::encoded_len).sum(),
            Self::Pong(pong) => pong.encoded_len(),
            Self::Keys(state) => state.encoded_len(),
            Self::Pulled(values) => values.iter().map(Message::encoded_len).sum(),
        }
    }
}
