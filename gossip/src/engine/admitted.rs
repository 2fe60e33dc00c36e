use std::net::SocketAddr;

use starling_proto::NodeId;

use super::Engine;
use crate::admission::Peer;
use crate::catalog::wire::{Admission, Admitted};

impl Admission for Engine {
    fn admitted(&self, node: NodeId) -> Option<Admitted> {
        if node == self.me.node() {
            return Some(Admitted {
                generation: self.me.identity.generation,
                address: self.me.identity.address.quic(),
                public_key: self.me.signing_key.public_key(),
                alive: true,
            });
        }
        let peer = self.admission.get(node)?;
        Some(Admitted {
            generation: peer.identity.generation,
            address: peer.identity.address.quic(),
            public_key: peer.verified.gossip_key,
            alive: peer.state.is_up(),
        })
    }
}

impl Engine {
    /// Members that are up and whose own values are not those that this node holds of them, by the hash in the last packet
    /// that each signed; with where each accepts QUIC. Most differences are news under way; of one that lasts the owner
    /// is to be asked, whatever others say.
    #[must_use]
    pub fn differing(&self) -> Vec<(NodeId, SocketAddr)> {
        // Everyone says at least what it is, so that none stands for a packet that did not come yet.
        let differs = |node, peer: &Peer| peer.catalog_hash != 0 && peer.catalog_hash != self.catalog.hash_of(node);
        let up = self.admission.iter().filter(|(node, peer)| peer.state.is_up() && differs(*node, peer));
        up.map(|(node, peer)| (node, peer.identity.address.quic())).collect()
    }
}
