//! The values of one node.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeId};

use super::content::Content;
use super::{Change, MAX_NODE, MAX_RECORDS, MAX_VALUE, RecordError};

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

/// The values of one node, all of one generation.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) generation: Generation,
    records: BTreeMap<String, Record>,
    bytes: usize,
    /// Sum of the values' hashes: order does not matter, and a change is one subtraction and one addition.
    hash: u64,
}

impl Shelf {
    pub(super) const fn new(generation: Generation) -> Self {
        Self { generation, records: BTreeMap::new(), bytes: 0, hash: 0 }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Record> {
        self.records.get(key)
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many values, and their bytes.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.records.len(), self.bytes)
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Would it fit?
    pub(super) fn check_room(&self, record: &Record) -> Result<(), RecordError> {
        let known = self.records.get(&record.value.key);
        if known.is_none() && self.records.len() >= MAX_RECORDS {
            return Err(RecordError::TooMany);
        }
        let replaced = known.map_or(0, |known| known.encoded.len());
        if self.bytes - replaced + record.encoded.len() > MAX_NODE {
            return Err(RecordError::NodeFull);
        }
        Ok(())
    }

    /// Puts a value in, whatever was there.
    pub(super) fn put(&mut self, record: Record) {
        self.bytes += record.encoded.len();
        self.hash = self.hash.wrapping_add(record.hash);
        let previous = self.records.insert(record.value.key.clone(), record);
        self.off(previous);
    }

    fn off(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.bytes -= record.encoded.len();
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
            let others = self.records.values().filter(|other| other.value.key != record.value.key);
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
