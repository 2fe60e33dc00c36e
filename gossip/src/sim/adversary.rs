//! What one that holds some of the keys could send.

use bytes::Bytes;
use foca::{Header, Member, Message};
use starling_proto::MemberIdentity;
use starling_proto::mesh::v1;

use super::{GROUP_KEY, World};
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Keyring, SigningKey, envelope};

/// A packet, made by hand.
pub(crate) struct Forged {
    pub(crate) packet: v1::Packet,
    pub(crate) key: SigningKey,
    pub(crate) keyring: Keyring,
}

impl Forged {
    /// A packet of node `from` to node `to`, good in all respects but what the test changes.
    pub(crate) fn new(world: &World, from: usize, to: usize) -> Self {
        let identity = *world.nodes[from].engine.identity();
        let packet = v1::Packet {
            version: 1,
            sender: identity.node_id.to_bytes(),
            destination: world.nodes[to].id.to_bytes(),
            generation: identity.generation.0,
            // Far above what it sent so far, and well within the window.
            counter: world.nodes[from].engine.join_state(None).counter_floor + 500,
            ..Default::default()
        };
        Self { packet, key: World::key(from), keyring: Keyring::try_new(vec![(1, GROUP_KEY)]).unwrap() }
    }

    /// Has it say something of others.
    pub(crate) fn saying(mut self, world: &World, from: usize, to: usize, of: Vec<Member<SwimIdentity>>) -> Self {
        let (from, to) = (*world.nodes[from].engine.identity(), *world.nodes[to].engine.identity());
        self.packet.swim = gossip(from, to, of);
        self
    }

    pub(crate) fn seal(&self) -> Bytes {
        envelope::seal(&self.packet, &self.key, &self.keyring, self.keyring.in_use(), [3; 12]).unwrap()
    }
}

pub(crate) fn gossip(from: MemberIdentity, to: MemberIdentity, updates: Vec<Member<SwimIdentity>>) -> Bytes {
    let header =
        Header { src: SwimIdentity(from), src_incarnation: 0, dst: SwimIdentity(to), message: Message::Gossip };
    SwimPacket { header, updates }.encode().unwrap()
}
