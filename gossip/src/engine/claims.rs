//! "That member is down", said by others. Foca would believe it at once and for good, so it does not hear of it before
//! enough members accuse the one under their own names, or this node has asked it in vain.

use std::time::Instant;

use foca::{Member, State as SwimState};
use rand::RngExt;
use starling_proto::{MemberIdentity, NodeId};

use super::Engine;
use super::doubts::{Claimed, Suspected};
use crate::lifeguard::{Claim, Patience, Verdict};
use crate::membership::Suspect;
use crate::swim::SwimIdentity;
use crate::{Event, State};

/// So many must accuse a member for a third party's word to be believed without a look.
const ACCUSERS: usize = 2;
/// Below this many members one is enough: there may be no other.
const SMALL: usize = 4;

impl Engine {
    /// `by` says that these are down. All of them are members, in the identity they have.
    pub(super) fn on_claims(&mut self, by: NodeId, claims: Vec<Member<SwimIdentity>>, now: Instant) {
        for claim in claims {
            self.on_claim(by, claim.id().0, claim.incarnation(), now);
        }
    }

    fn on_claim(&mut self, by: NodeId, identity: MemberIdentity, incarnation: u16, now: Instant) {
        let node = identity.node_id;
        let Some(peer) = self.admission.get(node) else { return };
        // Of a suspicion that was refuted since, or nothing new.
        if incarnation < peer.incarnation || peer.state == State::Down || self.doubts.claims.contains_key(&node) {
            return;
        }
        self.doubts.tally.downs_withheld += 1;
        self.add_claim(by, identity, incarnation, now);
        self.weigh_claim(node, now);
        self.ping_claimed(node);
    }

    /// An own suspicion is almost over: the member is asked once more, and told that it is suspected.
    pub(super) fn make_sure(&mut self, suspect: &Suspect, now: Instant) {
        let Suspect { identity, incarnation, .. } = *suspect;
        self.add_claim(self.me.node(), identity, incarnation, now);
        self.ping_claimed(identity.node_id);
    }

    fn add_claim(&mut self, by: NodeId, identity: MemberIdentity, incarnation: u16, now: Instant) {
        let claim = Claim::new(self.patience(by), now);
        let claimed = Claimed { identity, incarnation, by, number: self.rng.random(), claim };
        self.doubts.claims.insert(identity.node_id, claimed);
    }

    /// How long a member has to answer: as long as an own probe takes, if all that is known is another's word.
    fn patience(&self, by: NodeId) -> Patience {
        if by == self.me.node() {
            return self.last_call();
        }
        let factor = self.membership.health().factor();
        let (rtt, period) = (self.timings.probe_rtt, self.timings.probe_period);
        Patience { ping: rtt * factor, stream: period.saturating_sub(rtt) * factor }
    }

    /// And less, if it did not answer a probe of our own before.
    pub(super) fn last_call(&self) -> Patience {
        let rtt = self.timings.probe_rtt * self.membership.health().factor();
        Patience { ping: rtt, stream: rtt }
    }

    /// Do enough members accuse it by now?
    pub(super) fn weigh_claim(&mut self, node: NodeId, now: Instant) {
        let Some(peer) = self.admission.get(node) else { return };
        let Some(claimed) = self.doubts.claims.get(&node) else { return };
        let needed = if self.membership.up() < SMALL { 1 } else { ACCUSERS };
        // What this node only makes sure of, its own eyes decide.
        if claimed.by != self.me.node() {
            let verdict = claimed.claim.on_accused(peer.accusers.len(), needed);
            self.carry_out(node, verdict, now);
        }
    }

    /// The member showed that it can hear and be heard.
    pub(super) fn answer_claim(&mut self, node: NodeId, now: Instant) {
        if let Some(claimed) = self.doubts.claims.get_mut(&node) {
            let verdict = claimed.claim.on_answer(now);
            self.carry_out(node, verdict, now);
        }
    }

    /// It acknowledged a ping. Was it the one that asked it?
    pub(super) fn on_claimed_ack(&mut self, node: NodeId, number: u8, now: Instant) {
        if self.doubts.claims.get(&node).is_some_and(|claimed| claimed.number == number) {
            self.answer_claim(node, now);
        }
    }

    /// Nobody answered a stream.
    pub(super) fn silence_claim(&mut self, node: NodeId, now: Instant) {
        let sure = !self.doubts.hold.is_holding(now);
        if let Some(claimed) = self.doubts.claims.get_mut(&node) {
            let verdict = claimed.claim.on_silence(sure);
            self.carry_out(node, verdict, now);
        }
    }

    pub(super) fn next_claim(&self) -> Option<Instant> {
        self.doubts.claims.values().map(|claimed| claimed.claim.next()).min()
    }

    /// What time says of the claims; those that the member refuted or that came true another way are dropped.
    pub(super) fn poll_claims(&mut self, now: Instant) {
        let sure = !self.doubts.hold.is_holding(now);
        let due = self.doubts.claims.iter().filter(|(_, claimed)| claimed.claim.next() <= now);
        let due: Vec<_> = due.map(|(node, claimed)| (*node, self.patience(claimed.by))).collect();
        for (node, patience) in due {
            let verdict = self.doubts.claims.get_mut(&node).map(|claimed| claimed.claim.poll(patience, sure, now));
            self.carry_out(node, verdict.unwrap_or(Verdict::Wait), now);
        }
    }

    /// Drops claims that the member refuted, or that came true by another way.
    pub(super) fn drop_settled(&mut self) {
        let mut refuted = Vec::new();
        let admission = &self.admission;
        self.doubts.claims.retain(|node, claimed| {
            let Some(peer) = admission.get(*node).filter(|peer| peer.identity == claimed.identity) else {
                return false;
            };
            if !claimed.claim.is_open() {
                return peer.state != State::Down;
            }
            let refutes = peer.incarnation > claimed.incarnation;
            if refutes {
                refuted.push((*node, claimed.by));
            }
            !refutes && peer.state.is_up()
        });
        for (node, by) in refuted {
            self.on_dismissed_claim(node, by);
        }
    }

    fn carry_out(&mut self, node: NodeId, verdict: Verdict, now: Instant) {
        match verdict {
            Verdict::Wait => {}
            Verdict::Ping => self.ping_claimed(node),
            Verdict::Stream => self.ask_by_stream(node, now),
            Verdict::Believe => self.believe(node, now),
            Verdict::Dismiss => {
                if let Some(by) = self.doubts.claims.get(&node).map(|claimed| claimed.by) {
                    self.on_dismissed_claim(node, by);
                }
                if let Some(suspected) = self.doubts.suspects.get_mut(&node) {
                    suspected.suspicion.restart(now);
                }
            }
            Verdict::Forget => drop(self.doubts.claims.remove(&node)),
        }
    }

    fn believe(&mut self, node: NodeId, now: Instant) {
        let Some(claimed) = self.doubts.claims.get_mut(&node) else { return };
        let own = claimed.by == self.me.node();
        if own && !self.doubts.hold.release(now) {
            claimed.claim.postpone(self.doubts.hold.gate().unwrap_or(now));
            return;
        }
        let (identity, incarnation) = (claimed.identity, claimed.incarnation);
        self.doubts.claims.remove(&node);
        self.doubts.tally.downs += u64::from(own);
        match self.doubts.suspects.remove(&node).filter(|_| own) {
            Some(Suspected { suspect, .. }) => self.membership.declare_down(&suspect, now),
            None => self.membership.apply(Member::new(SwimIdentity(identity), incarnation, SwimState::Down), now),
        }
    }

    fn on_dismissed_claim(&mut self, node: NodeId, by: NodeId) {
        self.doubts.tally.downs_dismissed += 1;
        self.emit(Event::DownDismissed { node, by });
    }

    /// Asks a member that is said to be down.
    fn ping_claimed(&mut self, node: NodeId) {
        if let Some(claimed) = self.doubts.claims.get(&node).filter(|claimed| claimed.claim.is_open()) {
            self.ping(claimed.identity, claimed.number);
        }
    }
}
