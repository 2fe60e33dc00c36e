use std::net::SocketAddr;

use starling_proto::NodeId;

use super::Engine;
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
    /// The hash of what members that are up say. Nodes that joined at different times remember different dead ones, so
    /// those are left out.
    pub(super) fn live_catalog_hash(&self) -> u64 {
        let up = self.admission.iter().filter(|(_, peer)| peer.state.is_up()).map(|(node, _)| node);
        up.chain([self.me.node()]).fold(0, |sum, owner| sum.wrapping_add(self.catalog.hash_of(owner)))
    }

    /// Members that are up and whose last packet named another catalog than ours, each with where it accepts QUIC.
    /// Most differences are news under way; one that lasts is worth a pull.
    #[must_use]
    pub fn differing(&self) -> Vec<(NodeId, SocketAddr)> {
        let ours = self.live_catalog_hash();
        let up = self.admission.iter().filter(|(_, peer)| peer.state.is_up() && peer.catalog_hash != ours);
        up.map(|(node, peer)| (node, peer.identity.address.quic())).collect()
    }
}
