//! Records that a peer's state had no room for: they are asked for one owner after another, so that a join of a mesh whose
//! members all have as much as they may is no flood.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_proto::NodeId;

use super::{Engine, Output};

/// From one owner to the next. Each may have 98 KiB.
const SPACING: Duration = Duration::from_millis(50);

/// Owners whose records are still to be asked for, and whom to ask. At most as many as members are kept.
#[derive(Default)]
pub(super) struct Owed {
    by: BTreeMap<NodeId, NodeId>,
    next: Option<Instant>,
}

impl Owed {
    /// When the next is to be asked for.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}

impl Engine {
    /// A peer left out the records of these.
    pub(super) fn owe(&mut self, by: NodeId, left_out: &[Bytes], now: Instant) {
        let most = 2 * self.admission.limit();
        let owners = left_out.iter().take(most).filter_map(|owner| NodeId::try_from(&owner[..]).ok());
        for owner in owners.filter(|owner| *owner != self.me.node()) {
            if self.owed.by.len() < most {
                self.owed.by.insert(owner, by);
            }
        }
        if !self.owed.by.is_empty() {
            self.owed.next.get_or_insert(now + SPACING);
        }
    }

    /// Asks for the records of the next owner that is known here, and of whom not all is here already.
    pub(super) fn ask_for_owed(&mut self, now: Instant) {
        if self.owed.next.is_none_or(|next| next > now) {
            return;
        }
        let missing = |owner: NodeId| match self.admission.get(owner) {
            Some(peer) => peer.catalog_hash == 0 || peer.catalog_hash != self.catalog.hash_of(owner),
            None => self.contacts.get(owner).is_some(),
        };
        let next = self.owed.by.keys().copied().find(|owner| missing(*owner));
        // Whoever comes before it needs nothing.
        let rest = next.map(|next| self.owed.by.split_off(&next)).unwrap_or_default();
        self.owed.by = rest;
        if let Some(owner) = next
            && let Some(ask) = self.owed.by.remove(&owner)
            && let Some(at) = self.quic_address(ask)
        {
            self.out.push(Output::Pull { ask, at, owner, keys: Vec::new() });
        }
        self.owed.next = (!self.owed.by.is_empty()).then(|| now + SPACING);
    }
}
