use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use rand::seq::IteratorRandom;
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::{Engine, Output};
use crate::State;
use crate::envelope::{self, MAX_PACKET};
use crate::membership::{SwimKind, SwimSend};

/// A node that counts as down is told so at most once in this time: two that hold each other for dead would otherwise
/// answer one another without end (foca's issue 25).
const TELL_DOWN_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Sends what foca wants sent.
    pub(super) fn flush_swim(&mut self, now: Instant) {
        for send in self.membership.take_packets() {
            self.send_swim(send, now);
        }
    }

    fn send_swim(&mut self, send: SwimSend, now: Instant) {
        let node = send.to.node();
        let hinted = self.contacts.get(node).map(|contact| contact.identity.address.gossip());
        let known = self.admission.get(node).map(|peer| peer.identity.address.gossip());
        // Only an announce goes where a node is merely said to be.
        let announce = send.kind == SwimKind::Announce;
        let Some(to) = (if announce { hinted.or(known) } else { known }) else {
            self.counters.unsent += 1;
            return;
        };
        if send.kind == SwimKind::TurnUndead
            && let Some(peer) = self.admission.get_mut(node)
        {
            if self.me.leaving || peer.tell_down_after > now {
                return;
            }
            peer.tell_down_after = now + TELL_DOWN_PAUSE;
        }
        self.send(node, to, send.bytes.into(), announce);
        if send.kind == SwimKind::Gossip {
            self.rumours.put_off(now);
        }
    }

    /// Packets for the sake of notices alone, if a round of them is due.
    pub(super) fn tell_notices(&mut self, now: Instant) {
        if !self.rumours.round_due(now) {
            return;
        }
        let fanout = self.timings.gossip_fanout.into();
        for (node, to) in self.some_members(fanout) {
            if self.rumours.is_empty() {
                break;
            }
            self.send(node, to, Bytes::new(), false);
        }
    }

    /// Random members that are up.
    pub(super) fn some_members(&mut self, count: usize) -> Vec<(NodeId, SocketAddr)> {
        let up = self.admission.iter().filter(|(_, peer)| peer.state.is_up());
        up.map(|(node, peer)| (node, peer.identity.address.gossip())).sample(&mut self.rng, count)
    }

    /// Signs, seals and sends one packet, with notices in the room that is left.
    pub(super) fn send(&mut self, node: NodeId, to: SocketAddr, swim: Bytes, pad: bool) {
        self.me.counter += 1;
        let peer = self.admission.get(node);
        let mut packet = v1::Packet {
            version: envelope::VERSION.into(),
            sender: self.me.node().to_bytes(),
            destination: node.to_bytes(),
            generation: self.me.identity.generation.0,
            counter: self.me.counter,
            load: Some(self.me.load),
            catalog_hash: self.catalog.hash_of(self.me.node()),
            suspect_flag: self.is_doubted(node),
            swim,
            notices: Vec::new(),
            padding: Bytes::new(),
            credential: Bytes::new(),
            keyring: self.me.keyring.mark(),
        };
        envelope::abridge(&mut packet);
        let room = MAX_PACKET.saturating_sub(packet.encoded_len());
        // Whoever does not know us yet would not believe them; one that may be dead is not told in passing.
        let listens = peer.is_some_and(|peer| peer.state == State::Alive || packet.swim.is_empty());
        if listens {
            packet.notices = self.rumours.take(room);
        }
        if pad {
            // As large as the answer may be, so that nobody is used to flood another. Three bytes are a tag and a length.
            let room = |packet: &v1::Packet| MAX_PACKET.saturating_sub(packet.encoded_len() + 3);
            if self.me.credential.len() <= room(&packet) {
                packet.credential = self.me.credential.clone();
            }
            let room = room(&packet);
            packet.padding = vec![0; room].into();
        }
        let nonce = self.rng.random();
        let epoch = self.me.keyring.epoch_for(self.exchange.mark(node), self.now);
        match envelope::seal(&packet, &self.me.signing_key, &self.me.keyring, epoch, nonce) {
            Some(bytes) => self.out.push(Output::Send { to, bytes }),
            None => self.counters.unsent += 1,
        }
    }
}
