use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::{MemberIdentity, NodeId};

use crate::admission::{Proof, rank};

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

/// Nodes that others named: each is spoken to until it answers itself, and counts for nothing until then.
#[derive(Debug, Default)]
pub(crate) struct Contacts {
    waiting: BTreeMap<NodeId, Contact>,
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
    pub(crate) fn candidates(&self) -> usize {
        self.waiting.values().filter(|contact| contact.proof.is_some()).count()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Contact> {
        self.waiting.get(&node)
    }

    /// A node was named. Speaks to it at `at`, unless that is going on with this identity or a higher one.
    pub(crate) fn add(&mut self, identity: MemberIdentity, proof: Option<Proof>, floor: u64, at: Instant) {
        let node = identity.node_id;
        match self.waiting.get_mut(&node) {
            Some(known) if rank(&known.identity) >= rank(&identity) => {}
            Some(known) => {
                let proof = proof.or_else(|| known.proof.take());
                *known = Contact { identity, proof, floor, attempts: 0, next: at };
            }
            None => {
                self.waiting.insert(node, Contact { identity, proof, floor, attempts: 0, next: at });
            }
        }
    }

    /// It spoke itself, or it is forgotten.
    pub(crate) fn remove(&mut self, node: NodeId) -> Option<Contact> {
        self.waiting.remove(&node)
    }

    /// When the next one is to be spoken to.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.values().map(|contact| contact.next).min()
    }

    /// Whom to speak to now. Those that never answered are given up and their ids returned apart.
    pub(crate) fn take_due(&mut self, now: Instant) -> (Vec<Approach>, Vec<NodeId>) {
        let (mut due, mut silent) = (Vec::new(), Vec::new());
        for (node, contact) in &mut self.waiting {
            if contact.next > now {
                continue;
            }
            let Some(pause) = PAUSES.get(contact.attempts) else {
                silent.push(*node);
                continue;
            };
            due.push(if contact.attempts < DIAL_FROM {
                Approach::Announce(contact.identity)
            } else {
                Approach::Dial(contact.identity)
            });
            contact.attempts += 1;
            contact.next = now + *pause;
        }
        for node in &silent {
            self.waiting.remove(node);
        }
        (due, silent)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use starling_proto::{Generation, NodeAddress};
    use std::net::IpAddr;

    fn identity(generation: u32) -> MemberIdentity {
        MemberIdentity {
            node_id: NodeId::of_key(b"a"),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, 1]), gossip_port: 1, quic_port: 2 },
            generation: Generation(generation),
            rejoin: 0,
            cell: 0,
        }
    }

    #[test]
    fn a_contact_is_announced_to_then_dialed_then_given_up() {
        let start = Instant::now();
        let mut contacts = Contacts::default();
        contacts.add(identity(1), None, 0, start);
        let (mut announced, mut dialed) = (0, 0);
        while let Some(at) = contacts.next() {
            for approach in contacts.take_due(at).0 {
                match approach {
                    Approach::Announce(_) => announced += 1,
                    Approach::Dial(_) => dialed += 1,
                }
            }
            assert!(at < start + Duration::from_secs(30));
        }
        assert_eq!((announced, dialed), (3, 4));
        assert!(contacts.get(identity(1).node_id).is_none());
    }

    #[test]
    fn a_higher_identity_starts_anew_and_a_lower_one_changes_nothing() {
        let start = Instant::now();
        let mut contacts = Contacts::default();
        contacts.add(identity(2), None, 0, start);
        assert_eq!(contacts.take_due(start).0, [Approach::Announce(identity(2))]);
        contacts.add(identity(1), None, 0, start);
        assert_eq!(contacts.take_due(start).0, []);
        contacts.add(identity(3), None, 0, start);
        assert_eq!(contacts.take_due(start).0, [Approach::Announce(identity(3))]);
    }
}
