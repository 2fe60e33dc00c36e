use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Member, Message, State as SwimState};
use rand::RngExt;
use starling_proto::{MemberIdentity, NodeId};

use super::{Engine, Output};
use crate::admission::{Proof, rank};
use crate::conduct::Offence;
use crate::envelope::{self, Opened};
use crate::hearsay::{self, Sifted};
use crate::replay::{ReplayWindow, Stale};
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Event, Lifeguard, Refusal, Rejection};

/// Those who learn of a renewed identity from others speak to it within this time, each at its own moment.
const SPREAD: Duration = Duration::from_millis(300);

impl Engine {
    pub(super) fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let result = envelope::open(bytes, &self.me.keyring).and_then(|opened| self.on_packet(from, &opened, now));
        if let Err(reason) = result {
            if reason == Rejection::Epoch {
                self.on_unreadable(from, now);
            }
            self.reject(from, reason);
        }
    }

    pub(super) fn reject(&mut self, from: SocketAddr, reason: Rejection) {
        *self.counters.rejected.entry(reason).or_default() += 1;
        self.emit(Event::Rejected { from, reason });
    }

    fn on_packet(&mut self, from: SocketAddr, opened: &Opened, now: Instant) -> Result<(), Rejection> {
        let swim = self.authenticate(from, opened, now)?;
        let packet = &opened.packet;
        if let Some(peer) = self.admission.get_mut(opened.sender) {
            peer.catalog_hash = packet.catalog_hash;
            peer.heard = Some(now);
        }
        self.on_peer_load(opened.sender, packet.load.unwrap_or_default(), now);
        self.membership.on_heard(opened.sender);
        self.on_mark(opened.sender, packet.keyring, now);
        if packet.suspect_flag {
            // Buddy (Lifeguard, section 4.3): a suspect learns of it from whoever suspects it.
            self.refute(opened.sender, self.membership.incarnation(), now);
        }
        for notice in &packet.notices {
            if let Err(reason) = self.on_notice(opened.sender, notice, now) {
                self.reject(from, reason);
            }
        }
        if let Some(swim) = swim {
            self.on_swim(opened.sender, swim, now);
        }
        Ok(())
    }

    /// Who sent this, from where, and never twice: nothing is done before all of it is known. Gives the SWIM part.
    fn authenticate(
        &mut self,
        from: SocketAddr,
        opened: &Opened,
        now: Instant,
    ) -> Result<Option<SwimPacket>, Rejection> {
        let sender = opened.sender;
        if sender == self.me.node() {
            return Err(Rejection::Ourselves);
        }
        if opened.destination != self.me.node() {
            return Err(Rejection::WrongDestination);
        }
        self.check_flood(from, sender, now)?;
        let (key, known) = match (self.admission.get(sender), self.contacts.get(sender)) {
            (Some(peer), _) => (peer.verified.gossip_key, Some(peer.identity)),
            (None, Some(contact)) => {
                (contact.proof.as_ref().ok_or(Rejection::UnknownSender)?.verified.gossip_key, None)
            }
            (None, None) => return Err(self.on_stranger(from, opened, now)),
        };
        let mut window = self.window_of(sender)?;
        let generation = starling_proto::Generation(opened.packet.generation);
        window.accept(generation, opened.packet.counter).map_err(|stale| match stale {
            Stale::Generation => Rejection::StaleGeneration,
            Stale::Counter => Rejection::Replay,
        })?;
        if !opened.is_signed_by(&key) {
            return Err(Rejection::BadSignature);
        }
        let swim = match &opened.packet.swim {
            swim if swim.is_empty() => None,
            swim => Some(SwimPacket::parse(swim).map_err(|_| self.broken(sender, now))?),
        };
        let proven = match (&swim, known) {
            (Some(swim), _) => swim.header.src.0,
            (None, Some(known)) => known,
            (None, None) => return Err(Rejection::UnknownGeneration),
        };
        match check_source(from, sender, generation, &proven, known.as_ref()) {
            Err(Rejection::BadSwim) => return Err(self.broken(sender, now)),
            checked => checked?,
        }
        self.admit_by_packet(proven, now)?;
        if known.is_none() {
            // It was not known before: what it sent before this may have been captured while we did not listen.
            window = ReplayWindow::new(generation, opened.packet.counter);
        }
        if let Some(peer) = self.admission.get_mut(sender) {
            peer.window = window;
        }
        if let Some(swim) = &swim
            && known.is_none_or(|known| rank(&known) < rank(&proven))
        {
            self.on_proven(known.as_ref(), proven, swim.header.src_incarnation, now);
        }
        Ok(swim)
    }

    fn window_of(&self, sender: NodeId) -> Result<ReplayWindow<16>, Rejection> {
        if let Some(peer) = self.admission.get(sender) {
            return Ok(peer.window.clone());
        }
        let contact = self.contacts.get(sender).ok_or(Rejection::UnknownSender)?;
        Ok(ReplayWindow::new(contact.identity.generation, contact.floor))
    }

    /// A node that others named has spoken itself, or an admitted one in a new identity.
    fn admit_by_packet(&mut self, proven: MemberIdentity, now: Instant) -> Result<(), Rejection> {
        let node = proven.node_id;
        if let Some(peer) = self.admission.get_mut(node) {
            // The window that the packet passed is set by the caller.
            peer.raise(proven, 0);
            return Ok(());
        }
        let contact = self.contacts.get(node).ok_or(Rejection::UnknownSender)?;
        let proof: Proof = contact.proof.clone().ok_or(Rejection::UnknownSender)?;
        if let Err(refusal) = self.admission.check_room(node, &proof.verified.spiffe, 0) {
            self.contacts.remove(node);
            // What it signed was kept for the case that it is admitted.
            self.catalog.forget(node);
            return Err(match refusal {
                Refusal::NameTaken { .. } => Rejection::NameTaken,
                _ => Rejection::MemberLimit,
            });
        }
        self.admit(proof, proven, 0, now);
        Ok(())
    }

    /// A node proved an identity that is new here, or (over a connection) that it is there.
    pub(super) fn on_proven(
        &mut self,
        known: Option<&MemberIdentity>,
        identity: MemberIdentity,
        incarnation: u16,
        now: Instant,
    ) {
        if known != Some(&identity) {
            self.publish.remember(now, &self.timings);
        }
        if known.is_some_and(|known| known.generation < identity.generation)
            && let Some(peer) = self.admission.get(identity.node_id)
        {
            let (node, name, generation) = (identity.node_id, peer.name(), identity.generation);
            self.restless.remove(node);
            self.emit(Event::MemberRestarted { node, name, generation });
        }
        if self.contacts.get(identity.node_id).is_some_and(|contact| rank(&contact.identity) <= rank(&identity)) {
            self.contacts.on_answer(identity.node_id);
        }
        self.forget_old_records(&identity);
        self.on_shown(identity, incarnation, now);
        self.membership.apply(Member::new(SwimIdentity(identity), incarnation, SwimState::Alive), now);
        self.publish.changed = true;
    }

    fn on_swim(&mut self, sender: NodeId, mut swim: SwimPacket, now: Instant) {
        let this = SwimIdentity(self.me.identity);
        let Some(peer) = self.admission.get(sender) else { return };
        if peer.has_left() {
            // It said so itself; what it still sends is no sign that it is back.
            return;
        }
        let at = peer.identity.address.quic();
        self.on_shown(swim.header.src.0, swim.header.src_incarnation, now);
        let lifeguard = self.doubts.lifeguard;
        let mut sifted = hearsay::sift(&mut swim, &this, &self.admission, lifeguard);
        self.membership.handle_packet(&swim, now);
        match swim.header.message {
            Message::Ack(number) => self.on_claimed_ack(sender, number, now),
            // Tells it that this node was asked in time: that nothing else comes back is not its fault (Lifeguard's nack).
            Message::PingReq { .. } if lifeguard == Lifeguard::On => self.nudge(sender),
            _ => {}
        }
        self.on_claims(sender, std::mem::take(&mut sifted.downs), now);
        self.on_hearsay(sender, at, sifted, now);
    }

    fn on_hearsay(&mut self, sender: NodeId, at: SocketAddr, sifted: Sifted, now: Instant) {
        if let Some(incarnation) = sifted.we_are_suspect {
            self.refute(sender, incarnation, now);
        }
        if sifted.we_are_down {
            self.on_told_down(sender, now);
        }
        for identity in sifted.leaps {
            self.ask_by_ping(identity, now);
        }
        let mut ids = sifted.strangers;
        ids.retain(|id| self.contacts.get(*id).is_none());
        if !ids.is_empty() {
            self.ask_after(sender, at, ids, now);
        }
        for identity in sifted.renewed {
            let at = now + SPREAD.mul_f64(self.rng.random_range(0.0..1.0));
            self.contact(sender, identity, None, 0, at);
        }
    }

    /// What a member signed is no packet.
    fn broken(&mut self, sender: NodeId, now: Instant) -> Rejection {
        self.blame(sender, Offence::Datagram, now);
        Rejection::BadSwim
    }

    /// Asks `ask` for the credentials of nodes that it named, each node at most once in a while.
    pub(super) fn ask_after(&mut self, ask: NodeId, at: SocketAddr, ids: Vec<NodeId>, now: Instant) {
        let ids = self.hints.take(ask, ids, now);
        if !ids.is_empty() {
            self.out.push(Output::Resolve { ask, at, ids });
        }
    }
}

/// A datagram must come from the address of the identity that signed it, and of no identity that was given up.
fn check_source(
    from: SocketAddr,
    sender: NodeId,
    generation: starling_proto::Generation,
    proven: &MemberIdentity,
    known: Option<&MemberIdentity>,
) -> Result<(), Rejection> {
    if proven.node_id != sender {
        return Err(Rejection::BadSwim);
    }
    if proven.generation != generation {
        return Err(if generation > proven.generation { Rejection::UnknownGeneration } else { Rejection::BadSwim });
    }
    if let Some(known) = known {
        if rank(proven) < rank(known) {
            return Err(Rejection::StaleIdentity);
        }
        if rank(proven) == rank(known) && proven != known {
            return Err(Rejection::WrongSource);
        }
    }
    if from == proven.address.gossip() { Ok(()) } else { Err(Rejection::WrongSource) }
}
