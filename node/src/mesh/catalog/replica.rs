//! What chitchat holds, as the checker asks for it.

use std::collections::BTreeMap;

use chitchat::{Chitchat, ChitchatId, NodeState};
use starling_gossip::catalog::wire::{Replica, ReplicaId};

/// The id that chitchat knows a node by.
pub(super) fn chitchat_id(id: &ReplicaId) -> ChitchatId {
    ChitchatId::new(id.node.to_string(), id.generation, id.address)
}

/// A chitchat, held still.
pub(super) struct Held<'a>(pub(super) &'a Chitchat);

impl Replica for Held<'_> {
    fn ids(&self) -> usize {
        self.0.node_states().len()
    }

    fn max_version(&self, id: &ReplicaId) -> Option<u64> {
        self.0.node_state(&chitchat_id(id)).map(NodeState::max_version)
    }

    fn sizes(&self, id: &ReplicaId) -> BTreeMap<String, usize> {
        let state = self.0.node_state(&chitchat_id(id));
        state.into_iter().flat_map(NodeState::key_values).map(|(key, text)| (key.to_owned(), text.len())).collect()
    }
}
