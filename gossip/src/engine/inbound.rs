use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Member, State as SwimState};
use rand::RngExt;
use starling_proto::{MemberIdentity, NodeId};

use super::{Engine, Output};
use crate::admission::{Proof, rank};
use crate::envelope::{self, Opened};
use crate::hearsay::{self, Sifted};
use crate::replay::{ReplayWindow, Stale};
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Event, Refusal, Rejection};

/// A node is asked after at most once in this time.
const HINT_PAUSE: Duration = Duration::from_secs(2);
/// The most nodes that are remembered as asked after.
const MAX_HINTS: usize = 1_024;
/// Those who learn of a renewed identity from others speak to it within this time, each at its own moment.
const SPREAD: Duration = Duration::from_millis(300);

impl Engine {
    pub(super) fn on_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) {
        let result = envelope::open(bytes, &self.me.keyring).and_then(|opened| self.on_packet(from, &opened, now));
        if let Err(reason) = result {
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
            let load = packet.load.unwrap_or_default();
            if peer.load != load {
                peer.load = load;
                self.publish.load_due.get_or_insert(now + self.timings.load_period);
            }
        }
        if packet.suspect_flag {
            // Buddy (Lifeguard, section 4.3): a suspect learns of it from whoever suspects it.
            self.refute(now);
        }
        for notice in &packet.notices {
            if let Err(reason) = self.on_notice(notice, now) {
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
        let (key, known) = match (self.admission.get(sender), self.contacts.get(sender)) {
            (Some(peer), _) => (peer.verified.gossip_key, Some(peer.identity)),
            (None, Some(contact)) => {
                (contact.proof.as_ref().ok_or(Rejection::UnknownSender)?.verified.gossip_key, None)
            }
            (None, None) => return Err(Rejection::UnknownSender),
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
            swim => Some(SwimPacket::parse(swim).map_err(|_| Rejection::BadSwim)?),
        };
        let proven = match (&swim, known) {
            (Some(swim), _) => swim.header.src.0,
            (None, Some(known)) => known,
            (None, None) => return Err(Rejection::UnknownGeneration),
        };
        check_source(from, sender, generation, &proven, known.as_ref())?;
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
        let waiting = self.contacts.candidates().saturating_sub(1);
        if let Err(refusal) = self.admission.check_room(node, &proof.verified.spiffe, waiting) {
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
            self.emit(Event::MemberRestarted { node, name, generation });
        }
        if self.contacts.get(identity.node_id).is_some_and(|contact| rank(&contact.identity) <= rank(&identity)) {
            self.contacts.remove(identity.node_id);
        }
        self.forget_old_records(&identity);
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
        let sifted = hearsay::sift(&mut swim, &this, &self.admission);
        if let Ok(bytes) = swim.encode() {
            self.membership.handle_packet(&bytes, now);
        }
        self.on_hearsay(sender, at, sifted, now);
    }

    fn on_hearsay(&mut self, sender: NodeId, at: SocketAddr, sifted: Sifted, now: Instant) {
        if sifted.we_are_suspect {
            self.refute(now);
        }
        if sifted.we_are_down {
            let before = self.me.identity;
            self.want_renewal(now);
            if self.me.identity != before
                && let Some(peer) = self.admission.get(sender)
            {
                // It hears of it at once, and from ourselves.
                self.announce_to(peer.identity, now);
            }
        }
        let mut ids = sifted.strangers;
        ids.retain(|id| self.contacts.get(*id).is_none());
        self.ask_after(sender, at, ids, now);
        for identity in sifted.renewed {
            let at = now + SPREAD.mul_f64(self.rng.random_range(0.0..1.0));
            self.contacts.add(identity, None, 0, at);
        }
    }

    /// Asks `ask` for the credentials of nodes that it named, each node at most once in a while.
    pub(super) fn ask_after(&mut self, ask: NodeId, at: SocketAddr, mut ids: Vec<NodeId>, now: Instant) {
        self.hints.retain(|_, until| *until > now);
        ids.retain(|id| self.hints.len() < MAX_HINTS && self.hints.insert(*id, now + HINT_PAUSE).is_none());
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
