//! The values of one node.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeId};

use super::content::Content;
use super::{Change, MAX_NODE, MAX_NODE_WITHDRAWN, MAX_RECORDS, MAX_VALUE, MAX_WITHDRAWN, RecordError};

/// A value whose signature was checked, with what it says.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) value: v1::SignedValue,
    pub(super) encoded: Bytes,
    pub(super) content: Content,
    hash: u64,
}

impl Record {
    pub(super) fn try_new(owner: NodeId, value: v1::SignedValue, encoded: Bytes) -> Result<Self, RecordError> {
        if encoded.len() > MAX_VALUE {
            return Err(RecordError::TooLarge(encoded.len()));
        }
        let content = Content::read(&value)?;
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(owner.as_bytes());
        context.update(&encoded);
        let mut hash = [0; 8];
        hash.copy_from_slice(&context.finish().as_ref()[..8]);
        Ok(Self { value, encoded, content, hash: u64::from_be_bytes(hash) })
    }
}

/// How many values, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    count: usize,
    bytes: usize,
}

/// The values of one node, all of one generation.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) generation: Generation,
    records: BTreeMap<String, Record>,
    offered: Held,
    withdrawn: Held,
    /// Sum of the values' hashes: order does not matter, and a change is one subtraction and one addition.
    hash: u64,
}

impl Shelf {
    pub(super) const fn new(generation: Generation) -> Self {
        let none = Held { count: 0, bytes: 0 };
        Self { generation, records: BTreeMap::new(), offered: none, withdrawn: none, hash: 0 }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many values, and their bytes.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.records.len(), self.offered.bytes + self.withdrawn.bytes)
    }

    /// How many of them are withdrawn.
    pub(super) const fn withdrawn(&self) -> usize {
        self.withdrawn.count
    }

    fn held(&mut self, withdrawn: bool) -> &mut Held {
        if withdrawn { &mut self.withdrawn } else { &mut self.offered }
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Would it fit?
    pub(super) fn check_room(&self, record: &Record) -> Result<(), RecordError> {
        let withdrawn = record.value.withdrawn;
        let (held, most, most_bytes) = if withdrawn {
            (self.withdrawn, MAX_WITHDRAWN, MAX_NODE_WITHDRAWN)
        } else {
            (self.offered, MAX_RECORDS, MAX_NODE)
        };
        let known = self.records.get(&record.value.key).filter(|known| known.value.withdrawn == withdrawn);
        if known.is_none() && held.count >= most {
            return Err(if withdrawn { RecordError::TooManyWithdrawn } else { RecordError::TooMany });
        }
        let replaced = known.map_or(0, |known| known.encoded.len());
        if held.bytes - replaced + record.encoded.len() > most_bytes {
            return Err(RecordError::NodeFull);
        }
        Ok(())
    }

    /// Puts a value in, whatever was there.
    pub(super) fn put(&mut self, record: Record) {
        let held = self.held(record.value.withdrawn);
        held.count += 1;
        held.bytes += record.encoded.len();
        self.hash = self.hash.wrapping_add(record.hash);
        let previous = self.records.insert(record.value.key.clone(), record);
        self.off(previous);
    }

    fn off(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            let held = self.held(record.value.withdrawn);
            held.count -= 1;
            held.bytes -= record.encoded.len();
            self.hash = self.hash.wrapping_sub(record.hash);
        }
    }

    /// Merges a value of this shelf's generation.
    pub(super) fn merge(&mut self, record: Record) -> Result<Change, RecordError> {
        if let Some(known) = self.records.get(&record.value.key) {
            let order = |record: &Record| (record.value.sequence, record.encoded.clone());
            match order(&record).cmp(&order(known)) {
                std::cmp::Ordering::Less => return Ok(Change::Stale),
                std::cmp::Ordering::Equal => return Ok(Change::Unchanged),
                std::cmp::Ordering::Greater => {}
            }
        }
        // An honest owner's values always fit, so what overflows is its own past, replayed to one who missed the
        // withdrawals: the oldest goes, and so can't keep the newest out.
        while let Err(full) = self.check_room(&record) {
            let same = |other: &&Record| {
                other.value.key != record.value.key && other.value.withdrawn == record.value.withdrawn
            };
            let others = self.records.values().filter(same);
            let oldest = others.min_by_key(|other| other.value.sequence);
            match oldest.filter(|oldest| oldest.value.sequence < record.value.sequence) {
                Some(oldest) => {
                    let key = oldest.value.key.clone();
                    let removed = self.records.remove(&key);
                    self.off(removed);
                }
                None => return Err(full),
            }
        }
        self.put(record);
        Ok(Change::Changed)
    }
}
