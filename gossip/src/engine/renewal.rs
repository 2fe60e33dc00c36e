use std::time::Instant;

use foca::{Identity as _, Member, State};
use rand::SeedableRng;
use rand::rngs::StdRng;
use starling_proto::{Generation, MemberIdentity};

use super::{Engine, Output};
use crate::Event;
use crate::catalog::Catalog;
use crate::swim::SwimIdentity;

/// Numbers of `rejoin` are reserved on disk this many at a time.
const REJOIN_BLOCK: u16 = 16;
/// From this incarnation on the identity is renewed instead.
const LAST_REFUTATION: u16 = u16::MAX - 1;

/// When the node may renew its identity.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    last: Option<Instant>,
    /// Others hold the node for dead, but it is too early to renew again.
    pub(super) due: Option<Instant>,
    refuted: Option<Instant>,
    /// Was the generation raised above what the mesh remembered?
    raised: bool,
}

impl Engine {
    /// Others hold this node's identity for dead: it takes a new one, now or when it may.
    pub(super) fn want_renewal(&mut self, now: Instant) {
        if self.me.leaving {
            return;
        }
        let allowed = self.renewal.last.map_or(now, |last| last + self.timings.renewal_gap);
        if allowed <= now {
            self.renew(now);
        } else {
            self.renewal.due = Some(allowed);
        }
    }

    /// Renews if the time for it has come.
    pub(super) fn renew_if_due(&mut self, now: Instant) {
        if self.renewal.due.is_some_and(|due| due <= now) {
            self.want_renewal(now);
        }
    }

    /// Others suspect this node's current identity: foca raises the incarnation and says so. At most once in a probe
    /// period, since several tell it at once and each refutation takes a number.
    pub(super) fn refute(&mut self, now: Instant) {
        let early = self.renewal.refuted.is_some_and(|last| last + self.timings.probe_period > now);
        if early || self.me.leaving {
            return;
        }
        self.renewal.refuted = Some(now);
        if self.membership.incarnation() >= LAST_REFUTATION {
            // Foca would renew at the last number, without asking whether it is time.
            return self.want_renewal(now);
        }
        let update = Member::new(SwimIdentity(self.me.identity), self.membership.incarnation(), State::Suspect);
        self.membership.apply(update, now);
    }

    fn renew(&mut self, now: Instant) {
        self.renewal.last = Some(now);
        self.renewal.due = None;
        let Some(renewed) = SwimIdentity(self.me.identity).renew() else {
            // All numbers of this generation are used up.
            return self.take_generation(Generation(self.me.identity.generation.0.saturating_add(1)), now);
        };
        self.take_identity(renewed.0, now);
        self.emit(Event::Renewed { rejoin: renewed.0.rejoin });
    }

    /// The mesh remembers a higher generation than ours: we start above it. Once; if it is higher again after that,
    /// another node runs with our key, and the two must not outbid each other for ever.
    pub(super) fn raise_generation(&mut self, remembered: Generation, now: Instant) {
        if self.renewal.raised {
            self.emit(Event::KeyInUse { generation: remembered });
        } else {
            self.renewal.raised = true;
            self.take_generation(Generation(remembered.0.saturating_add(1)), now);
        }
    }

    /// All that was signed in the generation before is void, and is signed anew.
    fn take_generation(&mut self, to: Generation, now: Instant) {
        let from = self.me.identity.generation;
        if to <= from || self.me.leaving {
            return;
        }
        self.take_identity(MemberIdentity { generation: to, rejoin: 0, ..self.me.identity }, now);
        let node = self.me.node();
        let values: Vec<_> = self.catalog.values().cloned().collect();
        self.catalog = Catalog::new(node, to);
        for value in values {
            if value.owner[..] == node.as_bytes()[..] {
                if !value.withdrawn {
                    self.register(&value.key, value.body, now);
                }
            } else {
                let _ = self.merge_record(&value);
            }
        }
        self.emit(Event::GenerationRaised { from, to });
    }

    fn take_identity(&mut self, identity: MemberIdentity, now: Instant) {
        self.me.identity = identity;
        if identity.rejoin >= self.me.rejoin_reserved || identity.rejoin == 0 {
            self.me.rejoin_reserved = identity.rejoin.saturating_add(REJOIN_BLOCK);
            self.publish.remember_own = true;
        }
        let rng = StdRng::from_rng(&mut self.rng);
        self.membership.renew(identity, rng, now);
        self.publish.changed = true;
    }

    /// Tells a peer directly of our identity.
    pub(super) fn announce_to(&mut self, identity: MemberIdentity, now: Instant) {
        self.membership.announce(identity, now);
    }

    /// Asks a peer at an address to exchange states.
    pub(super) fn dial(&mut self, identity: &MemberIdentity) {
        self.out.push(Output::Dial { node: Some(identity.node_id), at: identity.address.quic() });
    }
}
