use std::time::Instant;

use bytes::Bytes;
use foca::{Member, State as SwimState};
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::Engine;
use crate::admission::rank;
use crate::conduct::Offence;
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
    pub(super) fn on_notice(&mut self, sender: NodeId, notice: &v1::Notice, now: Instant) -> Result<(), Rejection> {
        let author = notice::author(notice).inspect_err(|_| self.blame(sender, Offence::Notice, now))?;
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
            // An honest one would not have passed it on.
            self.blame(sender, Offence::ForgedNotice, now);
            return Err(Rejection::ForgedNotice);
        }
        let said = match notice::read(notice) {
            Ok(said) => said,
            Err(reason) => {
                self.blame(author, Offence::Notice, now);
                return Err(reason);
            }
        };
        let accepted = self.admission.get_mut(author).map(|peer| peer.notices.accept(generation, notice.seq));
        if !matches!(accepted, Some(Ok(()))) {
            return Ok(());
        }
        if let Said::Announcement { key, sequence } = said {
            if self.on_announcement(sender, author, notice, (key, sequence), now) {
                self.pass_on(author, notice.clone(), now);
            }
            return Ok(());
        }
        self.pass_on(author, notice.clone(), now);
        match said {
            Said::Accusation { accused, incarnation } => self.on_accusation(author, &accused, incarnation, now),
            Said::Departure { identity, reason } => self.on_departure(&identity, reason, now),
            Said::Record { key, value } => self.on_value(author, &key, &value, now),
            Said::Health(flip) => self.on_flip(author, generation, flip),
            Said::Overload { load, counter } => self.on_overload(author, generation, load, counter),
            Said::Dismissal { identity, prune, reason } => {
                self.on_dismissal(author, &identity, prune, reason, now);
            }
            Said::Announcement { .. } | Said::Else => {}
        }
        Ok(())
    }

    /// Has a notice of another told to others, unless its author writes more than anyone needs.
    pub(super) fn pass_on(&mut self, author: NodeId, notice: v1::Notice, now: Instant) {
        let Some(peer) = self.admission.get_mut(author) else { return };
        if peer.conduct.take_notice(now) {
            self.rumours.add(notice, now);
        } else {
            self.blame(author, Offence::NoticeFlood, now);
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

    /// Lets a record of ours ride as a notice, if it is small, or the news that there is one.
    pub(super) fn tell_record(&mut self, encoded: &Bytes, now: Instant) {
        let Ok(value) = v1::SignedValue::decode(encoded.clone()) else { return };
        if encoded.len() <= MAX_RIDING.min(MAX_BODY) {
            self.tell_all(v1::NoticeKind::Record, &value, now);
        } else {
            let body = v1::RecordAnnouncement { key: value.key, version: value.sequence };
            self.tell_all(v1::NoticeKind::RecordAnnouncement, &body, now);
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

    pub(super) fn tell_all(&mut self, kind: v1::NoticeKind, body: &impl Message, now: Instant) {
        self.me.notices += 1;
        let (generation, seq) = (self.me.identity.generation, self.me.notices);
        match notice::sign(kind, generation, seq, body, &self.me.signing_key) {
            Some(notice) => self.rumours.add(notice, now),
            None => self.counters.unsent += 1,
        }
    }
}
