use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::{Catalog, MAX_KEYS, RecordError, text};
use super::*;
use crate::SigningKey;

const CLUSTER: &str = "demo.example";
const BEAT: u64 = 77;

/// A member of the tests.
struct Peer {
    key: SigningKey,
    id: ReplicaId,
    catalog: Catalog,
}

impl Peer {
    fn new(seed: u8) -> Self {
        let key = SigningKey::from_seed([seed; 32]).unwrap();
        let node = NodeId::of_key(&key.public_key());
        let address = SocketAddr::from(([10, 0, 0, seed], 7947));
        let id = ReplicaId { node, generation: 5, address };
        Self { id, catalog: Catalog::new(node, Generation(5)), key }
    }

    /// The text of a value that it sets now.
    fn set(&mut self, key: &str, body: &[u8]) -> String {
        text::encode(&self.catalog.set(key, Bytes::copy_from_slice(body), &self.key).unwrap())
    }
}

/// A node's table and replica, as the checker sees them.
struct World {
    this: ReplicaId,
    admitted: BTreeMap<NodeId, Admitted>,
    held: BTreeMap<ReplicaId, (u64, BTreeMap<String, usize>)>,
    more_ids: usize,
}

impl Admission for World {
    fn admitted(&self, node: NodeId) -> Option<Admitted> {
        self.admitted.get(&node).cloned()
    }
}

impl Replica for World {
    fn ids(&self) -> usize {
        self.held.len() + self.more_ids
    }

    fn max_version(&self, id: &ReplicaId) -> Option<u64> {
        self.held.get(id).map(|held| held.0)
    }

    fn sizes(&self, id: &ReplicaId) -> BTreeMap<String, usize> {
        self.held.get(id).map(|held| held.1.clone()).unwrap_or_default()
    }
}

impl World {
    fn new(peers: &[&Peer]) -> Self {
        let this = Peer::new(1).id;
        let admit = |peer: &Peer| Admitted {
            generation: Generation(5),
            address: peer.id.address,
            public_key: peer.key.public_key(),
            alive: true,
        };
        let admitted = peers.iter().map(|peer| (peer.id.node, admit(peer))).collect();
        Self { this, admitted, held: BTreeMap::from([(this, (2, BTreeMap::new()))]), more_ids: 0 }
    }

    fn check(&self, message: &[u8]) -> Result<Checked, WireError> {
        let context = Context { this: &self.this, cluster: CLUSTER, admission: self, replica: self, beat: BEAT };
        check(message, &context)
    }
}

fn head(kind: u8) -> Vec<u8> {
    let mut message = MAGIC.to_le_bytes().to_vec();
    message.extend_from_slice(&[PROTOCOL, kind]);
    message
}

fn digest(entries: &[(ReplicaId, u64, u64, u64)]) -> Vec<u8> {
    let mut bytes = u16::try_from(entries.len()).unwrap().to_le_bytes().to_vec();
    for (id, heartbeat, collected, max) in entries {
        id.write(&mut bytes);
        for number in [heartbeat, collected, max] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn syn(entries: &[(ReplicaId, u64, u64, u64)]) -> Vec<u8> {
    let mut message = head(0);
    message.extend(digest(entries));
    cursor::put_text(&mut message, CLUSTER);
    message
}

fn node(id: ReplicaId, collected: u64, from: u64) -> Vec<u8> {
    let mut bytes = vec![0];
    id.write(&mut bytes);
    bytes.extend_from_slice(&collected.to_le_bytes());
    bytes.extend_from_slice(&from.to_le_bytes());
    bytes
}

fn value(key: &str, text: &str, version: u64, status: u8) -> Vec<u8> {
    let mut bytes = vec![1];
    cursor::put_text(&mut bytes, key);
    cursor::put_text(&mut bytes, text);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.push(status);
    bytes
}

fn ack(operations: &[Vec<u8>]) -> Vec<u8> {
    let mut message = head(2);
    blocks::pack(&operations.concat(), &mut message);
    message
}

#[test]
fn a_syn_passes_with_our_heartbeats_for_its_own() {
    let (a, b) = (Peer::new(2), Peer::new(3));
    let mut world = World::new(&[&a, &b]);
    world.admitted.get_mut(&b.id.node).unwrap().alive = false;
    world.held.insert(b.id, (4, BTreeMap::new()));
    let mut entries = [(a.id, u64::MAX, 0, 9), (b.id, u64::MAX, 0, 9), (world.this, 5, 0, 2)];
    entries.sort();
    let checked = world.check(&syn(&entries)).unwrap();
    let expected = entries.map(|(id, _, gc, max)| (id, if id == a.id { BEAT } else { 1 }, gc, max));
    assert_eq!(checked, Checked { bytes: syn(&expected), skipped: Skipped::default() });
}

#[test]
fn ids_that_are_not_admitted_are_left_out_of_a_digest() {
    let (a, stranger) = (Peer::new(2), Peer::new(4));
    let world = World::new(&[&a]);
    let former = ReplicaId { generation: 4, ..a.id };
    let moved = ReplicaId { address: "10.9.9.9:1".parse().unwrap(), ..a.id };
    for other in [stranger.id, former, moved] {
        let mut entries = [(a.id, 3, 0, 9), (other, 3, 0, 9)];
        entries.sort();
        let checked = world.check(&syn(&entries)).unwrap();
        assert_eq!(checked.bytes, syn(&[(a.id, BEAT, 0, 9)]));
        assert_eq!(checked.skipped.unknown, 1);
    }
}

#[test]
fn a_former_boot_that_chitchat_still_holds_stays_known_and_still() {
    let a = Peer::new(2);
    let mut world = World::new(&[&a]);
    let former = ReplicaId { generation: 4, ..a.id };
    world.held.insert(former, (6, BTreeMap::new()));
    let checked = world.check(&syn(&[(former, 3, 0, 6), (a.id, 3, 0, 9)])).unwrap();
    assert_eq!(checked.bytes, syn(&[(former, 1, 0, 6), (a.id, BEAT, 0, 9)]));
}

#[test]
fn no_more_ids_are_let_in_than_a_digest_can_hold() {
    let a = Peer::new(2);
    let mut world = World::new(&[&a]);
    world.more_ids = MAX_IDS;
    let checked = world.check(&syn(&[(a.id, 3, 0, 9)])).unwrap();
    assert_eq!((checked.bytes, checked.skipped.full), (syn(&[]), vec![a.id.node]));
}

#[test]
fn values_that_their_owner_signed_pass_as_they_are() {
    let mut a = Peer::new(2);
    let world = World::new(&[&a]);
    let operations =
        [node(a.id, 0, 0), value("one", &a.set("one", b"1"), 1, 0), value("two", &a.set("two", b"2"), 2, 0)];
    let checked = world.check(&ack(&operations)).unwrap();
    assert_eq!(checked, Checked { bytes: ack(&operations), skipped: Skipped::default() });
    let mut both = head(1);
    both.extend(digest(&[(a.id, BEAT, 0, 2)]));
    blocks::pack(&operations.concat(), &mut both);
    assert_eq!(world.check(&both).unwrap().bytes, both);
}

#[test]
fn what_is_known_or_does_not_follow_is_left_out() {
    let mut a = Peer::new(2);
    let mut world = World::new(&[&a]);
    world.held.insert(a.id, (1, BTreeMap::new()));
    let (one, two) = (value("one", &a.set("one", b"1"), 1, 0), value("two", &a.set("two", b"2"), 2, 0));
    let checked = world.check(&ack(&[node(a.id, 0, 0), one.clone(), two.clone()])).unwrap();
    assert_eq!(checked.bytes, ack(&[node(a.id, 0, 0), two]));
    for useless in [vec![node(a.id, 0, 0), one], vec![node(a.id, 0, 9)], vec![node(a.id, 0, 1)]] {
        let checked = world.check(&ack(&useless)).unwrap();
        assert_eq!((checked.bytes, checked.skipped.stale), (ack(&[]), 1));
    }
}

#[test]
fn a_delta_of_a_node_that_is_not_admitted_is_left_out() {
    let (mut a, mut stranger) = (Peer::new(2), Peer::new(4));
    let world = World::new(&[&a]);
    let good = [node(a.id, 0, 0), value("one", &a.set("one", b"1"), 1, 0)].concat();
    let bad = [node(stranger.id, 0, 0), value("one", &stranger.set("one", b"1"), 1, 0)].concat();
    let checked = world.check(&ack(&[bad, good.clone()])).unwrap();
    assert_eq!((checked.bytes, checked.skipped.unknown), (ack(&[good]), 1));
}

#[test]
fn an_overtaken_answer_about_ourselves_is_left_out_and_a_forged_one_is_refused() {
    let world = World::new(&[]);
    let mut this = Peer::new(1);
    let (one, two) = (this.set("one", b"1"), this.set("two", b"2"));
    let overtaken = [node(this.id, 0, 0), value("one", &one, 1, 0), value("two", &two, 2, 0)];
    let checked = world.check(&ack(&overtaken)).unwrap();
    assert_eq!((checked.bytes, checked.skipped.own), (ack(&[]), 1));
    let forged = [node(this.id, 0, 0), value("one", &one, 3, 0)];
    assert_eq!(world.check(&ack(&forged)), Err(WireError::AboutOurselves));
}

#[test]
fn each_forbidden_thing_is_refused_with_its_own_error() {
    let mut a = Peer::new(2);
    let other = Peer::new(3);
    let world = World::new(&[&a, &other]);
    let (one, two) = (a.set("one", b"1"), a.set("two", b"2"));
    let mut old = Peer::new(2);
    old.catalog = Catalog::new(old.id.node, Generation(4));
    let earlier = old.set("one", b"1");
    let long = "A".repeat(text::MAX_TEXT + 1);
    let max_version = [vec![2], 9_u64.to_le_bytes().to_vec()].concat();
    let about = |operations: &[Vec<u8>]| ack(&[&[node(a.id, 0, 0)], operations].concat());
    let mut ids = [(a.id, 3, 0, 9), (other.id, 3, 0, 9)];
    ids.sort_by(|x, y| y.cmp(x));
    let mut cluster = syn(&[]);
    let at = cluster.len() - 1;
    cluster[at] = b'x';
    for (message, error) in [
        (syn(&[(a.id, 3, 1, 9)]), WireError::Collected),
        (syn(&ids), WireError::DigestOrder),
        (syn(&[(a.id, 3, 0, 9), (a.id, 3, 0, 9)]), WireError::DigestOrder),
        (cluster, WireError::Cluster),
        ([syn(&[]), vec![0]].concat(), WireError::Trailing(1)),
        ([ack(&[]), vec![0, 0]].concat(), WireError::Trailing(2)),
        (vec![1, 2, 3, 4], WireError::Magic),
        ([&MAGIC.to_le_bytes()[..], &[1, 0]].concat(), WireError::Protocol(1)),
        (head(3), WireError::Kind(3)),
        (head(255), WireError::Kind(255)),
        (head(2), WireError::Short("a block")),
        (vec![0; MAX_MESSAGE + 1], WireError::TooLarge(MAX_MESSAGE + 1)),
        ([head(2), vec![3, 0, 0]].concat(), WireError::Block(3)),
        ([head(2), vec![1, 4, 0], b"zstd".to_vec(), vec![0]].concat(), WireError::Decompress),
        (ack(&[node(a.id, 1, 0)]), WireError::Collected),
        (ack(&[node(a.id, 0, 0), node(a.id, 0, 0)]), WireError::DuplicateNode),
        (ack(&[value("one", &one, 1, 0)]), WireError::NoNode),
        (about(&[max_version]), WireError::MaxVersion),
        (about(&[vec![7]]), WireError::Operation(7)),
        (about(&[value("one", &one, 1, 1)]), WireError::Tombstone),
        (about(&[value("one", &one, 1, 2)]), WireError::Tombstone),
        (about(&[value("one", &one, 0, 0)]), WireError::VersionOrder),
        (about(&[value("two", &two, 2, 0), value("one", &one, 1, 0)]), WireError::VersionOrder),
        (about(&[value("one", &one, 1, 0), value("one", &one, 2, 0)]), WireError::DuplicateKey),
        (about(&[value("one", &one, 2, 0)]), WireError::Version),
        (about(&[value("one", &one, u64::MAX, 0)]), WireError::Version),
        (about(&[value("one", &earlier, 1, 0)]), WireError::Generation),
        (about(&[value("one", "?", 1, 0)]), WireError::Text(text::TextError::Base64)),
        (about(&[value("one", &long, 1, 0)]), WireError::Text(text::TextError::TooLarge(long.len()))),
        (about(&[value("two", &one, 1, 0)]), WireError::Record(RecordError::WrongKey)),
        (ack(&[node(other.id, 0, 0), value("one", &one, 1, 0)]), WireError::Record(RecordError::WrongOwner)),
    ] {
        assert_eq!(world.check(&message), Err(error.clone()), "{error}");
    }
}

#[test]
fn a_value_that_somebody_else_signed_is_refused() {
    let (a, mut mallory) = (Peer::new(2), Peer::new(4));
    let world = World::new(&[&a, &mallory]);
    mallory.catalog = Catalog::new(a.id.node, Generation(5));
    let forged = [node(a.id, 0, 0), value("one", &mallory.set("one", b"1"), 1, 0)];
    assert_eq!(world.check(&ack(&forged)), Err(WireError::Record(RecordError::Signature)));
}

#[test]
fn a_bomb_is_refused_and_a_long_delta_is_cut_between_values() {
    let mut bomb = head(2);
    let packed = zstd::bulk::compress(&vec![0; MAX_BLOCK + 1], 0).unwrap();
    bomb.push(1);
    bomb.extend_from_slice(&u16::try_from(packed.len()).unwrap().to_le_bytes());
    bomb.extend_from_slice(&packed);
    let world = World::new(&[]);
    assert_eq!(world.check(&bomb), Err(WireError::Decompress));

    let mut a = Peer::new(2);
    let world = World::new(&[&a]);
    let mut operations = vec![node(a.id, 0, 0), value("one", &a.set("one", b"1"), 1, 0)];
    // Deltas of strangers, each of which compresses to nearly nothing.
    for n in 0..3_000_u64 {
        operations.push(node(ReplicaId { generation: n, ..Peer::new(9).id }, 0, 0));
        operations.push(value("k", &"A".repeat(400), 1, 0));
    }
    let mut message = head(2);
    for block in operations.concat().chunks(MAX_BLOCK) {
        let packed = zstd::bulk::compress(block, 0).unwrap();
        message.push(1);
        message.extend_from_slice(&u16::try_from(packed.len()).unwrap().to_le_bytes());
        message.extend_from_slice(&packed);
    }
    message.push(0);
    let checked = world.check(&message).unwrap();
    assert!(checked.skipped.cut);
    assert_eq!(checked.bytes, ack(&operations[..2]));
}

#[test]
fn chitchat_never_holds_more_of_a_node_than_its_share() {
    let mut a = Peer::new(2);
    let mut world = World::new(&[&a]);
    let held = (0..MAX_KEYS).map(|n| (format!("h{n}"), 10)).collect();
    world.held.insert(a.id, (0, held));
    let one = value("one", &a.set("one", b"1"), 1, 0);
    let checked = world.check(&ack(&[node(a.id, 0, 0), one.clone()])).unwrap();
    assert_eq!((checked.bytes, checked.skipped.full), (ack(&[]), vec![a.id.node]));
    world.held.insert(a.id, (0, BTreeMap::from([("big".into(), delta::MAX_NODE_TEXT)])));
    assert_eq!(world.check(&ack(&[node(a.id, 0, 0), one])).unwrap().skipped.full, [a.id.node]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_nor_grow(kind in 0..4_u8, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let a = Peer::new(2);
        let world = World::new(&[&a]);
        let _ = world.check(&bytes);
        if let Ok(checked) = world.check(&[head(kind), bytes].concat()) {
            prop_assert!(checked.bytes.len() <= MAX_MESSAGE + MAX_DELTA);
        }
    }

    #[test]
    fn arbitrary_operations_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut a = Peer::new(2);
        let world = World::new(&[&a]);
        let good = [node(a.id, 0, 0), value("one", &a.set("one", b"1"), 1, 0)];
        let _ = world.check(&ack(&[good.concat(), bytes.clone()]));
        let _ = world.check(&ack(&[bytes]));
    }

    #[test]
    fn a_damaged_message_is_refused_or_still_says_only_what_was_signed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut a = Peer::new(2);
        let world = World::new(&[&a]);
        let operations = [node(a.id, 0, 0), value("one", &a.set("one", b"1"), 1, 0)];
        let whole = ack(&operations);
        let mut message = whole.clone();
        let at = at.index(message.len());
        message[at] ^= 1 << bit;
        if let Ok(checked) = world.check(&message) {
            prop_assert!(checked.bytes == whole || checked.bytes == ack(&[]), "{:?}", checked);
        }
    }
}
