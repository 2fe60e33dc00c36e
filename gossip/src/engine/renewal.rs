use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foca::{Identity as _, Member, State};
use rand::SeedableRng;
use rand::rngs::StdRng;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::{Engine, Output};
use crate::Event;
use crate::catalog::Catalog;
use crate::hearsay::MAX_LEAP;
use crate::lifeguard::Sign;
use crate::swim::SwimIdentity;

/// Numbers of `rejoin` are reserved on disk this many at a time.
const REJOIN_BLOCK: u16 = 16;
/// From this incarnation on the identity is renewed instead.
const LAST_REFUTATION: u16 = u16::MAX - 1;

/// A member that was told that this node is there knows it by then.
const LISTENS: Duration = Duration::from_secs(2);
/// One that has not said so for this long has changed its mind.
const TOLD_FOR: Duration = Duration::from_secs(10);
/// So many that do not listen make this node renew its identity; in a small mesh one does.
const DEAF: usize = 2;
const SMALL: usize = 4;
/// One member's suspicion counts against this node's own health at most once in this time.
const SUSPECTS_FOR: Duration = Duration::from_secs(30);
/// Another node with this node's key is told of at most once in this time.
const TWIN_PAUSE: Duration = Duration::from_mins(1);

/// When the node may renew its identity.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    last: Option<Instant>,
    /// Others hold the node for dead, but it is too early to renew again.
    pub(super) due: Option<Instant>,
    refuted: Option<Instant>,
    /// Who said that this node is down, and since when.
    told: BTreeMap<NodeId, (Instant, Instant)>,
    /// Whose suspicions counted against this node's own health, and when.
    suspecting: BTreeMap<NodeId, Instant>,
    /// Was the generation raised above what the mesh remembered?
    raised: bool,
    /// When a member last said that another node has this one's key.
    twin_told: Option<Instant>,
}

impl Renewal {
    /// How many go on saying that this node is down, though it told them otherwise; `by` says so now.
    fn deaf(&mut self, by: NodeId, now: Instant) -> usize {
        self.told.retain(|_, (_, last)| now.saturating_duration_since(*last) < TOLD_FOR);
        self.told.entry(by).and_modify(|(_, last)| *last = now).or_insert((now, now));
        self.told.values().filter(|(first, last)| last.saturating_duration_since(*first) >= LISTENS).count()
    }

    /// Does this one's suspicion say something of this node's own health? Each one's does once in a while, so that no
    /// single one can make this node doubt itself.
    fn is_news_of(&mut self, by: NodeId, now: Instant) -> bool {
        self.suspecting.retain(|_, last| now.saturating_duration_since(*last) < SUSPECTS_FOR);
        let news = !self.suspecting.contains_key(&by);
        if news {
            self.suspecting.insert(by, now);
        }
        news
    }
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
            // One that leaves takes no new identity, and must not be woken for it for ever.
            self.renewal.due = None;
            self.want_renewal(now);
        }
    }

    /// `by` suspects this node's current identity as of an incarnation: foca raises it above that and says so. At most
    /// once in a probe period, since several tell it at once and each refutation takes a number.
    pub(super) fn refute(&mut self, by: NodeId, incarnation: u16, now: Instant) {
        let early = self.renewal.refuted.is_some_and(|last| last + self.timings.probe_period > now);
        if early || self.me.leaving {
            return;
        }
        self.renewal.refuted = Some(now);
        self.doubts.tally.refutations += 1;
        if self.renewal.is_news_of(by, now) {
            self.membership.observe(Sign::Refuted);
        }
        let own = self.membership.incarnation();
        if own >= LAST_REFUTATION {
            // Foca would renew at the last number, without asking whether it is time.
            return self.want_renewal(now);
        }
        // Others believe of a third party that we are so far ahead, and no further: we need not be either.
        let above = incarnation.clamp(own, own.saturating_add(MAX_LEAP)).min(LAST_REFUTATION - 1);
        self.membership.apply(Member::new(SwimIdentity(self.me.identity), above, State::Suspect), now);
    }

    /// `by` holds this node for dead. It is told otherwise, which is enough for a member that listens. Where members keep
    /// saying so, another identity shows that this is over.
    pub(super) fn on_told_down(&mut self, by: NodeId, now: Instant) {
        if !self.doubts.is_on() {
            return self.renew_and_tell(by, now);
        }
        let needed = if self.membership.up() < SMALL { 1 } else { DEAF };
        if self.renewal.deaf(by, now) >= needed {
            self.renewal.told.clear();
            return self.renew_and_tell(by, now);
        }
        self.refute(by, self.membership.incarnation(), now);
        if let Some(peer) = self.admission.get(by) {
            self.ask_by_ping(peer.identity, now);
        }
    }

    fn renew_and_tell(&mut self, by: NodeId, now: Instant) {
        let before = self.me.identity;
        self.want_renewal(now);
        if self.me.identity != before
            && let Some(peer) = self.admission.get(by)
        {
            // It hears of it at once, and from ourselves.
            self.announce_to(peer.identity, now);
        }
    }

    fn renew(&mut self, now: Instant) {
        self.renewal.last = Some(now);
        self.renewal.due = None;
        let Some(renewed) = SwimIdentity(self.me.identity).renew() else {
            // All numbers of this generation are used up.
            return self.next_generation(now);
        };
        self.take_identity(renewed.0, now);
        self.emit(Event::Renewed { rejoin: renewed.0.rejoin });
    }

    /// The mesh remembers a higher generation than ours: we start above it. Once; if it is higher again after that,
    /// another node runs with our key, and the two must not outbid each other for ever.
    pub(super) fn raise_generation(&mut self, remembered: Generation, now: Instant) {
        if self.renewal.raised {
            self.emit(Event::KeyInUse { generation: remembered, address: None });
        } else {
            self.renewal.raised = true;
            self.take_generation(Generation(remembered.0.saturating_add(1)), true, now);
        }
    }

    /// A member says how it knows this node. In a later run at another address: that is another node with this node's key,
    /// and whoever knows of it hears nothing of what this one says. It is told once a minute; nothing is done about it,
    /// since the other may be the right one, and a member's word is no proof.
    pub(super) fn watch_for_twin(&mut self, known_as: Option<&v1::NodeIdentity>, now: Instant) {
        let Some(known) = known_as.and_then(|wire| MemberIdentity::try_from(wire).ok()) else { return };
        let told = self.renewal.twin_told.is_some_and(|at| at + TWIN_PAUSE > now);
        if !told && self.me.identity.is_run_elsewhere(&known) {
            self.renewal.twin_told = Some(now);
            self.emit(Event::KeyInUse { generation: known.generation, address: Some(known.address) });
        }
    }

    /// This generation has no numbers left, or too much that it must not forget.
    pub(super) fn next_generation(&mut self, now: Instant) {
        self.take_generation(Generation(self.me.identity.generation.0.saturating_add(1)), false, now);
    }

    /// All that was signed in the generation before is void, and is signed anew.
    fn take_generation(&mut self, to: Generation, remembered: bool, now: Instant) {
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
                let _ = self.merge_record(&value, now);
            }
        }
        self.emit(Event::GenerationRaised { from, to, remembered });
    }

    fn take_identity(&mut self, identity: MemberIdentity, now: Instant) {
        self.me.identity = identity;
        // Whatever was said of the one before is over with it.
        self.renewal.due = None;
        self.renewal.told.clear();
        if identity.rejoin >= self.me.rejoin_reserved || identity.rejoin == 0 {
            self.me.rejoin_reserved = identity.rejoin.saturating_add(REJOIN_BLOCK);
            self.publish.remember_own = true;
        }
        let rng = StdRng::from_rng(&mut self.rng);
        self.membership.renew(identity, rng, now);
        self.doubts.clear();
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
