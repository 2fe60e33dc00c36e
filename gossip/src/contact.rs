use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use starling_proto::{MemberIdentity, NodeId, SpiffeId};

use crate::admission::{Proof, rank};
use crate::allowance::{Allowances, Rate};

/// When a node that was named by others is spoken to, after the first time.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// From this attempt on it is also dialed: it may not know us, and then our packets are nothing to it.
const DIAL_FROM: usize = 3;
/// What one member may name: a whole mesh at once, if it is there. What answers is not counted; what does not comes back
/// slowly, so that nobody has datagrams sent to where it likes but for a few.
const CREDIT: Rate = Rate { burst: 512, each: Duration::from_secs(10) };
/// Members that have named something that did not answer yet.
const CREDITORS: usize = 1_024;

/// Nodes that others named: each is spoken to until it answers itself, and counts for nothing until then.
#[derive(Debug)]
pub(crate) struct Contacts {
    waiting: BTreeMap<NodeId, Contact>,
    /// When each is to be spoken to next.
    due: BTreeSet<(Instant, NodeId)>,
    /// Keys that wait to be heard from, by name.
    names: BTreeMap<SpiffeId, BTreeSet<NodeId>>,
    candidates: usize,
    /// What each member may name that never answers.
    credit: Allowances<NodeId>,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            names: BTreeMap::new(),
            candidates: 0,
            credit: Allowances::new(CREDIT, CREDITORS),
        }
    }
}

/// A node, or a new identity of one, known by hearsay.
#[derive(Debug)]
pub(crate) struct Contact {
    /// Where and what it is said to be.
    pub(crate) identity: MemberIdentity,
    /// Its key, if it is not admitted yet.
    pub(crate) proof: Option<Proof>,
    /// The highest counter that whoever named it saw of it in that generation.
    pub(crate) floor: u64,
    /// Who named it.
    by: NodeId,
    attempts: usize,
    next: Instant,
}

/// What to do about a contact.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Approach {
    /// Send an announce.
    Announce(MemberIdentity),
    /// Send an announce, and dial it.
    Dial(MemberIdentity),
}

impl Contacts {
    /// How many keys wait to be heard from.
    pub(crate) const fn candidates(&self) -> usize {
        self.candidates
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Contact> {
        self.waiting.get(&node)
    }

    /// A node was named by a member. Speaks to it at `at`, unless that is going on with this identity or a higher one.
    /// False if the member named too much that never answered.
    pub(crate) fn add(
        &mut self,
        by: NodeId,
        identity: MemberIdentity,
        proof: Option<Proof>,
        floor: u64,
        at: Instant,
    ) -> bool {
        let node = identity.node_id;
        if self.get(node).is_some_and(|known| rank(&known.identity) >= rank(&identity)) {
            return true;
        }
        if !self.credit.take(by, at) {
            return false;
        }
        let known = self.remove(node);
        let proof = proof.or_else(|| known?.proof);
        if let Some(proof) = &proof {
            self.names.entry(proof.verified.spiffe.clone()).or_default().insert(node);
            self.candidates += 1;
        }
        self.due.insert((at, node));
        self.waiting.insert(node, Contact { identity, proof, floor, by, attempts: 0, next: at });
        true
    }

    /// Does a key that waits to be heard from, other than this node's, have this name?
    pub(crate) fn has_name(&self, node: NodeId, name: &SpiffeId) -> Option<&Contact> {
        let other = self.names.get(name)?.iter().find(|other| **other != node)?;
        self.waiting.get(other)
    }

    /// It spoke itself: whoever named it was right.
    pub(crate) fn on_answer(&mut self, node: NodeId) {
        if let Some(contact) = self.remove(node) {
            self.credit.give_back(&contact.by);
        }
    }

    /// It is forgotten.
    pub(crate) fn remove(&mut self, node: NodeId) -> Option<Contact> {
        let contact = self.waiting.remove(&node)?;
        self.due.remove(&(contact.next, node));
        if let Some(proof) = &contact.proof {
            self.candidates -= 1;
            if let Entry::Occupied(mut named) = self.names.entry(proof.verified.spiffe.clone()) {
                named.get_mut().remove(&node);
                if named.get().is_empty() {
                    named.remove();
                }
            }
        }
        Some(contact)
    }

    /// When the next one is to be spoken to.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whom to speak to now. Those that never answered are given up and their ids returned apart.
    pub(crate) fn take_due(&mut self, now: Instant) -> (Vec<Approach>, Vec<NodeId>) {
        let (mut due, mut silent) = (Vec::new(), Vec::new());
        while let Some((at, node)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, node));
            let Some(contact) = self.waiting.get_mut(&node) else { continue };
            let Some(pause) = PAUSES.get(contact.attempts) else {
                silent.push(node);
                continue;
            };
            due.push(if contact.attempts < DIAL_FROM {
                Approach::Announce(contact.identity)
            } else {
                Approach::Dial(contact.identity)
            });
            contact.attempts += 1;
            contact.next = now + *pause;
            self.due.insert((contact.next, node));
        }
        for node in &silent {
            self.remove(*node);
        }
        (due, silent)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests;
