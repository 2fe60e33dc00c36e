//! Who is admitted, as the tasks beside the engine see it: rebuilt with every view, shared, never locked for long.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use starling_gossip::catalog::wire::{Admission, Admitted};
use starling_gossip::{Engine, View};
use starling_proto::{NodeId, SpiffeId};

/// The members by all that they are looked up by.
#[derive(Debug, Default)]
pub(super) struct Roster {
    by_id: BTreeMap<NodeId, Admitted>,
    by_name: BTreeMap<SpiffeId, NodeId>,
    by_address: BTreeMap<SocketAddr, SpiffeId>,
    /// Live others with where they accept QUIC, in the order of their ids.
    pub(super) alive: Vec<(NodeId, SocketAddr)>,
}

/// The current roster.
pub(super) type SharedRoster = Arc<ArcSwap<Roster>>;

impl Roster {
    pub(super) fn new(engine: &Engine, view: &View) -> Self {
        let mut roster = Self::default();
        for (id, member) in &view.members {
            let Some(admitted) = engine.admitted(*id) else { continue };
            let up = member.state.is_up();
            // One that is down or gone keeps its name and address only until another takes them.
            if up || !roster.by_name.contains_key(&member.spiffe) {
                roster.by_name.insert(member.spiffe.clone(), *id);
            }
            if up || !roster.by_address.contains_key(&admitted.address) {
                roster.by_address.insert(admitted.address, member.spiffe.clone());
            }
            if up && *id != view.this {
                roster.alive.push((*id, admitted.address));
            }
            roster.by_id.insert(*id, admitted);
        }
        roster
    }

    /// The member with this name in its certificate.
    pub(super) fn named(&self, name: &SpiffeId) -> Option<(NodeId, &Admitted)> {
        let id = self.by_name.get(name)?;
        Some((*id, self.by_id.get(id)?))
    }

    /// Whose certificate is to be expected at an address.
    pub(super) fn expected_at(&self, address: SocketAddr) -> Option<&SpiffeId> {
        self.by_address.get(&address)
    }
}

impl Admission for Roster {
    fn admitted(&self, node: NodeId) -> Option<Admitted> {
        self.by_id.get(&node).cloned()
    }
}
