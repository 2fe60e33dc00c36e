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
    /// What is done about a connection that stands in for a better one.
    pub(super) better: Better,
    better_failures: u32,
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

/// The way back to the better carrier.
///
/// ```text
/// Idle -- a connection stands in --> Waiting -- it is time --> Dialing -- made --> Idle
///   \<----- no connection does -------/  ^-------- failed -------/
/// ```
#[derive(Debug, Clone, Copy)]
pub(super) enum Better {
    /// No connection stands in.
    Idle,
    /// To be dialed then.
    Waiting { until: Instant },
    /// Being dialed there.
    Dialing { address: SocketAddr },
}

#[derive(Debug)]
struct Held<L> {
    number: u64,
    link: L,
    address: SocketAddr,
    since: Instant,
    /// Since when it was seen to be silent.
    silent_since: Option<Instant>,
}

impl<L: Link, E> Peer<L, E> {
    pub(super) fn new(address: SocketAddr, now: Instant) -> Self {
        Self {
            address,
            warm: false,
            wanted: false,
            used: now,
            dial: Dial::Idle,
            better: Better::Idle,
            better_failures: 0,
            failures: 0,
            links: Vec::new(),
        }
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

    /// A connection to hand out.
    pub(super) fn usable(&self) -> Option<&L> {
        self.best().map(|held| &held.link)
    }

    /// The newest that works, where the peer is now; one that stands in for a better one only if there is no other.
    fn best(&self) -> Option<&Held<L>> {
        let newest = |may_stand_in: bool| {
            let serves = |held: &&Held<L>| held.works() && held.address == self.address;
            self.links.iter().rev().find(|held| serves(held) && (may_stand_in || !held.link.stands_in()))
        };
        newest(false).or_else(|| newest(true))
    }

    /// Sees to it that the better carrier is tried while another stands in for it.
    pub(super) fn plan_better(&mut self, now: Instant, settings: &Settings) {
        let stands_in = self.best().is_some_and(|held| held.link.stands_in());
        self.better = match self.better {
            Better::Idle if stands_in => Better::Waiting { until: now + settings.better_min },
            Better::Waiting { .. } if !stands_in => Better::Idle,
            other => other,
        };
        if matches!(self.better, Better::Idle) {
            self.better_failures = 0;
        }
    }

    /// The better carrier passes, as others found.
    pub(super) fn hasten_better(&mut self, now: Instant) {
        if matches!(self.better, Better::Waiting { .. }) {
            self.better = Better::Waiting { until: now };
        }
    }

    /// Begins the dial with the better carrier, if it is time for it.
    pub(super) fn begin_better(&mut self, now: Instant) -> Option<SocketAddr> {
        let Better::Waiting { until } = self.better else { return None };
        (now >= until).then(|| {
            self.better = Better::Dialing { address: self.address };
            self.address
        })
    }

    /// The dial with the better carrier failed.
    pub(super) fn better_failed(&mut self, jitter: f64, now: Instant, settings: &Settings) {
        self.better_failures += 1;
        let doubled = settings.better_min * 2_u32.saturating_pow(self.better_failures.min(16));
        let wait = doubled.min(settings.better_max).mul_f64(0.75 + jitter / 2.0);
        self.better = Better::Waiting { until: now + wait };
    }

    /// Takes out a connection that has been silent for long, also since another carrier reaches the peer: what waits on it waits
    /// for a path that is gone, not for a peer that is slow.
    pub(super) fn given_up(&mut self, now: Instant, settings: &Settings) -> Option<(u64, L)> {
        for held in &mut self.links {
            held.silent_since = held.link.is_silent().then(|| held.silent_since.unwrap_or(now));
        }
        let (index, _) = self.giving_up(settings).find(|(_, at)| now >= *at)?;
        let held = self.links.remove(index);
        Some((held.number, held.link))
    }

    /// Connections that are silent where another carrier is not, by their place, and when to give them up.
    fn giving_up(&self, settings: &Settings) -> impl Iterator<Item = (usize, Instant)> {
        let reached = self.best().map(|best| (best.link.stands_in(), best.since + settings.reached));
        self.links.iter().enumerate().filter_map(move |(index, held)| {
            let (by_stand_in, reached) = reached?;
            let since = held.silent_since.filter(|_| held.link.stands_in() != by_stand_in)?;
            Some((index, reached.max(since + settings.given_up)))
        })
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
        self.links.push(Held { number, link, address, since: now, silent_since: None });
    }

    /// Takes out what is no longer needed beside the usable connection: others that work, and ones to an address
    /// that the peer has left. A silent one stays: it may heal, and its requests with it.
    pub(super) fn replaced(&mut self) -> Vec<u64> {
        let Some(best) = self.best() else { return Vec::new() };
        let (keep, address) = (best.number, self.address);
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
        self.links.is_empty() && !self.is_dialing()
    }

    fn is_dialing(&self) -> bool {
        matches!(self.dial, Dial::Dialing { .. }) || matches!(self.better, Better::Dialing { .. })
    }

    /// When this peer needs a look; `may_dial`: one more dial is allowed.
    pub(super) fn timeout(&self, settings: &Settings, may_dial: bool) -> Option<Instant> {
        let retry = match &self.dial {
            Dial::Waiting { until, .. } if may_dial && (self.warm || self.wanted) && self.usable().is_none() => {
                Some(*until)
            }
            _ => None,
        };
        let better = match self.better {
            Better::Waiting { until } if may_dial => Some(until),
            _ => None,
        };
        let forget = (!self.warm && !self.is_dialing()).then(|| self.used + settings.idle);
        let given_up = self.giving_up(settings).map(|(_, at)| at).min();
        [retry, better, given_up, forget].into_iter().flatten().min()
    }
}

impl<L: Link> Held<L> {
    fn works(&self) -> bool {
        !self.link.is_silent() && !self.link.is_leaving()
    }
}
