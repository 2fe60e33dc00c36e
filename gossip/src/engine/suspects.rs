//! Members whose probes failed: accused under this node's own name, and down when their time is over.

use std::time::{Duration, Instant};

use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId};

use super::Engine;
use super::doubts::Suspected;
use crate::lifeguard::{Outcome, Suspicion, WITNESSES, expected};
use crate::membership::Suspect;
use crate::{Event, State};

impl Engine {
    /// Takes what came of probes.
    pub(super) fn on_news(&mut self, now: Instant) {
        let news = self.membership.take_news();
        for outcome in news.outcomes {
            self.on_outcome(outcome, now);
        }
        for suspect in news.suspects {
            self.on_suspect(suspect, now);
        }
        for identity in news.unanswered {
            self.ask_by_stream(identity.node_id, now);
        }
    }

    fn on_outcome(&mut self, outcome: Outcome, now: Instant) {
        let (identity, answered) = match outcome {
            Outcome::Answered(identity) => (identity, true),
            Outcome::Failed { target, unclear } => {
                self.doubts.tally.probes_failed += 1;
                self.accuse(&target, !unclear, now);
                (target, false)
            }
        };
        let up = self.membership.up();
        if self.doubts.is_on() && self.doubts.hold.on_probe(identity.node_id, answered, up, now) {
            self.doubts.tally.holds += 1;
            self.emit(Event::CutOff { members: up });
        }
    }

    /// An own probe of this member went unanswered: says so, signed. Once for each identity and incarnation, and not where
    /// so many said it that one more changes nothing.
    fn accuse(&mut self, accused: &MemberIdentity, clear: bool, now: Instant) {
        let (this, node) = (self.me.node(), accused.node_id);
        let Some(peer) = self.admission.get_mut(node) else { return };
        let meant = peer.identity == *accused && !peer.has_left();
        if !meant || peer.accusers.len() >= WITNESSES || !peer.accusers.insert(this) {
            return;
        }
        if clear {
            peer.unrest.on_accused(this, peer.incarnation, now);
        }
        let (incarnation, accusers) = (peer.incarnation, peer.accusers.len());
        let reason = if clear { v1::AccusationReason::ProbeFailed } else { v1::AccusationReason::ProbeUnclear };
        let body = v1::Accusation {
            accused: Some(accused.into()),
            incarnation: incarnation.into(),
            reason: reason.into(),
            failed: 1,
            observed: 1,
        };
        if let Some(notice) = self.sign_notice(v1::NoticeKind::Accusation, &body) {
            self.rumours.add_accusation(notice, node, now);
        }
        self.emit(Event::Accused { node, by: this, accusers });
        self.on_accusers(node, now);
    }

    /// Another member accuses one. True if others should hear of it.
    pub(super) fn on_accusation(
        &mut self,
        by: NodeId,
        accused: &MemberIdentity,
        incarnation: u16,
        clear: bool,
        now: Instant,
    ) -> bool {
        let node = accused.node_id;
        // Nobody accuses itself.
        let Some(peer) = self.admission.get_mut(node).filter(|_| by != node) else { return false };
        if peer.identity != *accused || !peer.state.is_up() {
            return false;
        }
        let noted = clear && peer.unrest.on_accused(by, incarnation, now);
        // One who refuted since is not meant.
        let current = peer.incarnation <= incarnation;
        let counts = current && peer.accusers.len() < WITNESSES && peer.accusers.insert(by);
        if counts {
            let accusers = peer.accusers.len();
            self.emit(Event::Accused { node, by, accusers });
            self.on_accusers(node, now);
        }
        if noted && !current {
            self.weigh_unrest(node, now);
        }
        noted || counts
    }

    /// More members accuse one than before: that shortens the time it has left.
    fn on_accusers(&mut self, node: NodeId, now: Instant) {
        let others = self.other_accusers(node);
        if let Some(suspected) = self.doubts.suspects.get_mut(&node) {
            suspected.suspicion.confirm(others);
        }
        self.weigh_claim(node, now);
    }

    fn other_accusers(&self, node: NodeId) -> u32 {
        let this = self.me.node();
        let others = self.admission.get(node).map_or(0, |peer| peer.accusers.iter().filter(|by| **by != this).count());
        u32::try_from(others).unwrap_or(u32::MAX)
    }

    fn on_suspect(&mut self, suspect: Suspect, now: Instant) {
        let node = suspect.identity.node_id;
        // It may have refuted in the very probe that failed; foca would not call it down then either.
        let known = self.admission.get(node).filter(|peer| peer.identity == suspect.identity && !peer.has_left());
        let same = self.doubts.suspects.get(&node).is_some_and(|known| known.suspect == suspect);
        if known.is_none() || same {
            return;
        }
        self.doubts.tally.suspicions += 1;
        let suspicion = Suspicion::new(now, self.other_accusers(node));
        self.doubts.suspects.insert(node, Suspected { suspect, suspicion });
    }

    /// Drops suspicions of members that refuted, renewed or went down by another way.
    pub(super) fn drop_refuted(&mut self) {
        let Self { doubts, admission, .. } = self;
        doubts.suspects.retain(|node, suspected| {
            let Suspect { identity, incarnation, .. } = &suspected.suspect;
            admission.get(*node).is_some_and(|peer| {
                peer.state == State::Suspect && peer.identity == *identity && peer.incarnation == *incarnation
            })
        });
    }

    /// How long a suspect has at least and at most, by this node's own health.
    fn suspicion_range(&self) -> (Duration, Duration) {
        let factor = self.membership.health().factor();
        (self.timings.suspicion_min * factor, self.timings.suspicion_max * factor)
    }

    /// When each suspect's time is almost over, but for those that are asked for the last time already.
    fn last_calls(&self) -> impl Iterator<Item = (Instant, NodeId)> {
        let (min, max) = self.suspicion_range();
        let expected = expected(self.membership.up());
        let call = self.last_call().total();
        let open = self.doubts.suspects.iter().filter(|(node, _)| !self.doubts.claims.contains_key(node));
        open.map(move |(node, suspected)| {
            let due = suspected.suspicion.due(expected, min, max);
            (due.checked_sub(call).unwrap_or(due), *node)
        })
    }

    /// When the next of them is to be asked for the last time.
    pub(super) fn next_suspect(&self) -> Option<Instant> {
        let (due, _) = self.last_calls().min()?;
        Some(self.doubts.hold.gate().map_or(due, |gate| gate.max(due)))
    }

    /// Asks those whose time is almost over for the last time.
    pub(super) fn judge_suspects(&mut self, now: Instant) {
        if self.doubts.hold.is_holding(now) {
            return;
        }
        let mut due: Vec<_> = self.last_calls().filter(|(due, _)| *due <= now).collect();
        due.sort_unstable();
        for (_, node) in due {
            if let Some(suspected) = self.doubts.suspects.get(&node) {
                let suspect = suspected.suspect;
                self.make_sure(&suspect, now);
            }
        }
    }
}
