//! Messages of chitchat, before chitchat sees them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chitchat::{ChitchatMessage, Deserializable};
use prost::Message;
use starling_gossip::catalog::text;
use starling_gossip::catalog::wire::{self, Admission, Admitted, Checked, Context, Replica, ReplicaId, WireError};
use starling_proto::NodeId;

use super::people::{GENERATION, catalog, id, identity, key};
use super::{Run, Target};
use crate::fingerprint::{letter, of_answer};

const CLUSTER: &str = "demo.example";
const MAGIC: [u8; 2] = 45_139_u16.to_le_bytes();

pub(super) fn target() -> Target {
    Target {
        name: "chitchat",
        about: "messages of chitchat, and deltas as they are once decompressed",
        // A delta is read up to 512 KiB, kept, and written anew; a message has at most 66 KiB.
        memory: 4 << 20,
        least_answers: 15,
        seeds,
        start,
    }
}

/// A node that knows members 1 and 2, and holds the first value of 2.
struct Table;

impl Admission for Table {
    fn admitted(&self, node: NodeId) -> Option<Admitted> {
        let n = (1..4).find(|n| id(*n) == node)?;
        let identity = identity(n);
        Some(Admitted {
            generation: identity.generation,
            address: identity.address.quic(),
            public_key: key(n).public_key(),
            alive: n != 3,
        })
    }
}

impl Replica for Table {
    fn ids(&self) -> usize {
        2
    }

    fn max_version(&self, replica: &ReplicaId) -> Option<u64> {
        (*replica == self::replica(2)).then_some(1)
    }

    fn sizes(&self, replica: &ReplicaId) -> BTreeMap<String, usize> {
        if *replica == self::replica(2) { BTreeMap::from([("k0".to_owned(), 200)]) } else { BTreeMap::new() }
    }
}

fn replica(n: u8) -> ReplicaId {
    ReplicaId { node: id(n), generation: GENERATION.into(), address: identity(n).address.quic() }
}

fn put_text(text: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn put_id(id: &ReplicaId, to: &mut Vec<u8>) {
    put_text(&id.node.to_string(), to);
    to.extend_from_slice(&id.generation.to_le_bytes());
    let SocketAddr::V4(address) = id.address else { return };
    to.push(4);
    to.extend_from_slice(&address.ip().octets());
    to.extend_from_slice(&address.port().to_le_bytes());
}

fn digest() -> Vec<u8> {
    let mut replicas = [replica(1), replica(2), replica(4)];
    replicas.sort();
    let mut bytes = 3_u16.to_le_bytes().to_vec();
    for replica in replicas {
        put_id(&replica, &mut bytes);
        for number in [4_u64, 0, 3] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn operations(n: u8) -> Vec<u8> {
    let mut bytes = vec![0];
    put_id(&replica(n), &mut bytes);
    bytes.extend_from_slice(&[0; 16]);
    let offers = catalog(n);
    let mut values: Vec<_> = offers.values().collect();
    values.sort_by_key(|value| value.version);
    for value in values {
        bytes.push(1);
        put_text(&value.key, &mut bytes);
        put_text(&text::encode(&value.encode_to_vec()), &mut bytes);
        bytes.extend_from_slice(&value.version.to_le_bytes());
        bytes.push(0);
    }
    bytes
}

/// An Ack of these operations.
fn ack(operations: &[u8], packed: bool) -> Vec<u8> {
    let mut message = [&MAGIC[..], &[0, 2]].concat();
    for block in operations.chunks(wire::MAX_BLOCK) {
        let compressed = zstd::bulk::compress(block, 1).ok().filter(|_| packed);
        message.push(if compressed.is_some() { 1 } else { 2 });
        let block = compressed.as_deref().unwrap_or(block);
        message.extend_from_slice(&u16::try_from(block.len()).unwrap_or(u16::MAX).to_le_bytes());
        message.extend_from_slice(block);
    }
    message.push(0);
    message
}

/// The first byte says what follows: 0 a message, 1 operations, 2 operations that travel compressed.
fn seeds() -> Vec<Vec<u8>> {
    let mut syn = [&MAGIC[..], &[0, 0]].concat();
    syn.extend(digest());
    put_text(CLUSTER, &mut syn);
    let both = [operations(1), operations(2)].concat();
    let mut syn_ack = [&MAGIC[..], &[0, 1]].concat();
    syn_ack.extend(digest());
    syn_ack.extend_from_slice(&ack(&both, true)[4..]);
    let own = operations(9);
    let stranger = operations(4);
    let jump = [&operations(1)[..], &[2], &9_u64.to_le_bytes()].concat();
    // As many times what it was: a bomb.
    let bomb = vec![b'A'; 15_000];
    let great_bomb = vec![b'A'; 4 << 20];
    let plain = [both, own, stranger, jump, bomb];
    let mut seeds = vec![[&[0], &syn[..]].concat(), [&[0], &syn_ack[..]].concat()];
    for operations in plain {
        seeds.push([&[1], &operations[..]].concat());
        seeds.push([&[2], &operations[..]].concat());
        seeds.push([&[0], &ack(&operations, true)[..]].concat());
    }
    seeds.push([&[0], &ack(&great_bomb, true)[..]].concat());
    seeds
}

fn check(message: &[u8]) -> Result<Checked, WireError> {
    let this = replica(9);
    let context = Context { this: &this, cluster: CLUSTER, admission: &Table, replica: &Table, beat: 77 };
    wire::check(message, &context)
}

fn start() -> Run {
    Box::new(|input| {
        let Some((kind, bytes)) = input.split_first() else { return 0 };
        let message = match kind % 3 {
            0 => bytes.to_vec(),
            kind => ack(bytes, kind == 2),
        };
        let answer = check(&message);
        if let Ok(checked) = &answer {
            let again = check(&checked.bytes).expect("what was written is good");
            assert_eq!(again.bytes, checked.bytes, "what was checked stays as it is");
            assert!(ChitchatMessage::deserialize(&mut &checked.bytes[..]).is_ok(), "chitchat reads what was written");
        }
        let answer = answer.map(|checked| {
            let skipped = &checked.skipped;
            let numbers = [checked.bytes.len(), skipped.unknown as usize, skipped.stale as usize, skipped.own as usize];
            let words: String = numbers.map(letter).iter().collect();
            (words, skipped.full.len().min(1) == 1, skipped.cut)
        });
        of_answer(&format!(
            "{} {}",
            kind % 3 == 0,
            match answer {
                // Not in quotes, which are left out.
                Ok((words, full, cut)) => format!("{words} {full} {cut}"),
                Err(error) => error.to_string(),
            }
        ))
    })
}
