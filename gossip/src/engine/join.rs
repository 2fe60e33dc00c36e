use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId, SpiffeId};

use super::{Engine, Output};
use crate::admission::{Peer, Proof, rank};
use crate::envelope::VERSION;
use crate::{Event, Refusal, catalog};

/// Those named in one state are spoken to this far apart: a join of a large mesh is no flood.
const SPACING: Duration = Duration::from_millis(2);

/// The most a state may have, in bytes, that its receiver takes (`node` reads 8 MiB). What may fill it is held to a part
/// of it each, the rest is asked for: records (500 members may have 49 MiB of them),
const MAX_RECORDS: usize = if cfg!(test) { 150 << 10 } else { 5 << 20 };
/// and credentials (16 KiB each at most; about 1 KiB as a rule).
const MAX_CREDENTIALS: usize = 1 << 20;
/// Credentials in one answer about strangers.
const MAX_RESOLVED: usize = 4 << 20;

/// A member is given the credentials of all others for so long after it came.
const NEW_FOR: Duration = Duration::from_secs(10);

/// The most members of one state that are refused before the rest of it is left unread.
const MAX_REFUSED: usize = 16;

/// What came of a node that a third party named.
pub(super) enum Named {
    /// It is known, or will be spoken to.
    Noted,
    /// Its credential is to be asked for.
    Stranger,
    /// It has no business here.
    Refused,
}

/// A peer's state, checked.
struct Checked {
    proof: Proof,
    identity: MemberIdentity,
    incarnation: u16,
}

impl Engine {
    /// See [`Engine::join_state`](super::Engine::join_state).
    pub(super) fn state_for(&self, receiver: Option<NodeId>) -> v1::JoinState {
        let known = receiver.and_then(|node| self.admission.get(node));
        // Whoever has been here for a while has the credentials, and asks for those it lacks. Whoever just joined needs them:
        // without, it would have to leave the records of the others unread.
        let known_for = |peer: &Peer| self.now.saturating_duration_since(peer.since);
        let with_credentials = known.is_none_or(|peer| !peer.state.is_up() || known_for(peer) < NEW_FOR);
        let (records, left_out) = self.records_for_state();
        v1::JoinState {
            version: VERSION.into(),
            identity: Some((&self.me.identity).into()),
            incarnation: self.membership.incarnation().into(),
            credential: self.me.credential.clone(),
            counter_floor: self.me.counter,
            remembered_generation: known.map_or(0, |peer| peer.identity.generation.0),
            key_epochs: self.me.keyring.epochs().collect(),
            key_prints: self.me.keyring.held().iter().filter_map(|key| key.print).collect(),
            members: self.member_states(with_credentials),
            records,
            left_out: left_out.iter().map(NodeId::to_bytes).collect(),
            clock: 0,
            member_limit: u32::try_from(self.admission.limit()).unwrap_or(u32::MAX),
            keyring: Some(self.me.keyring.state()),
        }
    }

    /// All peers. Whoever is given no credential for want of room asks for it.
    fn member_states(&self, with_credentials: bool) -> Vec<v1::MemberState> {
        let mut room = MAX_CREDENTIALS;
        let state = |(_, peer): (NodeId, &Peer)| {
            let fits = with_credentials && peer.credential.len() <= room;
            room -= if fits { peer.credential.len() } else { 0 };
            member_state(peer, fits)
        };
        self.admission.iter().map(state).collect()
    }

    /// The records of this node and of admitted ones, since those of others would be refused: all of an owner or none;
    /// and the owners of whom there was no room for any.
    fn records_for_state(&self) -> (Vec<v1::SignedValue>, Vec<NodeId>) {
        let this = self.me.node();
        let others = self.catalog.owners().filter(|owner| self.admission.get(*owner).is_some());
        let (mut records, mut left_out, mut room) = (Vec::new(), Vec::new(), MAX_RECORDS);
        for owner in std::iter::once(this).chain(others) {
            let bytes = self.catalog.bytes_of(owner);
            if bytes <= room {
                room -= bytes;
                records.extend(self.catalog.values_of(owner).cloned());
            } else {
                left_out.push(owner);
            }
        }
        (records, left_out)
    }

    /// See [`Engine::resolve`](super::Engine::resolve). Whoever is left out for want of room is asked for again.
    pub(super) fn resolve_ids(&self, ids: &[NodeId]) -> v1::Resolved {
        let mut room = MAX_RESOLVED;
        let known = ids.iter().take(self.admission.limit()).filter_map(|id| self.admission.get(*id));
        let known = known.take_while(|peer| {
            room = room.saturating_sub(peer.credential.len());
            room > 0
        });
        let own = ids.contains(&self.me.node()).then(|| self.own_state());
        v1::Resolved { members: known.map(|peer| member_state(peer, true)).chain(own).collect() }
    }

    pub(super) fn on_joined(&mut self, peer: SpiffeId, state: v1::JoinState, now: Instant) {
        let checked = match self.check_join_rate(&peer, now).and_then(|()| self.check_join(&peer, &state)) {
            Ok(checked) => checked,
            Err(refusal) => {
                *self.counters.refused.entry(refusal.code()).or_default() += 1;
                let at = state.identity.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok());
                let (peer, at) = (peer, at.map(|identity| identity.address));
                self.emit(Event::Refused { peer: peer.clone(), at, refusal: refusal.clone() });
                self.out.push(Output::Refused { peer, refusal });
                return;
            }
        };
        let before = self.me.identity;
        if let Some(remembered) = self.proven_generation(&state) {
            self.raise_generation(remembered, now);
            if self.me.identity != before {
                self.dial(&checked.identity);
            }
        }
        let known = self.admission.get(checked.identity.node_id).map(|peer| peer.identity);
        if known.is_some_and(|known| known.generation > checked.identity.generation) {
            // Our answer tells it which generation to start above; it joins again with that.
            return;
        }
        self.admit_by_join(&checked, state.counter_floor, now);
        self.on_keys_of_join(checked.identity.node_id, &state, now);
        self.merge_members(&checked.identity, state.members, now);
        self.merge_records(checked.identity.node_id, &state.records, now);
        self.owe(checked.identity.node_id, &state.left_out, now);
        if self.me.identity != before {
            // The peer hears of it from ourselves: it would not believe anyone else.
            self.announce_to(checked.identity, now);
        }
    }

    /// The generation that the peer remembers of us, if it is above ours and it can show something that we signed in
    /// it: a bare claim could drive us to the last generation there is.
    fn proven_generation(&self, state: &v1::JoinState) -> Option<Generation> {
        let (node, own) = (self.me.node(), self.me.identity.generation);
        if Generation(state.remembered_generation) <= own {
            return None;
        }
        let signed = |record: &&v1::SignedValue| {
            let encoded = Bytes::from(record.encode_to_vec());
            catalog::open(node, &record.key, &encoded, &self.me.signing_key.public_key()).is_ok()
        };
        let ours = state.records.iter().filter(|record| record.owner[..] == node.as_bytes()[..]);
        let higher = ours.filter(|record| Generation(record.generation) > own).filter(signed);
        higher.map(|record| Generation(record.generation)).max()
    }

    fn check_join(&self, peer: &SpiffeId, state: &v1::JoinState) -> Result<Checked, Refusal> {
        if state.version != u32::from(VERSION) {
            return Err(Refusal::Version(state.version));
        }
        let identity = state.identity.as_ref().ok_or_else(|| Refusal::Malformed("no identity".to_owned()))?;
        let identity = MemberIdentity::try_from(identity).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let incarnation = u16::try_from(state.incarnation).map_err(|_| Refusal::Malformed("incarnation".to_owned()))?;
        let proof = self.prove(identity.node_id, &state.credential).map_err(Refusal::Credential)?;
        if identity.node_id == self.me.node() {
            return Err(Refusal::Ourselves);
        }
        if proof.verified.spiffe != *peer {
            let credential = proof.verified.spiffe;
            return Err(Refusal::OtherName { credential, connection: peer.clone() });
        }
        self.check_room(&identity, peer, 0)?;
        Ok(Checked { proof, identity, incarnation })
    }

    pub(super) fn check_room(&self, identity: &MemberIdentity, name: &SpiffeId, waiting: usize) -> Result<(), Refusal> {
        if *name == self.me.spiffe {
            let (name, address) = (name.clone(), self.me.identity.address.quic());
            return Err(Refusal::NameTaken { name, holder: self.me.node(), address });
        }
        self.admission.check_room(identity.node_id, name, waiting)
    }

    /// Checks a credential, unless it is the one that is known already.
    pub(super) fn prove(&self, node: NodeId, credential: &Bytes) -> Result<Proof, String> {
        if let Some(known) = self.admission.get(node).filter(|peer| peer.credential == *credential) {
            return Ok(Proof { credential: known.credential.clone(), verified: known.verified.clone() });
        }
        let verified = self.verifier.verify(credential)?;
        if verified.node_id != node || NodeId::of_key(&verified.gossip_key) != node {
            return Err("it is another node's".to_owned());
        }
        // A copy of its own: it must not keep the whole message it came in alive.
        Ok(Proof { credential: Bytes::copy_from_slice(credential), verified })
    }

    fn admit_by_join(&mut self, checked: &Checked, floor: u64, now: Instant) {
        let Checked { proof, identity, incarnation } = checked;
        let name = proof.verified.spiffe.node().to_owned();
        let known = self.admission.get(identity.node_id).map(|peer| peer.identity);
        self.admit(proof.clone(), *identity, floor, now);
        let current = self.admission.get(identity.node_id).map(|peer| peer.identity);
        if current == Some(*identity) {
            self.on_proven(known.as_ref(), *identity, *incarnation, now);
            self.on_reached(*identity, *incarnation, now);
        }
        self.emit(Event::Joined { node: identity.node_id, name });
    }

    /// Admits a node with an identity that it proved.
    pub(super) fn admit(&mut self, proof: Proof, identity: MemberIdentity, floor: u64, now: Instant) {
        for gone in self.admission.admit(proof, identity, floor, now) {
            self.on_forgotten(gone, now);
        }
        self.membership.tell_again(identity.node_id);
        self.check_all_named(identity.node_id, now);
        self.publish.changed = true;
    }

    /// What a peer knows of others: of us it tells what it takes us for, of those unknown here where to find them.
    /// What it takes others for counts for nothing: after a cut it is mostly wrong.
    fn merge_members(&mut self, peer: &MemberIdentity, members: Vec<v1::MemberState>, now: Instant) {
        let (mut strangers, mut at, mut refused) = (Vec::new(), now, 0);
        let limit = self.admission.limit();
        for member in members.into_iter().take(2 * limit) {
            let Some(identity) = member.identity.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok()) else {
                continue;
            };
            if identity.node_id == self.me.node() {
                self.on_told_of_ourselves(peer.node_id, &identity, &member, now);
            } else if matches!(member.status(), v1::MemberStatus::Alive | v1::MemberStatus::Suspect)
                && identity.node_id != peer.node_id
            {
                at += SPACING;
                match self.on_named(peer.node_id, identity, &member, at) {
                    Named::Noted => {}
                    Named::Stranger => strangers.push(identity.node_id),
                    Named::Refused if refused < MAX_REFUSED => refused += 1,
                    // Each takes a check of a certificate; an honest peer has hardly one to refuse.
                    Named::Refused => break,
                }
            }
        }
        strangers.truncate(limit);
        self.ask_after(peer.node_id, peer.address.quic(), strangers, now);
    }

    fn on_told_of_ourselves(&mut self, by: NodeId, identity: &MemberIdentity, member: &v1::MemberState, now: Instant) {
        if *identity != self.me.identity {
            return;
        }
        match member.status() {
            // It takes us for gone on purpose: only another identity shows that this is over.
            v1::MemberStatus::Left => self.want_renewal(now),
            v1::MemberStatus::Down => self.on_told_down(by, now),
            v1::MemberStatus::Suspect => {
                let incarnation = u16::try_from(member.incarnation).unwrap_or(0);
                self.refute(by, incarnation, now);
            }
            _ => {}
        }
    }

    /// A node was named by a third party: it is spoken to, and counts once it has answered itself.
    fn on_named(&mut self, by: NodeId, identity: MemberIdentity, member: &v1::MemberState, at: Instant) -> Named {
        let node = identity.node_id;
        if let Some(peer) = self.admission.get(node) {
            if rank(&identity) > rank(&peer.identity) {
                self.contact(by, identity, None, 0, at);
            }
            return self.on_credential(node, &member.credential);
        }
        if self.contacts.get(node).is_some_and(|contact| rank(&contact.identity) >= rank(&identity)) {
            return Named::Noted;
        }
        if member.credential.is_empty() {
            return Named::Stranger;
        }
        let named = self.prove(node, &member.credential).map_err(Refusal::Credential).and_then(|proof| {
            self.check_candidate(&identity, &proof.verified.spiffe)?;
            Ok(proof)
        });
        match named {
            Ok(proof) => {
                self.contact(by, identity, Some(proof), member.counter_floor, at);
                Named::Noted
            }
            Err(refusal) => {
                *self.counters.refused.entry(refusal.code()).or_default() += 1;
                self.emit(Event::RejectedRecord { owner: node, reason: refusal.to_string() });
                Named::Refused
            }
        }
    }

    pub(super) fn on_resolved(&mut self, members: Vec<v1::MemberState>, now: Instant) {
        for member in members.into_iter().take(self.admission.limit()) {
            let identity = member.identity.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok());
            if let Some(identity) = identity.filter(|identity| identity.node_id != self.me.node())
                && let Some(asked) = self.hints.asked_of(identity.node_id)
            {
                self.on_named(asked, identity, &member, now);
            }
        }
    }

    /// The address a member accepts QUIC at.
    #[must_use]
    pub fn quic_address(&self, node: NodeId) -> Option<SocketAddr> {
        self.admission.get(node).map(|peer| peer.identity.address.quic())
    }
}

fn member_state(peer: &Peer, with_credential: bool) -> v1::MemberState {
    let floor = (peer.window.generation() == peer.identity.generation).then(|| peer.window.highest());
    let credential = if with_credential && peer.state.is_up() { peer.credential.clone() } else { Bytes::new() };
    v1::MemberState {
        identity: Some((&peer.identity).into()),
        incarnation: peer.incarnation.into(),
        status: v1::MemberStatus::from(peer.state).into(),
        credential,
        counter_floor: floor.unwrap_or(0),
    }
}
