//! What those who look after a node ask of it: paths, keys, sizes.

use std::time::Instant;

use bytes::Bytes;
use starling_proto::NodeId;

use super::Engine;
use crate::HeldKey;

/// How much an engine holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Members that are listed, whatever their state, this node included.
    pub members: usize,
    /// Members that are flaky now.
    pub flaky: usize,
    /// Notices that are still to be passed on.
    pub notices: usize,
    /// SWIM's own news that are still to be passed on.
    pub updates: usize,
    /// Nodes that others named and that have not spoken themselves.
    pub contacts: usize,
    /// Nodes whose credentials were asked for lately.
    pub hints: usize,
    /// Values of the catalog.
    pub records: usize,
    /// Their bytes, as they travel.
    pub record_bytes: usize,
}

impl Engine {
    /// A datagram without news, if the member is known.
    pub(super) fn nudge(&mut self, node: NodeId) {
        if let Some(to) = self.admission.get(node).map(|peer| peer.identity.address.gossip()) {
            self.send(node, to, Bytes::new(), false);
        }
    }

    /// When the last datagram of a member was accepted.
    #[must_use]
    pub fn heard(&self, node: NodeId) -> Option<Instant> {
        self.admission.get(node)?.heard
    }

    /// The group keys that this node opens, the one that it seals with first.
    #[must_use]
    pub fn keys_held(&self) -> Vec<HeldKey> {
        self.me.keyring.held()
    }

    /// How much it holds now.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (records, record_bytes) = self.catalog.sizes();
        Sizes {
            members: self.view.members.len(),
            flaky: self.restless.len(),
            notices: self.rumours.len(),
            updates: self.membership.updates_backlog(),
            contacts: self.contacts.len(),
            hints: self.hints.len(),
            records,
            record_bytes,
        }
    }
}
