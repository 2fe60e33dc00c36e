//! The caps at their real size: 500 members, each with all that one may have.

use std::collections::BTreeMap;

use super::*;

const MEMBERS: u32 = 500;

fn key_of(n: u32) -> SigningKey {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    SigningKey::from_seed(seed).unwrap()
}

/// As many of the largest values as fit, and how many bytes they have.
fn fill(owner: NodeId, signer: &SigningKey) -> Vec<(String, Bytes)> {
    let mut catalog = Catalog::new(owner, Generation(1));
    // The largest body whose value has 4 KiB.
    let empty = catalog.set("k00", Bytes::new(), signer).unwrap().len();
    let body = Bytes::from(vec![0x5a; MAX_VALUE - empty - 3]);
    let mut values = Vec::new();
    for n in 0..MAX_RECORDS {
        let key = format!("k{n:02}");
        match catalog.set(&key, body.clone(), signer) {
            Ok(value) => values.push((key, value)),
            Err(error) => {
                assert_eq!(error, RecordError::NodeFull);
                break;
            }
        }
    }
    values
}

#[test]
fn five_hundred_members_with_all_that_each_may_have_fit_and_no_byte_more() {
    let mut reader = Catalog::new(NodeId::from_bytes([9; 16]), Generation(1));
    let mut bytes = BTreeMap::new();
    for n in 0..MEMBERS {
        let signer = key_of(n);
        let (owner, public) = (signer.node_id(), signer.public_key());
        for (key, value) in fill(owner, &signer) {
            assert!((MAX_VALUE - 2..=MAX_VALUE).contains(&value.len()), "{}", value.len());
            assert_eq!(reader.apply(owner, &key, &value, &public), Ok(Change::Changed));
            *bytes.entry(owner).or_insert(0) += value.len();
        }
    }
    assert_eq!(bytes.len(), MEMBERS as usize);
    assert!(bytes.values().all(|bytes| (MAX_NODE - 64..=MAX_NODE).contains(bytes)), "sixteen values fill a share");
    let (count, total) = reader.sizes();
    assert_eq!((count, total), (16 * MEMBERS as usize, bytes.values().sum::<usize>()));
    assert!(total <= MEMBERS as usize * MAX_NODE);
    // Each merge costs what its own node has, and not what all have: the hash is kept, not computed.
    let before = reader.hash();
    let signer = key_of(0);
    let mut owner = Catalog::new(signer.node_id(), Generation(2));
    let value = owner.set("k", Bytes::from_static(b"x"), &signer).unwrap();
    reader.apply(signer.node_id(), "k", &value, &signer.public_key()).unwrap();
    assert_ne!(reader.hash(), before);
    assert_eq!(reader.sizes().0, count - 15);
    for owner in bytes.keys() {
        reader.forget(*owner);
    }
    assert_eq!((reader.sizes(), reader.hash()), ((0, 0), 0));
}

#[test]
fn as_many_small_values_as_a_node_may_have_fit_and_the_next_is_refused() {
    let signer = key_of(1);
    let mut owner = Catalog::new(signer.node_id(), Generation(1));
    let mut reader = Catalog::new(NodeId::from_bytes([9; 16]), Generation(1));
    for n in 0..MAX_RECORDS {
        let key = format!("k{n}");
        let value = owner.set(&key, Bytes::from_static(b"x"), &signer).unwrap();
        reader.apply(signer.node_id(), &key, &value, &signer.public_key()).unwrap();
    }
    assert_eq!(owner.set("more", Bytes::new(), &signer), Err(RecordError::TooMany));
    assert_eq!(reader.sizes().0, MAX_RECORDS);
    assert_eq!(reader.hash(), owner.hash());
}
