//! What other threads tell the driver and only the last word counts: kept in place, not queued.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use starling_proto::NodeId;
use starling_proto::mesh::v1;
use tokio::sync::Notify;

/// Live data connections by node, and the node's load.
#[derive(Debug, Default)]
pub(super) struct Links {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<NodeId, u32>,
    /// As the engine was told.
    told: BTreeSet<NodeId>,
    load: Option<v1::LoadSummary>,
}

/// What the engine has not been told.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) links: Vec<(NodeId, bool)>,
    pub(super) load: Option<v1::LoadSummary>,
}

impl Links {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn on_link(&self, node: NodeId, up: bool) {
        let mut state = self.state();
        let count = state.counts.entry(node).or_default();
        *count = if up { count.saturating_add(1) } else { count.saturating_sub(1) };
        if *count == 0 {
            state.counts.remove(&node);
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn on_load(&self, load: v1::LoadSummary) {
        self.state().load = Some(load);
        self.changed.notify_one();
    }

    /// Waits until there may be news.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is new since the last call.
    pub(super) fn take(&self) -> News {
        let mut state = self.state();
        let up: BTreeSet<NodeId> = state.counts.keys().copied().collect();
        let mut links: Vec<_> = up.difference(&state.told).map(|node| (*node, true)).collect();
        links.extend(state.told.difference(&up).map(|node| (*node, false)));
        state.told = up;
        News { links, load: state.load.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_linked_while_any_shard_has_a_connection_to_it() {
        let (links, node) = (Links::default(), NodeId::from_bytes([1; 16]));
        links.on_link(node, true);
        links.on_link(node, true);
        assert_eq!(links.take().links, [(node, true)]);
        links.on_link(node, false);
        assert_eq!(links.take(), News::default());
        links.on_link(node, false);
        links.on_link(node, false);
        assert_eq!(links.take().links, [(node, false)]);
        links.on_link(node, true);
        links.on_link(node, false);
        assert_eq!(links.take(), News::default());
    }
}
