//! What others say of nodes that are not here yet, or no longer as they were.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId, SpiffeId};

use super::Engine;
use super::join::Named;
use crate::admission::Proof;
use crate::conduct::Offence;
use crate::envelope::Opened;
use crate::swim::SwimPacket;
use crate::{Refusal, Rejection};

impl Engine {
    /// Has a node that `by` named spoken to, unless `by` has named too much that never answered.
    pub(super) fn contact(
        &mut self,
        by: NodeId,
        identity: MemberIdentity,
        proof: Option<Proof>,
        floor: u64,
        at: Instant,
    ) {
        if !self.contacts.add(by, identity, proof, floor, at) {
            self.blame(by, Offence::Phantoms, at);
        }
    }

    /// A datagram came of one that nobody named. If it shows who it is and signed that, it is spoken to in turn, and counts
    /// once it has answered: what it sent here may have been captured long ago.
    pub(super) fn on_stranger(&mut self, from: SocketAddr, opened: &Opened, now: Instant) -> Rejection {
        if let Some((identity, proof)) = self.read_greeting(from, opened, now) {
            self.contact(opened.sender, identity, Some(proof), opened.packet.counter, now);
        }
        Rejection::UnknownSender
    }

    fn read_greeting(&mut self, from: SocketAddr, opened: &Opened, now: Instant) -> Option<(MemberIdentity, Proof)> {
        let packet = &opened.packet;
        let identity = SwimPacket::parse(&packet.swim).ok()?.header.src.0;
        let is_its_own = identity.node_id == opened.sender
            && identity.generation.0 == packet.generation
            && identity.address.gossip() == from;
        // A certificate takes several signatures to check: those who have none to show cost less.
        if packet.credential.is_empty() || !is_its_own || !self.may_greet(now) {
            return None;
        }
        let proof = self.prove(opened.sender, &packet.credential).ok()?;
        let may = opened.is_signed_by(&proof.verified.gossip_key)
            && self.check_candidate(&identity, &proof.verified.spiffe).is_ok();
        may.then_some((identity, proof))
    }

    /// Is there room for a node that nobody but another vouches for? One name stands for one of these, since a
    /// certificate can be bound to as many keys as its holder likes to make.
    pub(super) fn check_candidate(&self, identity: &MemberIdentity, name: &SpiffeId) -> Result<(), Refusal> {
        let node = identity.node_id;
        if let Some(other) = self.contacts.has_name(node, name) {
            let (holder, address) = (other.identity.node_id, other.identity.address.quic());
            return Err(Refusal::NameTaken { name: name.clone(), holder, address });
        }
        let own = self.contacts.get(node).is_some_and(|contact| contact.proof.is_some());
        self.check_room(identity, name, self.contacts.candidates() - usize::from(own))
    }

    /// A credential of a member arrived: a newer one replaces what is known, so that a certificate which names more
    /// services, or fewer, counts everywhere.
    pub(super) fn on_credential(&mut self, node: NodeId, credential: &Bytes) -> Named {
        let Some(known) = self.admission.get(node).filter(|known| known.credential != *credential) else {
            return Named::Noted;
        };
        if credential.is_empty() {
            return Named::Noted;
        }
        let name = known.verified.spiffe.clone();
        let Ok(proof) = self.prove(node, credential) else {
            *self.counters.refused.entry("credential").or_default() += 1;
            return Named::Refused;
        };
        // Whoever changes its name joins with it: then it is looked at who has that name.
        if let Some(known) = self.admission.get_mut(node)
            && proof.verified.issued_at > known.verified.issued_at
            && proof.verified.spiffe == name
        {
            known.credential = proof.credential;
            known.verified = proof.verified;
            self.publish.changed = true;
        }
        Named::Noted
    }

    /// This node, as it stands in an answer to a `mesh.v1.Resolve`.
    pub(super) fn own_state(&self) -> v1::MemberState {
        v1::MemberState {
            identity: Some((&self.me.identity).into()),
            incarnation: self.membership.incarnation().into(),
            status: v1::MemberStatus::Alive.into(),
            credential: self.me.credential.clone(),
            counter_floor: self.me.counter,
        }
    }
}
