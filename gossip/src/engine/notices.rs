use std::time::Instant;

use bytes::Bytes;
use foca::{Member, State as SwimState};
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::Engine;
use crate::admission::rank;
use crate::catalog::key;
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
        match said {
            Said::Announcement { key, sequence } => {
                if self.on_announcement(sender, author, notice, (key, sequence), now) {
                    self.pass_on(author, notice.clone(), now);
                }
                return Ok(());
            }
            Said::Accusation { accused, incarnation, clear } => {
                if self.may_pass_on(author, now) && self.on_accusation(author, &accused, incarnation, clear, now) {
                    self.rumours.add_accusation(notice.clone(), accused.node_id, now);
                }
                return Ok(());
            }
            // Whoever has it by another way does not tell it: it is not the only one.
            Said::Record { ref key, sequence, .. } => {
                let news = self.catalog.sequence(author, key) < Some((generation, sequence));
                if self.may_pass_on(author, now) && news {
                    self.rumours.add(notice.clone(), now);
                }
            }
            _ => self.pass_on(author, notice.clone(), now),
        }
        match said {
            Said::Departure { identity, reason } => self.on_departure(&identity, reason, now),
            Said::Record { key, value, .. } => self.on_value(author, &key, &value, now),
            Said::Health(flip) => self.on_flip(author, generation, flip),
            Said::Overload { load, counter } => self.on_overload(author, generation, load, counter),
            Said::Dismissal { identity, prune, reason } => {
                self.on_dismissal(author, &identity, prune, reason, now);
            }
            Said::Announcement { .. } | Said::Accusation { .. } | Said::Else => {}
        }
        Ok(())
    }

    /// Has a notice of another told to others, unless its author writes more than anyone needs.
    pub(super) fn pass_on(&mut self, author: NodeId, notice: v1::Notice, now: Instant) {
        if self.may_pass_on(author, now) {
            self.rumours.add(notice, now);
        }
    }

    /// Does its author write no more than anyone needs? It is named if it does.
    fn may_pass_on(&mut self, author: NodeId, now: Instant) -> bool {
        let Some(peer) = self.admission.get_mut(author) else { return false };
        let may = peer.conduct.take_notice(now);
        if !may {
            self.blame(author, Offence::NoticeFlood, now);
        }
        may
    }

    /// Believed at once: the leaver signed it itself.
    fn on_departure(&mut self, identity: &MemberIdentity, reason: String, now: Instant) {
        let Some(peer) = self.admission.get_mut(identity.node_id) else { return };
        if rank(identity) < rank(&peer.identity) || peer.has_left() {
            return;
        }
        peer.left = Some(rank(identity));
        self.membership.tell_again(identity.node_id);
        let (known, name, incarnation) = (peer.identity, peer.name(), peer.incarnation);
        self.membership.apply(Member::new(SwimIdentity(known), incarnation, SwimState::Down), now);
        self.publish.changed = true;
        self.emit(Event::MemberLeft { node: identity.node_id, name, reason });
    }

    /// Lets a record of ours ride as a notice, if it is small, or the news that there is one.
    pub(super) fn tell_record(&mut self, encoded: &Bytes, now: Instant) {
        let Ok(value) = v1::SignedValue::decode(encoded.clone()) else { return };
        if value.key == key::NODE && self.membership.up() == 1 {
            // What a new node is called is given to whom it joins, and to all others by anti-entropy. What it offers can't wait.
            return;
        }
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
        if let Some(notice) = self.sign_notice(kind, body) {
            self.rumours.add(notice, now);
        }
    }

    pub(super) fn sign_notice(&mut self, kind: v1::NoticeKind, body: &impl Message) -> Option<v1::Notice> {
        self.me.notices += 1;
        let (generation, seq) = (self.me.identity.generation, self.me.notices);
        let notice = notice::sign(kind, generation, seq, body, &self.me.signing_key);
        self.counters.unsent += u64::from(notice.is_none());
        notice
    }
}
