//! Deltas: the values that the other side seems to lack, node by node, each node's in the order of their versions.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{MAX_KEYS, MAX_NODE, MAX_NODE_WITHDRAWN, record, text};
use super::cursor::{Cursor, put_text};
use super::{Context, ReplicaId, Skipped, WireError, blocks};

const NODE: u8 = 0;
const KEY_VALUE: u8 = 1;
const SET_MAX_VERSION: u8 = 2;
const STATUS_SET: u8 = 0;

/// The most text that chitchat may hold of one node, in bytes.
pub(super) const MAX_NODE_TEXT: usize = ((MAX_NODE + MAX_NODE_WITHDRAWN) * 4).div_ceil(3) + 3 * MAX_KEYS;

enum Operation<'a> {
    Node { id: ReplicaId, from: u64 },
    KeyValue { key: &'a str, value: &'a str, version: u64 },
}

pub(super) fn check(
    input: &mut Cursor<'_>,
    output: &mut Vec<u8>,
    context: &Context<'_>,
    skipped: &mut Skipped,
) -> Result<(), WireError> {
    let unpacked = blocks::unpack(input)?;
    skipped.cut = unpacked.cut;
    let mut operations = Cursor::new(&unpacked.bytes);
    let mut kept = Vec::new();
    let mut seen = BTreeSet::new();
    let mut current: Option<Node<'_>> = None;
    while !operations.is_empty() {
        match read(&mut operations) {
            Ok(Operation::Node { id, from }) => {
                if !seen.insert(id) {
                    return Err(WireError::DuplicateNode);
                }
                finish(current.take(), &mut kept, skipped);
                current = Some(Node::new(id, from, context));
            }
            Ok(Operation::KeyValue { key, value, version }) => {
                let node = current.as_mut().ok_or(WireError::NoNode)?;
                node.value(key, value, version, context)?;
            }
            // Cut off within an operation.
            Err(WireError::Short(_)) if unpacked.cut => break,
            Err(error) => return Err(error),
        }
    }
    finish(current.take(), &mut kept, skipped);
    blocks::pack(&kept, output);
    Ok(())
}

fn read<'a>(operations: &mut Cursor<'a>) -> Result<Operation<'a>, WireError> {
    match operations.u8("an operation")? {
        NODE => {
            let id = ReplicaId::read(operations)?;
            if operations.u64("a collection mark")? != 0 {
                return Err(WireError::Collected);
            }
            Ok(Operation::Node { id, from: operations.u64("a delta's first version")? })
        }
        KEY_VALUE => {
            let key = operations.text("a key")?;
            let value = operations.text("a value")?;
            let version = operations.u64("a version")?;
            if operations.u8("a status")? != STATUS_SET {
                return Err(WireError::Tombstone);
            }
            Ok(Operation::KeyValue { key, value, version })
        }
        SET_MAX_VERSION => Err(WireError::MaxVersion),
        other => Err(WireError::Operation(other)),
    }
}

/// What is to become of a node's delta.
enum Use {
    /// It goes on, if any of its values is new.
    Take { public_key: [u8; 32] },
    /// Its id is not admitted.
    Unknown,
    /// It is our own.
    Own,
    /// It does not follow what is known.
    Stale,
    /// Its owner has more than fits.
    Full,
}

/// A node's delta while it is read.
struct Node<'a> {
    id: ReplicaId,
    plan: Use,
    /// The highest version that chitchat has.
    known: u64,
    /// The last version read.
    version: u64,
    keys: BTreeSet<&'a str>,
    /// What chitchat would hold of this node, once it is needed.
    sizes: Option<BTreeMap<String, usize>>,
    operations: Vec<u8>,
    values: u32,
}

impl<'a> Node<'a> {
    fn new(id: ReplicaId, from: u64, context: &Context<'_>) -> Self {
        let known = context.replica.max_version(&id).unwrap_or(0);
        let plan = match id.admitted(context) {
            _ if id == *context.this => Use::Own,
            None => Use::Unknown,
            Some(_) if from > known => Use::Stale,
            Some((public_key, _)) => Use::Take { public_key },
        };
        let mut operations = vec![NODE];
        id.write(&mut operations);
        for number in [0, from] {
            operations.extend_from_slice(&u64::to_le_bytes(number));
        }
        Self { id, plan, known, version: 0, keys: BTreeSet::new(), sizes: None, operations, values: 0 }
    }

    fn value(&mut self, key: &'a str, text: &str, version: u64, context: &Context<'_>) -> Result<(), WireError> {
        if version <= self.version {
            return Err(WireError::VersionOrder);
        }
        self.version = version;
        if !self.keys.insert(key) {
            return Err(WireError::DuplicateKey);
        }
        if matches!(self.plan, Use::Own) && version > self.known {
            return Err(WireError::AboutOurselves);
        }
        let Use::Take { public_key } = self.plan else {
            return Ok(());
        };
        if version <= self.known {
            return Ok(());
        }
        let value = record::open(self.id.node, key, &text::decode(text)?, &public_key)?;
        if value.version != version {
            return Err(WireError::Version);
        }
        if u64::from(value.generation) != self.id.generation {
            return Err(WireError::Generation);
        }
        let sizes = self.sizes.get_or_insert_with(|| context.replica.sizes(&self.id));
        sizes.insert(key.to_owned(), text.len());
        if sizes.len() > MAX_KEYS || sizes.values().sum::<usize>() > MAX_NODE_TEXT {
            self.plan = Use::Full;
            return Ok(());
        }
        self.operations.push(KEY_VALUE);
        put_text(&mut self.operations, key);
        put_text(&mut self.operations, text);
        self.operations.extend_from_slice(&version.to_le_bytes());
        self.operations.push(STATUS_SET);
        self.values += 1;
        Ok(())
    }
}

/// Keeps what chitchat can use of a node's delta, and counts the rest.
fn finish(node: Option<Node<'_>>, kept: &mut Vec<u8>, skipped: &mut Skipped) {
    let Some(node) = node else { return };
    match node.plan {
        Use::Unknown => skipped.unknown += 1,
        Use::Own => skipped.own += 1,
        Use::Full => skipped.full.push(node.id.node),
        Use::Stale => skipped.stale += 1,
        Use::Take { .. } if node.values == 0 => skipped.stale += 1,
        Use::Take { .. } => {}
    }
    // Of an owner with too much, what fits still goes on: a delta may end after any of its values.
    if node.values > 0 {
        kept.extend_from_slice(&node.operations);
    }
}
