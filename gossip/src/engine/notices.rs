use std::time::Instant;

use bytes::Bytes;
use foca::{Member, State as SwimState};
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::Engine;
use crate::admission::rank;
use crate::notice::{self, MAX_BODY, Said};
use crate::replay::Stale;
use crate::swim::SwimIdentity;
use crate::{Event, Rejection};

/// Whom a leaving node tells at once; those it does not reach learn it by gossip.
const FAREWELLS: usize = 32;
/// A record of up to this many bytes also rides as a notice, so that a change is known everywhere in a second.
const MAX_RIDING: usize = 600;

impl Engine {
    /// A notice, from whoever passed it on. One that was seen before is nothing new and no fault.
    pub(super) fn on_notice(&mut self, notice: &v1::Notice, now: Instant) -> Result<(), Rejection> {
        let author = notice::author(notice)?;
        if author == self.me.node() {
            return Ok(());
        }
        let generation = Generation(notice.generation);
        let peer = self.admission.get_mut(author).ok_or(Rejection::UnknownAuthor)?;
        match peer.notices.check(generation, notice.seq) {
            // Nothing of another boot than the one it proved: the window would jump on a third party's word.
            _ if generation > peer.identity.generation => return Ok(()),
            Err(Stale::Counter | Stale::Generation) => return Ok(()),
            Ok(()) => {}
        }
        if !notice::is_signed_by(notice, &peer.verified.gossip_key) {
            return Err(Rejection::ForgedNotice);
        }
        let said = notice::read(notice)?;
        if peer.notices.accept(generation, notice.seq).is_err() {
            return Ok(());
        }
        self.rumours.add(notice.clone(), now);
        match said {
            Said::Accusation { accused, incarnation } => self.on_accusation(author, &accused, incarnation),
            Said::Departure { identity, reason } => self.on_departure(&identity, reason, now),
            Said::Record { key, value } => self.on_value(author, &key, &value),
            Said::Else => {}
        }
        Ok(())
    }

    fn on_accusation(&mut self, by: NodeId, accused: &MemberIdentity, incarnation: u16) {
        let Some(peer) = self.admission.get_mut(accused.node_id) else { return };
        // One who refuted since is not meant.
        let meant = peer.identity == *accused && peer.incarnation <= incarnation;
        if meant && peer.accusers.insert(by) {
            let accusers = peer.accusers.len();
            self.emit(Event::Accused { node: accused.node_id, by, accusers });
        }
    }

    /// Believed at once: the leaver signed it itself.
    fn on_departure(&mut self, identity: &MemberIdentity, reason: String, now: Instant) {
        let Some(peer) = self.admission.get_mut(identity.node_id) else { return };
        if rank(identity) < rank(&peer.identity) || peer.has_left() {
            return;
        }
        peer.left = Some(rank(identity));
        let (known, name, incarnation) = (peer.identity, peer.name(), peer.incarnation);
        self.membership.apply(Member::new(SwimIdentity(known), incarnation, SwimState::Down), now);
        self.publish.changed = true;
        self.emit(Event::MemberLeft { node: identity.node_id, name, reason });
    }

    /// Own probes of these went unanswered: say so, signed.
    pub(super) fn accuse_failed(&mut self, now: Instant) {
        for failed in self.membership.take_failed_probes() {
            let this = self.me.node();
            let Some(peer) = self.admission.get_mut(failed.node()) else { continue };
            // Once for each identity and incarnation.
            if peer.identity != failed.0 || peer.has_left() || !peer.accusers.insert(this) {
                continue;
            }
            let (incarnation, accusers) = (peer.incarnation, peer.accusers.len());
            let body = v1::Accusation {
                accused: Some((&failed.0).into()),
                incarnation: incarnation.into(),
                reason: v1::AccusationReason::ProbeFailed.into(),
                failed: 1,
                observed: 1,
            };
            self.tell_all(v1::NoticeKind::Accusation, &body, now);
            self.emit(Event::Accused { node: failed.node(), by: this, accusers });
        }
    }

    /// Lets a record of ours ride as a notice, if it is small.
    pub(super) fn tell_record(&mut self, encoded: &Bytes, now: Instant) {
        if encoded.len() <= MAX_RIDING.min(MAX_BODY)
            && let Ok(value) = v1::SignedValue::decode(encoded.clone())
        {
            self.tell_all(v1::NoticeKind::Record, &value, now);
        }
    }

    pub(super) fn on_leave(&mut self, reason: String, now: Instant) {
        if self.me.leaving {
            return;
        }
        self.me.leaving = true;
        let body = v1::Departure { identity: Some((&self.me.identity).into()), reason };
        self.tell_all(v1::NoticeKind::Departure, &body, now);
        for (node, to) in self.some_members(FAREWELLS) {
            self.send(node, to, Bytes::new(), false);
        }
        self.publish.changed = true;
    }

    fn tell_all(&mut self, kind: v1::NoticeKind, body: &impl Message, now: Instant) {
        self.me.notices += 1;
        let (generation, seq) = (self.me.identity.generation, self.me.notices);
        match notice::sign(kind, generation, seq, body, &self.me.signing_key) {
            Some(notice) => self.rumours.add(notice, now),
            None => self.counters.unsent += 1,
        }
    }
}
