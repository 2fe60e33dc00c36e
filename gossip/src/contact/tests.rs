use std::net::IpAddr;

use bytes::Bytes;
use starling_proto::{Generation, NodeAddress};

use super::*;
use crate::VerifiedCredential;

fn identity(generation: u32) -> MemberIdentity {
    MemberIdentity {
        node_id: NodeId::of_key(b"a"),
        address: NodeAddress { ip: IpAddr::from([10, 0, 0, 1]), gossip_port: 1, quic_port: 2 },
        generation: Generation(generation),
        rejoin: 0,
        cell: 0,
    }
}

fn proof() -> Proof {
    let spiffe = "spiffe://demo.example/node/a".parse().unwrap();
    let node_id = identity(1).node_id;
    let verified = VerifiedCredential { spiffe, gossip_key: [1; 32], node_id, issued_at: 1, services: Vec::new() };
    Proof { credential: Bytes::new(), verified }
}

fn seed() -> NodeId {
    NodeId::of_key(b"seed")
}

#[test]
fn a_contact_is_announced_to_then_dialed_then_given_up() {
    let start = Instant::now();
    let mut contacts = Contacts::default();
    contacts.add(seed(), identity(1), None, 0, start);
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
    contacts.add(seed(), identity(2), None, 0, start);
    assert_eq!(contacts.take_due(start).0, [Approach::Announce(identity(2))]);
    contacts.add(seed(), identity(1), None, 0, start);
    assert_eq!(contacts.take_due(start).0, []);
    contacts.add(seed(), identity(3), None, 0, start);
    assert_eq!(contacts.take_due(start).0, [Approach::Announce(identity(3))]);
}

#[test]
fn one_who_names_what_never_answers_is_heard_less_and_less() {
    let start = Instant::now();
    let mut contacts = Contacts::default();
    let named = (1..=2_000).filter(|n| contacts.add(seed(), identity(*n), None, 0, start)).count();
    assert_eq!(named, 512);
    let other = NodeId::of_key(b"other");
    assert!(contacts.add(other, identity(5_000), None, 0, start), "nobody pays for another");
    let hour = start + Duration::from_hours(1);
    let tries = (0..3_600).filter(|second| {
        contacts.add(seed(), identity(10_000 + second), None, 0, start + Duration::from_secs(u64::from(*second)))
    });
    assert!((355..=361).contains(&tries.count()), "one in ten seconds");
    assert!(contacts.take_due(hour).0.len() <= 1);
}

#[test]
fn one_who_names_what_answers_may_go_on() {
    let start = Instant::now();
    let mut contacts = Contacts::default();
    for n in 1..=2_000 {
        assert!(contacts.add(seed(), identity(n), None, 0, start));
        contacts.on_answer(identity(n).node_id);
    }
}

/// How far a node is: never named, or spoken to so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unknown,
    /// Not yet.
    Named,
    /// Once to thrice, by announces.
    Announced,
    /// Four to six times, dialed too.
    Dialed,
    /// As often as there are pauses.
    Tried,
}

impl Stage {
    /// Each, and after how many attempts it ends.
    const ALL: [(Self, usize); 5] =
        [(Self::Unknown, 0), (Self::Named, 0), (Self::Announced, 3), (Self::Dialed, 6), (Self::Tried, 7)];

    fn of(contacts: &Contacts) -> Self {
        match contacts.get(identity(1).node_id).map(|contact| contact.attempts) {
            None => Self::Unknown,
            Some(0) => Self::Named,
            Some(1..=3) => Self::Announced,
            Some(4..=6) => Self::Dialed,
            Some(_) => Self::Tried,
        }
    }

    /// A machine at the end of this stage, and when its contact is due.
    fn machine(self, attempts: usize, proof: Option<Proof>, start: Instant) -> (Contacts, Instant) {
        let (mut contacts, mut due) = (Contacts::default(), start);
        if self != Self::Unknown {
            contacts.add(seed(), identity(2), proof, 0, start);
        }
        for _ in 0..attempts {
            contacts.take_due(due);
            due = contacts.next().unwrap();
        }
        assert_eq!(Self::of(&contacts), self);
        (contacts, due)
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Named: with a lower identity, the same, a higher one.
    Lower,
    Same,
    Higher,
    /// By one that may name nothing more.
    SameUnpaid,
    HigherUnpaid,
    Answered,
    Removed,
    TooEarly,
    Due,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Lower,
        Self::Same,
        Self::Higher,
        Self::SameUnpaid,
        Self::HigherUnpaid,
        Self::Answered,
        Self::Removed,
        Self::TooEarly,
        Self::Due,
    ];

    fn take(self, contacts: &mut Contacts, proof: Option<Proof>, due: Instant) -> Did {
        let spent = NodeId::of_key(b"spent");
        while contacts.credit.take(spent, due) {}
        let node = identity(1).node_id;
        let mut named = |by, generation, proof| {
            let heard = contacts.add(by, identity(generation), proof, 0, due);
            if heard { Did::Nothing } else { Did::Unheard }
        };
        match self {
            Self::Lower => named(seed(), 1, proof),
            Self::Same => named(seed(), 2, proof),
            Self::Higher => named(seed(), 3, proof),
            Self::SameUnpaid => named(spent, 2, proof),
            Self::HigherUnpaid => named(spent, 3, proof),
            Self::Answered => {
                contacts.on_answer(node);
                Did::Nothing
            }
            Self::Removed => {
                contacts.remove(node);
                Did::Nothing
            }
            Self::TooEarly => Did::of(contacts.take_due(due.checked_sub(Duration::from_millis(1)).unwrap())),
            Self::Due => Did::of(contacts.take_due(due)),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Nothing,
    /// It was not heard.
    Unheard,
    Announce,
    Dial,
    GiveUp,
}

impl Did {
    fn of((due, silent): (Vec<Approach>, Vec<NodeId>)) -> Self {
        match (&due[..], &silent[..]) {
            ([], []) => Self::Nothing,
            ([Approach::Announce(_)], []) => Self::Announce,
            ([Approach::Dial(_)], []) => Self::Dial,
            ([], [_]) => Self::GiveUp,
            both => panic!("{both:?}"),
        }
    }
}

/// What is held of each contact fits together.
fn check(contacts: &Contacts) {
    let proven = contacts.waiting.values().filter(|contact| contact.proof.is_some()).count();
    assert_eq!((contacts.candidates(), contacts.names.values().map(BTreeSet::len).sum()), (proven, proven));
    let due: BTreeSet<_> = contacts.waiting.iter().map(|(node, contact)| (contact.next, *node)).collect();
    assert_eq!(contacts.due, due);
}

#[test]
fn every_input_moves_every_contact_as_the_table_says() {
    use Did::{Announce, Dial, GiveUp, Nothing, Unheard};
    use Stage::{Announced, Dialed, Named, Tried, Unknown};
    let table = |step| match step {
        Step::Lower | Step::Same => {
            [(Nothing, Named), (Nothing, Named), (Nothing, Announced), (Nothing, Dialed), (Nothing, Tried)]
        }
        Step::Higher => [(Nothing, Named), (Nothing, Named), (Nothing, Named), (Nothing, Named), (Nothing, Named)],
        Step::SameUnpaid => {
            [(Unheard, Unknown), (Nothing, Named), (Nothing, Announced), (Nothing, Dialed), (Nothing, Tried)]
        }
        Step::HigherUnpaid => {
            [(Unheard, Unknown), (Unheard, Named), (Unheard, Announced), (Unheard, Dialed), (Unheard, Tried)]
        }
        Step::Answered | Step::Removed => [(Nothing, Unknown); 5],
        Step::TooEarly => {
            [(Nothing, Unknown), (Nothing, Named), (Nothing, Announced), (Nothing, Dialed), (Nothing, Tried)]
        }
        Step::Due => [(Nothing, Unknown), (Announce, Announced), (Dial, Dialed), (Dial, Tried), (GiveUp, Unknown)],
    };
    let start = Instant::now();
    let known = || Some(proof());
    for step in Step::ALL {
        for ((stage, attempts), expected) in Stage::ALL.into_iter().zip(table(step)) {
            // With its key and without; who had one keeps it, whoever names it next.
            for (before, with) in [(None, None), (known(), known()), (None, known()), (known(), None)] {
                let (mut contacts, due) = stage.machine(attempts, before.clone(), start);
                let had = contacts.candidates();
                let did = step.take(&mut contacts, with.clone(), due);
                assert_eq!((did, Stage::of(&contacts)), expected, "{stage:?}, {step:?}");
                check(&contacts);
                let named = matches!(step, Step::Lower | Step::Same | Step::Higher);
                assert!(!named || contacts.candidates() >= had, "{stage:?}, {step:?}");
            }
        }
    }
}
