use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Link, Settings};

/// One peer: where it is, how it is connected, what is being done about it.
#[derive(Debug)]
pub(super) struct Peer<L, E> {
    pub(super) address: SocketAddr,
    /// Its connection is kept even when nobody asks.
    pub(super) warm: bool,
    /// Somebody waits for a connection.
    pub(super) wanted: bool,
    /// When it was last asked for.
    pub(super) used: Instant,
    pub(super) dial: Dial<E>,
    failures: u32,
    /// Oldest first. Seldom more than one.
    links: Vec<Held<L>>,
}

#[derive(Debug)]
pub(super) enum Dial<E> {
    Idle,
    Dialing { address: SocketAddr },
    Waiting { until: Instant, error: E },
}

#[derive(Debug)]
struct Held<L> {
    number: u64,
    link: L,
    address: SocketAddr,
    since: Instant,
}

impl<L: Link, E> Peer<L, E> {
    pub(super) fn new(address: SocketAddr, now: Instant) -> Self {
        Self { address, warm: false, wanted: false, used: now, dial: Dial::Idle, failures: 0, links: Vec::new() }
    }

    /// The peer is here now. What it did at another address says nothing.
    pub(super) fn set_address(&mut self, address: SocketAddr) {
        if self.address != address {
            self.address = address;
            self.forget_failures();
        }
    }

    /// What dials came to says nothing any more: the next one is due now.
    pub(super) fn forget_failures(&mut self) {
        self.failures = 0;
        if matches!(self.dial, Dial::Waiting { .. }) {
            self.dial = Dial::Idle;
        }
    }

    /// All connections that are not known to be silent.
    pub(super) fn speaking(&self) -> impl Iterator<Item = &L> {
        self.links.iter().map(|held| &held.link).filter(|link| !link.is_silent())
    }

    /// A connection to hand out: the newest that works, where the peer is now.
    pub(super) fn usable(&self) -> Option<&L> {
        self.links.iter().rev().find(|held| held.works() && held.address == self.address).map(|held| &held.link)
    }

    pub(super) fn is_linked(&self) -> bool {
        self.links.iter().any(Held::works)
    }

    pub(super) fn is_silent(&self) -> bool {
        !self.links.is_empty() && self.links.iter().all(|held| held.link.is_silent())
    }

    pub(super) fn needs_dial(&self, now: Instant) -> bool {
        let may = match &self.dial {
            Dial::Idle => true,
            Dial::Waiting { until, .. } => now >= *until,
            Dial::Dialing { .. } => false,
        };
        may && (self.warm || self.wanted) && self.usable().is_none()
    }

    pub(super) fn add(&mut self, number: u64, link: L, address: SocketAddr, now: Instant) {
        self.links.push(Held { number, link, address, since: now });
    }

    /// Takes out what is no longer needed beside the usable connection: older ones that work, and ones to an address
    /// that the peer has left. A silent one stays: it may heal, and its requests with it.
    pub(super) fn replaced(&mut self) -> Vec<u64> {
        let Some(newest) = self.links.iter().rfind(|held| held.works() && held.address == self.address) else {
            return Vec::new();
        };
        let (keep, address) = (newest.number, self.address);
        self.take(|held| held.number != keep && (held.address != address || !held.link.is_silent()))
    }

    /// Takes out all.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.take(|_| true)
    }

    fn take(&mut self, out: impl Fn(&Held<L>) -> bool) -> Vec<u64> {
        let taken = self.links.iter().filter(|held| out(held)).map(|held| held.number).collect();
        self.links.retain(|held| !out(held));
        taken
    }

    /// Forgets a connection that is gone; says whether it had lasted.
    pub(super) fn remove(&mut self, number: u64, now: Instant, settled: Duration) -> Option<bool> {
        let index = self.links.iter().position(|held| held.number == number)?;
        let lasted = now >= self.links.remove(index).since + settled;
        if lasted && matches!(self.dial, Dial::Idle) {
            self.failures = 0;
        }
        Some(lasted)
    }

    pub(super) fn back_off(&mut self, error: E, jitter: f64, now: Instant, settings: &Settings) {
        // A dial to where the peer no longer is says nothing of where it is.
        if matches!(self.dial, Dial::Dialing { address } if address != self.address) {
            self.dial = Dial::Idle;
            return;
        }
        let doubled = settings.backoff_min * 2_u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        self.wanted = false;
        let wait = doubled.min(settings.backoff_max).mul_f64(0.75 + jitter / 2.0);
        self.dial = Dial::Waiting { until: now + wait, error };
    }

    /// Begins a dial. Failures before a connection that lasted are forgotten, unless this goes on with them.
    pub(super) fn begin_dial(&mut self, now: Instant, settled: Duration) {
        if matches!(self.dial, Dial::Idle) && self.links.iter().any(|held| now >= held.since + settled) {
            self.failures = 0;
        }
        self.dial = Dial::Dialing { address: self.address };
    }

    pub(super) fn is_blank(&self) -> bool {
        self.links.is_empty() && !matches!(self.dial, Dial::Dialing { .. })
    }

    /// When this peer needs a look; `may_dial`: one more dial is allowed.
    pub(super) fn timeout(&self, idle: Duration, may_dial: bool) -> Option<Instant> {
        let retry = match &self.dial {
            Dial::Waiting { until, .. } if may_dial && (self.warm || self.wanted) && self.usable().is_none() => {
                Some(*until)
            }
            _ => None,
        };
        let forget = (!self.warm && !matches!(self.dial, Dial::Dialing { .. })).then(|| self.used + idle);
        retry.into_iter().chain(forget).min()
    }
}

impl<L: Link> Held<L> {
    fn works(&self) -> bool {
        !self.link.is_silent() && !self.link.is_leaving()
    }
}
