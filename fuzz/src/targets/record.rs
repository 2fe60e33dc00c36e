//! Values of the catalog: forged ones, and such as their owner signed who keeps to no rule.

use bytes::Bytes;
use prost::Message;
use starling_gossip::catalog::{self, Catalog, MAX_NODE, MAX_RECORDS, MAX_WITHDRAWN};
use starling_gossip::raw;
use starling_proto::Generation;
use starling_proto::mesh::v1;

use super::people::{GENERATION, catalog as offers, id, key};
use super::{Run, Target};
use crate::fingerprint::of_answer;

/// A reader's catalog starts anew after so many inputs.
const LIFE: u32 = 512;

pub(super) fn target() -> Target {
    Target {
        name: "record",
        about: "values of the catalog, forged, and signed by an owner who keeps to no rule",
        memory: 256 << 10,
        least_answers: 10,
        seeds,
        start,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut owner = Catalog::new(id(1), Generation(GENERATION));
    let service = v1::ServiceRecord {
        service: "ns/default/svc/orders".to_owned(),
        port: 80,
        protocol: v1::Protocol::Http.into(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..Default::default()
    };
    let node = v1::NodeRecord { name: "n1".to_owned(), shards: 2, ..Default::default() };
    for (key_text, body) in [("node", node.encode_to_vec()), ("svc/default/orders/0", service.encode_to_vec())] {
        owner.set(key_text, body.into(), &key(1)).expect("it fits");
    }
    let values = owner.values().cloned().collect::<Vec<_>>();
    let mut seeds: Vec<_> = values.iter().chain(offers(1).values()).map(Message::encode_to_vec).collect();
    // The first byte says how it is signed.
    seeds = seeds.into_iter().flat_map(|seed| [[&[0], &seed[..]].concat(), [&[1], &seed[..]].concat()]).collect();
    seeds
}

fn start() -> Run {
    let honest = offers(2);
    let mut reader = fresh(&honest);
    let mut life = 0;
    Box::new(move |input| {
        life += 1;
        if life % LIFE == 0 {
            reader = fresh(&honest);
        }
        let Some((how, bytes)) = input.split_first() else { return 0 };
        let mut value = v1::SignedValue::decode(bytes).ok();
        let mut encoded = Bytes::copy_from_slice(bytes);
        if let Some(value) = value.as_mut().filter(|_| how % 2 == 1) {
            value.owner = id(1).to_bytes();
            raw::sign_value(value, &key(1));
            encoded = value.encode_to_vec().into();
        }
        let key_text = value.as_ref().map_or_else(String::new, |value| value.key.clone());
        let opened = catalog::open(id(1), &key_text, &encoded, &key(1).public_key());
        if let Ok(opened) = &opened {
            assert!(raw::is_signed_by(opened, &key(1).public_key()));
        }
        let applied = reader.apply(id(1), &key_text, &encoded, &key(1).public_key());
        assert!(opened.is_ok() || applied.is_err() || applied == Ok(catalog::Change::Unchanged));
        check(&reader, &honest);
        of_answer(&format!("{:?} {applied:?}", opened.map(|value| value.withdrawn)))
    })
}

fn fresh(honest: &Catalog) -> Catalog {
    let mut reader = Catalog::new(id(9), Generation(GENERATION));
    for value in honest.values() {
        let encoded = value.encode_to_vec().into();
        reader.apply(id(2), &value.key, &encoded, &key(2).public_key()).expect("it is good");
    }
    reader
}

/// Whatever another node offers stays as it is; nobody has more than it may.
fn check(reader: &Catalog, honest: &Catalog) {
    assert_eq!(reader.hash_of(id(2)), honest.hash(), "another's values changed");
    let (mut count, mut bytes, mut withdrawn) = (0, 0, 0);
    for value in reader.values_of(id(1)) {
        if value.withdrawn {
            withdrawn += 1;
        } else {
            count += 1;
            bytes += value.encoded_len();
        }
    }
    assert!(count <= MAX_RECORDS && bytes <= MAX_NODE, "{count} values of {bytes} bytes");
    assert!(withdrawn <= MAX_WITHDRAWN, "{withdrawn} withdrawn");
}
