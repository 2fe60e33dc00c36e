//! What is between the nodes: delays, losses, cuts, and processes that stand still.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::{World, spiffe};
use crate::Input;

pub(super) enum Happening {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// The dialer's state arrives at the responder.
    Join {
        from: usize,
        to: usize,
        state: v1::JoinState,
    },
    /// The responder's state arrives at the dialer.
    Answer {
        from: usize,
        to: usize,
        state: v1::JoinState,
    },
    Resolve {
        from: usize,
        to: usize,
        ids: Vec<NodeId>,
    },
    Resolved {
        to: usize,
        members: Vec<v1::MemberState>,
    },
    /// Group keys for `to`, which answers with its own if it is asked to.
    Keys {
        from: usize,
        to: usize,
        state: v1::KeyringState,
        ask: bool,
    },
    Pull {
        from: usize,
        to: usize,
        owner: NodeId,
        keys: Vec<String>,
    },
    Pulled {
        to: usize,
        owner: NodeId,
        values: Vec<v1::SignedValue>,
    },
    Ping {
        from: usize,
        to: usize,
        ping: v1::Ping,
    },
    Pong {
        from: NodeId,
        to: usize,
        pong: Option<v1::Pong>,
    },
}

impl World {
    pub(crate) fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        assert!(bytes.len() <= 1_232);
        if let Some(tap) = &mut self.tap {
            tap.push((from, to, bytes.clone()));
        }
        if self.loss == 0.0 || !self.rng.random_bool(self.loss) {
            self.later(Happening::Datagram { from, to, bytes });
        }
    }

    pub(super) fn later(&mut self, happening: Happening) {
        let delay = Duration::from_micros(self.rng.random_range(100..2_000));
        self.arrivals += 1;
        self.queue.insert((self.now + delay, self.arrivals), happening);
    }

    /// Exchanges states, if the path is open.
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        if self.no_connections {
            return;
        }
        let receiver = Some(self.nodes[to].id);
        let state = self.nodes[from].engine.join_state(receiver);
        self.later(Happening::Join { from, to, state });
    }

    /// Asks over a connection, if the path is open. A dial that fails takes a second to.
    pub(super) fn ping(&mut self, from: usize, at: SocketAddr, ping: v1::Ping) {
        let Some(to) = self.at(at) else { return };
        if self.open(from, to) && !self.no_connections && !self.is_lost(to) {
            return self.later(Happening::Ping { from, to, ping });
        }
        let failed = Happening::Pong { from: self.nodes[to].id, to: from, pong: None };
        self.arrivals += 1;
        self.queue.insert((self.now + Duration::from_secs(1), self.arrivals), failed);
    }

    pub(super) fn open(&self, a: usize, b: usize) -> bool {
        let runs = |n: usize| self.nodes[n].up && !self.suspended.contains_key(&n);
        runs(a) && runs(b) && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Does what arrives at one that loses packets get lost this time?
    fn is_lost(&mut self, to: usize) -> bool {
        self.lossy.get(&to).is_some_and(|share| self.rng.random_bool(*share))
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from.min(to), from.max(to))) && !self.deaf.contains(&(from, to)) && self.nodes[from].up
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { from, to, bytes } => {
                let Some(n) = self.indices.get(&to.ip()).copied() else { return };
                let sender = self.indices.get(&from.ip()).copied();
                let passes = sender.is_none_or(|sender| self.passes(sender, n) || sender == n) && !self.is_lost(n);
                match self.suspended.get_mut(&n) {
                    _ if !self.nodes[n].up || !passes => {}
                    // As many as a socket's buffer holds.
                    Some(waiting) if waiting.len() < 256 => waiting.push((from, bytes)),
                    Some(_) => {}
                    None => self.input(n, Input::Datagram { from, bytes }),
                }
            }
            Happening::Join { from, to, state } if self.open(from, to) => {
                let refused = self.nodes[to].refused.len();
                let peer = spiffe(&self.nodes[from].name);
                self.input(to, Input::Joined { peer, state });
                if self.nodes[to].refused.len() == refused {
                    let state = self.nodes[to].engine.join_state(Some(self.nodes[from].id));
                    self.later(Happening::Answer { from: to, to: from, state });
                }
            }
            Happening::Answer { from, to, state } if self.open(from, to) => {
                let peer = spiffe(&self.nodes[from].name);
                self.input(to, Input::Joined { peer, state });
            }
            Happening::Resolve { from, to, ids } if self.open(from, to) => {
                let members = self.nodes[to].engine.resolve(&ids).members;
                self.later(Happening::Resolved { to: from, members });
            }
            Happening::Ping { from, to, ping } if self.open(from, to) => {
                self.input(to, Input::Pinged { from: self.nodes[from].id, ping });
                let pong = Some(self.nodes[to].engine.pong(Some(self.nodes[from].id)));
                self.later(Happening::Pong { from: self.nodes[to].id, to: from, pong });
            }
            Happening::Pong { from, to, pong } if self.nodes[to].up => {
                self.input(to, Input::Pong { node: from, pong });
            }
            Happening::Pull { from, to, owner, keys } if self.open(from, to) => {
                let values = self.nodes[to].engine.pulled(owner, &keys);
                self.later(Happening::Pulled { to: from, owner, values });
            }
            Happening::Pulled { to, owner, values } if self.nodes[to].up => {
                for value in values {
                    let (key, value) = (value.key.clone(), value.encode_to_vec().into());
                    self.input(to, Input::Value { owner, key, value });
                }
            }
            Happening::Keys { from, to, state, ask } if self.open(from, to) => self.take_keys(from, to, state, ask),
            Happening::Resolved { to, members } if self.nodes[to].up => {
                self.input(to, Input::Resolved { members });
            }
            _ => {}
        }
    }

    /// What anti-entropy does in the end: everyone has what every other that it sees has of its own.
    pub(crate) fn level(&mut self) {
        // Whoever just joined has not said by a packet what it has.
        self.run_for(Duration::from_secs(3));
        for n in 0..self.nodes.len() {
            for (owner, at) in self.nodes[n].engine.differing() {
                let Some(of) = self.at(at).filter(|of| self.nodes[*of].up) else { continue };
                for value in self.nodes[of].engine.pulled(owner, &[]) {
                    let (key, value) = (value.key.clone(), value.encode_to_vec().into());
                    self.input(n, Input::Value { owner, key, value });
                }
            }
        }
    }

    /// Cuts every path between the two groups.
    pub(crate) fn cut(&mut self, group: &[usize], other: &[usize]) {
        for a in group {
            self.cut.extend(other.iter().map(|b| (*a.min(b), *a.max(b))));
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Datagrams of these to those get lost; connections work, since QUIC finds its way.
    pub(crate) fn deafen(&mut self, from: &[usize], to: &[usize]) {
        for a in from {
            self.deaf.extend(to.iter().map(|b| (*a, *b)));
        }
    }

    /// Stops a process where it is, as SIGSTOP does.
    pub(crate) fn suspend(&mut self, n: usize) {
        self.suspended.insert(n, Vec::new());
        self.schedule(n);
    }

    /// Lets it go on: it reads what its socket kept for it.
    pub(crate) fn resume(&mut self, n: usize) {
        let waiting = self.suspended.remove(&n).unwrap_or_default();
        self.schedule(n);
        for (from, bytes) in waiting {
            self.input(n, Input::Datagram { from, bytes });
        }
    }
}
