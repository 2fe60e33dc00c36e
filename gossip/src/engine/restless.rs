//! Members that are up and yet fail again and again: listed, but left out of routing while others can serve.

use std::collections::BTreeMap;
use std::time::Instant;

use starling_proto::{Endpoint, NodeId};

use super::Engine;
use crate::Event;

/// Where more than one member in so many is flaky, the network is, and nobody is left out.
const MOST_SHARE: usize = 3;

/// Flaky members, and when each is looked at again. Bounded by the members.
#[derive(Debug, Default)]
pub(super) struct Restless {
    flaky: BTreeMap<NodeId, Instant>,
}

impl Restless {
    /// When one of them may be steady again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.flaky.values().min().copied()
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.flaky.remove(&node);
    }

    pub(super) fn len(&self) -> usize {
        self.flaky.len()
    }
}

impl Engine {
    /// A member was accused once more, or refuted, or time passed.
    pub(super) fn weigh_unrest(&mut self, node: NodeId, now: Instant) {
        let members = self.membership.up();
        let Some(peer) = self.admission.get_mut(node) else { return self.restless.remove(node) };
        let changed = peer.unrest.weigh(peer.incarnation, members, now);
        let (name, calm_at) = (peer.name(), peer.unrest.calm_at().filter(|_| peer.unrest.is_flaky()));
        match calm_at {
            Some(at) => drop(self.restless.flaky.insert(node, at)),
            None => self.restless.remove(node),
        }
        if let Some(flaky) = changed {
            self.publish.changed = true;
            self.doubts.tally.flaky += u64::from(flaky);
            self.emit(if flaky { Event::MemberFlaky { node, name } } else { Event::MemberSteady { node, name } });
        }
    }

    /// Looks at those again that were flaky.
    pub(super) fn calm_down(&mut self, now: Instant) {
        let due = self.restless.flaky.iter().filter(|(_, at)| **at <= now);
        for node in due.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.weigh_unrest(node, now);
        }
    }

    /// Is it to be left out where others can serve?
    pub(super) fn is_flaky(&self, node: NodeId) -> bool {
        self.restless.flaky.contains_key(&node) && self.restless.len() * MOST_SHARE <= self.membership.up()
    }

    /// Of one service's endpoints, those of flaky members count as unhealthy if any other can serve.
    pub(super) fn spare_flaky(&self, endpoints: &mut [Endpoint]) {
        let flaky = |endpoint: &Endpoint| self.is_flaky(endpoint.key.node);
        let others = endpoints.iter().any(|endpoint| endpoint.healthy && !endpoint.draining && !flaky(endpoint));
        for endpoint in endpoints.iter_mut().filter(|endpoint| others && flaky(endpoint)) {
            endpoint.healthy = false;
        }
    }
}
