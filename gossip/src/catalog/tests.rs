use proptest::prelude::*;

use super::key::Key;
use super::*;

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32]).unwrap()
}

/// A node of the tests: its own catalog, its key.
struct Owner {
    key: SigningKey,
    id: NodeId,
    catalog: Catalog,
}

impl Owner {
    fn new(seed: u8, generation: u32) -> Self {
        let key = signer(seed);
        let id = NodeId::of_key(&key.public_key());
        Self { id, catalog: Catalog::new(id, Generation(generation)), key }
    }

    fn set(&mut self, key: &str, body: impl Into<Bytes>) -> Bytes {
        self.catalog.set(key, body.into(), &self.key).unwrap()
    }

    fn withdraw(&mut self, key: &str) -> Bytes {
        self.catalog.withdraw(key, &self.key).unwrap()
    }

    fn give(&self, to: &mut Catalog, key: &str, value: &Bytes) -> Result<Change, RecordError> {
        to.apply(self.id, key, value, &self.key.public_key())
    }
}

fn reader() -> Catalog {
    Catalog::new(NodeId::from_bytes([9; 16]), Generation(1))
}

fn orders() -> v1::ServiceRecord {
    v1::ServiceRecord {
        service: "ns/shop/svc/orders".into(),
        instance: 2,
        port: 80,
        protocol: v1::Protocol::Http.into(),
        zone: "a".into(),
        healthy: true,
        ..Default::default()
    }
}

const ORDERS: &str = "svc/shop/orders/2";

fn body(record: &impl Message) -> Bytes {
    record.encode_to_vec().into()
}

#[test]
fn a_service_is_read_as_its_owner_describes_it() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let value = owner.set(ORDERS, body(&orders()));
    assert_eq!(owner.give(&mut reader, ORDERS, &value), Ok(Change::Changed));
    assert_eq!(owner.give(&mut reader, ORDERS, &value), Ok(Change::Unchanged));
    let entries: Vec<_> = reader.services().collect();
    let [(of, entry)] = entries[..] else { panic!("{entries:?}") };
    assert_eq!((of, entry.service.path(), entry.instance), (owner.id, "ns/shop/svc/orders", 2));
    assert_eq!((entry.port, entry.weight, entry.healthy, entry.draining), (80, 100, true, false));
    let spiffe: SpiffeIdOf = "spiffe://demo.example/node/a".parse().unwrap();
    let endpoint = entry.endpoint(of, spiffe.clone(), "10.0.0.1:7".parse().unwrap());
    assert_eq!((endpoint.spiffe, endpoint.address.port(), &*endpoint.zone), (spiffe, 7, "a"));
}

type SpiffeIdOf = starling_proto::SpiffeId;

#[test]
fn a_node_is_read_as_it_describes_itself() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let record =
        v1::NodeRecord { name: "a".into(), zone: "z".into(), version: "1".into(), shards: 2, protocol_version: 1 };
    let value = owner.set(key::NODE, body(&record));
    owner.give(&mut reader, key::NODE, &value).unwrap();
    let read = reader.node_record(owner.id).unwrap();
    assert_eq!((&*read.name, &*read.zone, &*read.version, read.shards), ("a", "z", "1", 2));
    assert_eq!(reader.node_record(NodeId::from_bytes([3; 16])), None);
}

#[test]
fn setting_the_same_again_signs_nothing() {
    let mut owner = Owner::new(1, 5);
    let first = owner.set("k", "x");
    assert_eq!(owner.set("k", "x"), first);
    assert_ne!(owner.set("k", "y"), first);
}

#[test]
fn a_withdrawal_is_a_newer_value_and_an_old_one_can_not_undo_it() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let offered = owner.set(ORDERS, body(&orders()));
    let withdrawn = owner.withdraw(ORDERS);
    assert_eq!(owner.withdraw(ORDERS), withdrawn);
    assert_eq!(owner.give(&mut reader, ORDERS, &withdrawn), Ok(Change::Changed));
    assert_eq!(owner.give(&mut reader, ORDERS, &offered), Ok(Change::Stale));
    assert_eq!(reader.services().count(), 0);
    let again = owner.set(ORDERS, body(&orders()));
    assert_eq!(owner.give(&mut reader, ORDERS, &again), Ok(Change::Changed));
    assert_eq!(reader.services().count(), 1);
    assert_eq!(owner.catalog.withdraw("none", &owner.key), Err(RecordError::Unknown));
}

#[test]
fn a_higher_generation_replaces_all_and_a_lower_one_changes_nothing() {
    let (mut old, mut new, mut reader) = (Owner::new(1, 5), Owner::new(1, 6), reader());
    let (one, two) = (old.set("one", "1"), old.set("two", "2"));
    old.give(&mut reader, "one", &one).unwrap();
    old.give(&mut reader, "two", &two).unwrap();
    let three = new.set("three", "3");
    assert_eq!(new.give(&mut reader, "three", &three), Ok(Change::Changed));
    assert_eq!(reader.values().map(|value| &*value.key).collect::<Vec<_>>(), ["three"]);
    assert_eq!(old.give(&mut reader, "one", &one), Ok(Change::Stale));
    assert_eq!(reader.values().count(), 1);
}

#[test]
fn what_the_owner_did_not_sign_is_refused_and_says_why() {
    let mut owner = Owner::new(1, 5);
    let value = owner.set("k", "x");
    let changed = |change: &dyn Fn(&mut v1::SignedValue)| {
        let mut forged = v1::SignedValue::decode(value.clone()).unwrap();
        change(&mut forged);
        Bytes::from(forged.encode_to_vec())
    };
    let mut appended = value.to_vec();
    appended.extend_from_slice(&[0x7a, 1, 0]);
    for (forged, error) in [
        (changed(&|v| v.body = "y".into()), RecordError::Signature),
        (changed(&|v| v.generation += 1), RecordError::Signature),
        (changed(&|v| v.sequence += 1), RecordError::Signature),
        (changed(&|v| v.version += 1), RecordError::Signature),
        (changed(&|v| v.withdrawn = true), RecordError::Signature),
        (changed(&|v| v.signature = Bytes::new()), RecordError::Signature),
        (changed(&|v| v.owner = Bytes::from_static(&[3; 16])), RecordError::WrongOwner),
        (changed(&|v| v.key = "other".into()), RecordError::WrongKey),
        (changed(&|v| v.version = 0), RecordError::Range("version")),
        (changed(&|v| v.sequence = u64::MAX), RecordError::Range("sequence")),
        (appended.into(), RecordError::NotCanonical),
        (Bytes::from(vec![0; MAX_VALUE + 1]), RecordError::TooLarge(MAX_VALUE + 1)),
    ] {
        assert_eq!(owner.give(&mut reader(), "k", &forged), Err(error));
    }
    let other = Owner::new(2, 5);
    let stolen = reader().apply(owner.id, "k", &value, &other.key.public_key());
    assert_eq!(stolen, Err(RecordError::Signature));
    let garbage = owner.give(&mut reader(), "k", &Bytes::from_static(&[0xff; 9]));
    assert!(matches!(garbage, Err(RecordError::Malformed(_))), "{garbage:?}");
}

#[test]
fn our_own_values_come_from_nobody_else() {
    let mut owner = Owner::new(1, 5);
    let value = owner.set("k", "x");
    let mut restarted = Catalog::new(owner.id, Generation(6));
    assert_eq!(owner.give(&mut restarted, "k", &value), Err(RecordError::OwnRecord));
}

#[test]
fn a_body_that_is_not_what_its_key_says_is_refused() {
    let mut owner = Owner::new(1, 5);
    let mut refused = |record: v1::ServiceRecord| owner.catalog.set(ORDERS, body(&record), &owner.key).unwrap_err();
    for record in [
        v1::ServiceRecord { service: "ns/shop/svc/other".into(), ..orders() },
        v1::ServiceRecord { instance: 3, ..orders() },
        v1::ServiceRecord { port: 0, ..orders() },
        v1::ServiceRecord { port: 65_536, ..orders() },
        v1::ServiceRecord { weight: 10_001, ..orders() },
        v1::ServiceRecord { zone: "\u{1b}[2J".into(), ..orders() },
    ] {
        let error = refused(record);
        assert!(matches!(error, RecordError::Body { .. }), "{error:?}");
    }
    assert!(matches!(
        owner.catalog.set(ORDERS, Bytes::from_static(&[0xff]), &owner.key),
        Err(RecordError::Body { .. })
    ));
    assert!(matches!(owner.catalog.set("Bad", Bytes::new(), &owner.key), Err(RecordError::Key(_))));
}

#[test]
fn what_a_newer_node_offers_is_passed_on_unread() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let newer = owner.set(ORDERS, body(&v1::ServiceRecord { protocol: 1_000, ..orders() }));
    let other = owner.set("policy/head", "?");
    owner.give(&mut reader, ORDERS, &newer).unwrap();
    owner.give(&mut reader, "policy/head", &other).unwrap();
    assert_eq!((reader.services().count(), reader.values().count()), (0, 2));
}

#[test]
fn a_node_may_have_so_many_values_and_so_many_bytes_and_no_more() {
    let mut owner = Owner::new(1, 5);
    let over = owner.catalog.set("k", vec![0; MAX_VALUE].into(), &owner.key).unwrap_err();
    assert!(matches!(over, RecordError::TooLarge(_)), "{over:?}");
    for n in 0..MAX_RECORDS {
        owner.set(&format!("k{n}"), "x");
    }
    assert_eq!(owner.catalog.set("one-more", "x".into(), &owner.key), Err(RecordError::TooMany));
    owner.set("k0", "y");

    let mut owner = Owner::new(1, 5);
    let big = vec![0; MAX_VALUE - 200];
    let fit =
        (0..MAX_RECORDS).take_while(|n| owner.catalog.set(&format!("k{n}"), big.clone().into(), &owner.key).is_ok());
    let fit = fit.count();
    assert!((16..=17).contains(&fit), "{fit}");
    assert_eq!(owner.catalog.set("one-more", big.clone().into(), &owner.key), Err(RecordError::NodeFull));
    owner.withdraw("k0");
    owner.set("one-more", big);
}

#[test]
fn an_owners_replayed_past_can_not_keep_its_newest_out() {
    let (mut owner, mut victim) = (Owner::new(1, 5), reader());
    let big = vec![0; MAX_VALUE - 200];
    let mut past = Vec::new();
    for round in 0..3 {
        for n in 0..13 {
            let key = format!("k{round}.{n}");
            past.push((key.clone(), owner.set(&key, big.clone())));
        }
        for n in 0..13 {
            owner.withdraw(&format!("k{round}.{n}"));
        }
    }
    for (key, value) in &past {
        owner.give(&mut victim, key, value).unwrap();
    }
    let newest = owner.set("newest", big);
    assert_eq!(owner.give(&mut victim, "newest", &newest), Ok(Change::Changed));
    assert!(victim.values().any(|value| value.key == "newest"));
    let offered = victim.values().filter(|value| !value.withdrawn);
    assert!(offered.map(|value| value.encode_to_vec().len()).sum::<usize>() <= MAX_NODE);
}

#[test]
fn what_was_withdrawn_takes_no_room_from_what_is_offered_and_is_bounded_itself() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let mut told = Vec::new();
    for n in 0..MAX_WITHDRAWN {
        // The longest keys there may be.
        let key = format!("{n:0>MAX_KEY$}");
        owner.set(&key, "x");
        assert!(!owner.catalog.is_full_of_withdrawn());
        told.push((key.clone(), owner.withdraw(&key)));
    }
    assert!(owner.catalog.is_full_of_withdrawn());
    assert!(owner.catalog.sizes().1 <= MAX_NODE_WITHDRAWN);
    for n in 1..MAX_RECORDS {
        told.push((format!("k{n}"), owner.set(&format!("k{n}"), "x")));
    }
    assert_eq!(owner.catalog.withdraw("k1", &owner.key), Err(RecordError::TooManyWithdrawn));
    for (key, value) in &told {
        assert_eq!(owner.give(&mut reader, key, value), Ok(Change::Changed));
    }
    assert_eq!((reader.hash(), reader.sizes().0), (owner.catalog.hash(), MAX_KEYS - 1));
    // What was withdrawn can be offered again.
    let again = owner.set(&told[0].0, "y");
    assert_eq!(owner.give(&mut reader, &told[0].0, &again), Ok(Change::Changed));
    assert!(!owner.catalog.is_full_of_withdrawn());
    assert_eq!(owner.catalog.set("one-more", "x".into(), &owner.key), Err(RecordError::TooMany));
    assert_eq!(reader.hash(), owner.catalog.hash());
}

#[test]
fn a_key_of_a_service_names_its_record() {
    let service = "orders.shop".parse().unwrap();
    assert_eq!(Key::service(&service, 2).to_string(), ORDERS);
}

#[test]
fn a_forgotten_node_leaves_nothing() {
    let (mut owner, mut reader) = (Owner::new(1, 5), reader());
    let value = owner.set("k", "x");
    owner.give(&mut reader, "k", &value).unwrap();
    assert_ne!(reader.hash(), 0);
    assert_eq!(reader.hash(), reader.hash_of(owner.id));
    assert_eq!(reader.values_of(owner.id).count(), 1);
    reader.forget(owner.id);
    assert_eq!((reader.hash(), reader.values().count()), (0, 0));
}

/// One step of an owner's life: set a key to a body, or withdraw it.
fn step() -> impl Strategy<Value = (u8, u8, Option<u8>)> {
    (0..2_u8, 0..4_u8, proptest::option::of(0..3_u8))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nodes_that_saw_the_same_values_in_any_order_agree(
        steps in proptest::collection::vec(step(), 1..24),
        order in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let mut owners = [Owner::new(1, 5), Owner::new(2, 5)];
        let mut values = Vec::new();
        for (who, key, what) in steps {
            let (owner, key) = (&mut owners[usize::from(who)], format!("k{key}"));
            let value = match what {
                Some(body) => Some(owner.set(&key, vec![body])),
                None => owner.catalog.withdraw(&key, &owner.key).ok(),
            };
            values.extend(value.map(|value| (who, key, value)));
        }
        let mut shuffled = values.clone();
        for n in (1..shuffled.len()).rev() {
            let at = usize::try_from(seed.rotate_left(u32::try_from(n).unwrap()) % (n as u64 + 1)).unwrap();
            shuffled.swap(n, at);
        }
        let again = if values.is_empty() { vec![] } else { vec![values[order.index(values.len())].clone()] };
        let (mut one, mut two) = (reader(), reader());
        for (who, key, value) in &values {
            owners[usize::from(*who)].give(&mut one, key, value).unwrap();
        }
        for (who, key, value) in shuffled.iter().chain(&again) {
            owners[usize::from(*who)].give(&mut two, key, value).unwrap();
        }
        prop_assert_eq!(one.hash(), two.hash());
        let all = |catalog: &Catalog| catalog.values().cloned().collect::<Vec<_>>();
        prop_assert_eq!(all(&one), all(&two));
        for owner in &owners {
            prop_assert_eq!(one.hash_of(owner.id), owner.catalog.hash());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let owner = Owner::new(1, 5);
        prop_assert!(owner.give(&mut reader(), "k", &bytes.into()).is_err());
    }
}
