//! Which peers a shard should be connected to, and what to do next. No IO, no clock, no randomness.

mod peer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use starling_proto::SpiffeId;

use self::peer::{Better, Dial, Peer};

/// What the machine wants to know of a connection.
pub(crate) trait Link: Clone {
    /// Nothing comes though something is due.
    fn is_silent(&self) -> bool;
    /// The peer wants no more streams.
    fn is_leaving(&self) -> bool;
    /// It serves only since a better carrier did not: one is to be tried again.
    fn stands_in(&self) -> bool;
}

/// Times and bounds.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Dials at a time.
    pub(crate) dials: usize,
    /// Wait after the first failure; doubled with each further one.
    pub(crate) backoff_min: Duration,
    /// The longest wait.
    pub(crate) backoff_max: Duration,
    /// A connection that ends sooner counts as a failure.
    pub(crate) settled: Duration,
    /// Connections to peers that are not kept warm are closed when unused for so long.
    pub(crate) idle: Duration,
    /// Where a connection stands in for a better one, that is tried again after this; doubled with each failure.
    pub(crate) better_min: Duration,
    /// The longest wait before it is tried again.
    pub(crate) better_max: Duration,
    /// A silent connection is given up after this, if another carrier still reaches the peer.
    pub(crate) given_up: Duration,
    /// ... and if that reaches it for so long. A peer that has too much to do hears a new connection as late as the old one.
    pub(crate) reached: Duration,
}

/// What the caller of [`Machine::handle_request`] should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<L, E> {
    /// Use this.
    Ready(L),
    /// It is being dialed: ask again after the next change.
    Wait,
    /// Dialing failed a moment ago, with this.
    Failed(E),
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output<L> {
    /// Dial, and tell the outcome under this number.
    Dial { number: u64, spiffe: SpiffeId, address: SocketAddr },
    /// Dial with the better carrier and no other, and tell the outcome under this number.
    DialBetter { number: u64, spiffe: SpiffeId, address: SocketAddr },
    /// Let go of a connection: its streams may finish.
    Retire { number: u64 },
    /// Close a connection: its streams wait for nothing.
    Close { number: u64, link: L },
}

/// The machine. `L` is a connection, `E` why a dial failed.
#[derive(Debug)]
pub(crate) struct Machine<L, E> {
    settings: Settings,
    peers: BTreeMap<SpiffeId, Peer<L, E>>,
    dialing: usize,
    next: u64,
    retired: Vec<u64>,
}

impl<L: Link, E: Clone> Machine<L, E> {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, peers: BTreeMap::new(), dialing: 0, next: 0, retired: Vec::new() }
    }

    /// Keeps these connected from now on, and only these. One that is new among them is dialed at once, whatever its
    /// dials came to before: there is news of it.
    pub(crate) fn handle_warm(&mut self, targets: impl IntoIterator<Item = (SpiffeId, SocketAddr)>, now: Instant) {
        let before: BTreeSet<SpiffeId> =
            self.peers.iter().filter(|(_, peer)| peer.warm).map(|(spiffe, _)| spiffe.clone()).collect();
        for peer in self.peers.values_mut() {
            peer.warm = false;
        }
        for (spiffe, address) in targets {
            let is_new = !before.contains(&spiffe);
            let peer = self.peers.entry(spiffe).or_insert_with(|| Peer::new(address, now));
            peer.set_address(address);
            peer.warm = true;
            if is_new {
                peer.forget_failures();
            }
        }
    }

    /// Somebody wants a connection. The fast path: allocates nothing when one is ready.
    pub(crate) fn handle_request(&mut self, spiffe: &SpiffeId, address: SocketAddr, now: Instant) -> Answer<L, E> {
        let Some(peer) = self.peers.get_mut(spiffe) else {
            let mut peer = Peer::new(address, now);
            peer.wanted = true;
            self.peers.insert(spiffe.clone(), peer);
            return Answer::Wait;
        };
        peer.set_address(address);
        peer.used = now;
        if let Some(link) = peer.usable() {
            return Answer::Ready(link.clone());
        }
        match &peer.dial {
            Dial::Waiting { until, error } if now < *until => Answer::Failed(error.clone()),
            _ => {
                peer.wanted = true;
                Answer::Wait
            }
        }
    }

    /// A dial succeeded. Connections that it replaces are retired.
    pub(crate) fn handle_connected(&mut self, spiffe: &SpiffeId, number: u64, link: L, now: Instant) {
        self.dialing = self.dialing.saturating_sub(1);
        let Some(peer) = self.peers.get_mut(spiffe) else { return self.retired.push(number) };
        let Dial::Dialing { address } = peer.dial else { return self.retired.push(number) };
        peer.dial = Dial::Idle;
        peer.wanted = false;
        peer.add(number, link, address, now);
        self.retired.extend(peer.replaced());
    }

    /// A dial with the better carrier ended. `jitter` in 0..1 spreads the next try.
    pub(crate) fn handle_better(&mut self, spiffe: &SpiffeId, number: u64, link: Option<L>, jitter: f64, now: Instant) {
        self.dialing = self.dialing.saturating_sub(1);
        let Some(peer) = self.peers.get_mut(spiffe) else { return self.retired.extend(link.map(|_| number)) };
        let Better::Dialing { address } = peer.better else { return self.retired.extend(link.map(|_| number)) };
        match link {
            Some(link) => {
                peer.better = Better::Idle;
                peer.add(number, link, address, now);
                self.retired.extend(peer.replaced());
            }
            None => peer.better_failed(jitter, now, &self.settings),
        }
    }

    /// The better carrier was found to pass to some peers, and not to these. Where another stands in, it is tried at once.
    pub(crate) fn handle_paths(&mut self, is_blocked: impl Fn(SocketAddr) -> bool, now: Instant) {
        for peer in self.peers.values_mut().filter(|peer| !is_blocked(peer.address)) {
            peer.hasten_better(now);
        }
    }

    /// A dial failed. `jitter` in 0..1 spreads the next try.
    pub(crate) fn handle_failed(&mut self, spiffe: &SpiffeId, error: E, jitter: f64, now: Instant) {
        self.dialing = self.dialing.saturating_sub(1);
        if let Some(peer) = self.peers.get_mut(spiffe) {
            peer.back_off(error, jitter, now, &self.settings);
        }
    }

    /// A connection is gone, for this reason.
    pub(crate) fn handle_closed(&mut self, spiffe: &SpiffeId, number: u64, error: E, jitter: f64, now: Instant) {
        let Some(peer) = self.peers.get_mut(spiffe) else { return };
        let Some(lasted) = peer.remove(number, now, self.settings.settled) else { return };
        if !lasted && peer.usable().is_none() && matches!(peer.dial, Dial::Idle) {
            peer.back_off(error, jitter, now, &self.settings);
        }
    }

    /// Time passed, or a connection changed: all that is due now.
    pub(crate) fn poll_outputs(&mut self, now: Instant) -> Vec<Output<L>> {
        let mut outputs = Vec::new();
        for peer in self.peers.values_mut() {
            while let Some((number, link)) = peer.given_up(now, &self.settings) {
                outputs.push(Output::Close { number, link });
            }
            self.retired.extend(peer.replaced());
            if !peer.warm && now >= peer.used + self.settings.idle {
                self.retired.extend(peer.clear());
            }
            peer.plan_better(now, &self.settings);
        }
        let idle = self.settings.idle;
        self.peers.retain(|_, peer| peer.warm || !peer.is_blank() || now < peer.used + idle);
        outputs.extend(self.retired.drain(..).map(|number| Output::Retire { number }));
        // Who is waited for comes first.
        for wanted in [true, false] {
            for (spiffe, peer) in &mut self.peers {
                if self.dialing >= self.settings.dials {
                    return outputs;
                }
                if peer.wanted == wanted && peer.needs_dial(now) {
                    let (number, address) = (self.next, peer.address);
                    peer.begin_dial(now, self.settings.settled);
                    self.next += 1;
                    self.dialing += 1;
                    outputs.push(Output::Dial { number, spiffe: spiffe.clone(), address });
                }
            }
        }
        for (spiffe, peer) in &mut self.peers {
            if self.dialing >= self.settings.dials {
                break;
            }
            if let Some(address) = peer.begin_better(now) {
                let number = self.next;
                self.next += 1;
                self.dialing += 1;
                outputs.push(Output::DialBetter { number, spiffe: spiffe.clone(), address });
            }
        }
        outputs
    }

    /// When to call [`Self::poll_outputs`] again, if nothing happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let may_dial = self.dialing < self.settings.dials;
        self.peers.values().filter_map(|peer| peer.timeout(&self.settings, may_dial)).min()
    }

    /// Peers with a connection that works.
    pub(crate) fn linked(&self) -> impl Iterator<Item = &SpiffeId> {
        self.peers.iter().filter(|(_, peer)| peer.is_linked()).map(|(spiffe, _)| spiffe)
    }

    /// Is it known that a request for this peer would have to wait: no connection works, and a dial is under way or has
    /// failed?
    pub(crate) fn is_unusable(&self, spiffe: &SpiffeId) -> bool {
        self.peers.get(spiffe).is_some_and(|peer| peer.usable().is_none())
    }

    /// Connected, but nothing comes on any connection?
    pub(crate) fn is_silent(&self, spiffe: &SpiffeId) -> bool {
        self.peers.get(spiffe).is_some_and(Peer::is_silent)
    }

    /// The connections to this peer that are not known to be silent.
    pub(crate) fn speaking(&self, spiffe: &SpiffeId) -> Vec<L> {
        self.peers.get(spiffe).into_iter().flat_map(Peer::speaking).cloned().collect()
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.peers.clear();
        self.dialing = 0;
    }
}
