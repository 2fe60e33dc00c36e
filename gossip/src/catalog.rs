//! The catalog: what each node says of itself and offers, as values that their owner signed.
//!
//! The catalog here is the record of it: whichever way a value came (a join, an anti-entropy round of chitchat, a pull),
//! [`Catalog::apply`] checks it and merges it by its owner's own (generation, sequence), so that the order and the
//! number of arrivals do not matter and nobody but the owner decides. Chitchat only carries; what it carries is checked
//! in [`wire`] before it sees it.
//!
//! Rules of the merge:
//! - a value of a higher generation replaces all values of lower ones of its owner;
//! - within a generation, of two values for one key the higher sequence stays; on a tie (an owner that signs two values
//!   with one sequence) the one whose encoding sorts higher, so that all nodes agree;
//! - a withdrawal is a value like any other, with a higher sequence than what it withdraws;
//! - an owner's values that do not fit in its share push out its own older ones, never another owner's. Withdrawals have
//!   a share of their own: what was taken back never keeps out what is offered. An owner whose share of withdrawals is
//!   full begins a new generation, which needs none of them.

mod content;
pub mod key;
mod record;
mod rounds;
mod shelf;
pub mod text;
pub mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeId};

use crate::SigningKey;
pub use content::{Content, NodeRecord, ServiceEntry};
#[cfg(any(test, feature = "raw"))]
pub(crate) use record::statement;
pub use record::{MAX_VERSION, RecordError, open};
pub use rounds::Rounds;
use shelf::{Record, Shelf};

/// The most an encoded value may have, in bytes.
pub const MAX_VALUE: usize = 4 * 1024;
/// The most the encoded values of one node may have together, in bytes, but for withdrawn ones.
pub const MAX_NODE: usize = 64 * 1024;
/// The most values one node may have, but for withdrawn ones.
pub const MAX_RECORDS: usize = 256;
/// The most withdrawn values one node may have.
pub const MAX_WITHDRAWN: usize = 128;
/// The most they may have together, in bytes: a withdrawn value has no body, and what else stands in it has 111 bytes at
/// most beside its key.
pub const MAX_NODE_WITHDRAWN: usize = MAX_WITHDRAWN * (MAX_KEY + 111);
/// The most keys one node may have used in one generation.
pub const MAX_KEYS: usize = MAX_RECORDS + MAX_WITHDRAWN;
/// The most a key may have, in bytes: the longest service key has 142.
pub const MAX_KEY: usize = 160;

/// What a value did to the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new, or newer than what was known.
    Changed,
    /// It is what was known.
    Unchanged,
    /// Something newer was known.
    Stale,
}

/// All values of all nodes, own ones included.
#[derive(Debug)]
pub struct Catalog {
    owner: NodeId,
    generation: Generation,
    sequence: u64,
    nodes: BTreeMap<NodeId, Shelf>,
}

impl Catalog {
    /// An empty catalog of the node `owner` in its boot `generation`.
    pub fn new(owner: NodeId, generation: Generation) -> Self {
        Self { owner, generation, sequence: 0, nodes: BTreeMap::new() }
    }

    /// Sets one of our own values and gives the encoded `SignedValue` for the others. A value that is the same as
    /// before is not signed again: the known encoding is given.
    pub fn set(&mut self, key: &str, body: Bytes, signer: &SigningKey) -> Result<Bytes, RecordError> {
        let known = self.nodes.get(&self.owner).and_then(|shelf| shelf.get(key));
        if let Some(known) = known.filter(|known| !known.value.withdrawn && known.value.body == body) {
            return Ok(known.encoded.clone());
        }
        self.sign(key, body, false, signer)
    }

    /// Withdraws one of our own values and gives the encoded `SignedValue` for the others.
    pub fn withdraw(&mut self, key: &str, signer: &SigningKey) -> Result<Bytes, RecordError> {
        let known = self.nodes.get(&self.owner).and_then(|shelf| shelf.get(key)).ok_or(RecordError::Unknown)?;
        if known.value.withdrawn {
            return Ok(known.encoded.clone());
        }
        self.sign(key, Bytes::new(), true, signer)
    }

    fn sign(&mut self, key: &str, body: Bytes, withdrawn: bool, signer: &SigningKey) -> Result<Bytes, RecordError> {
        let sequence = self.sequence + 1;
        let mut value = v1::SignedValue {
            owner: self.owner.to_bytes(),
            generation: self.generation.0,
            key: key.to_owned(),
            // Every value we sign is set in chitchat once, in order: its version there is its sequence.
            version: sequence,
            sequence,
            withdrawn,
            body,
            signature: Bytes::new(),
        };
        value.signature = Bytes::copy_from_slice(&signer.sign(&record::statement(&value)));
        let encoded = Bytes::from(value.encode_to_vec());
        let record = Record::try_new(self.owner, value, encoded.clone())?;
        let shelf = self.nodes.entry(self.owner).or_insert_with(|| Shelf::new(self.generation));
        shelf.check_room(&record)?;
        shelf.put(record);
        self.sequence = sequence;
        Ok(encoded)
    }

    /// Merges a value of another node. `public_key` is the gossip key of `owner` as its admission proved it.
    ///
    /// The caller offers values of admitted members only: their number bounds the catalog.
    pub fn apply(
        &mut self,
        owner: NodeId,
        key: &str,
        encoded: &Bytes,
        public_key: &[u8; 32],
    ) -> Result<Change, RecordError> {
        if owner == self.owner {
            return Err(RecordError::OwnRecord);
        }
        let shelf = self.nodes.get(&owner);
        if shelf.and_then(|shelf| shelf.get(key)).is_some_and(|known| known.encoded == *encoded) {
            return Ok(Change::Unchanged);
        }
        // A copy of its own: a value must not keep the whole message it came in alive.
        let encoded = Bytes::copy_from_slice(encoded);
        let value = record::open(owner, key, &encoded, public_key)?;
        let generation = Generation(value.generation);
        if shelf.is_some_and(|shelf| shelf.generation > generation) {
            return Ok(Change::Stale);
        }
        let record = Record::try_new(owner, value, encoded)?;
        let shelf = self.nodes.entry(owner).or_insert_with(|| Shelf::new(generation));
        if shelf.generation < generation {
            *shelf = Shelf::new(generation);
        }
        shelf.merge(record)
    }

    /// Drops all values of a node that the mesh has forgotten.
    pub fn forget(&mut self, owner: NodeId) {
        self.nodes.remove(&owner);
    }

    /// A number that two nodes agree on if and (but for chance) only if they hold the same values of the same nodes.
    pub fn hash(&self) -> u64 {
        self.nodes.values().fold(0, |sum, shelf| sum.wrapping_add(shelf.hash()))
    }

    /// As [`Self::hash`], of one node's values; 0 if there are none.
    pub fn hash_of(&self, owner: NodeId) -> u64 {
        self.nodes.get(&owner).map_or(0, Shelf::hash)
    }

    /// What a node says of itself.
    pub fn node_record(&self, owner: NodeId) -> Option<&NodeRecord> {
        match &self.nodes.get(&owner)?.get(key::NODE)?.content {
            Content::Node(record) => Some(record),
            _ => None,
        }
    }

    /// Generation and sequence of what stands under a key.
    pub fn sequence(&self, owner: NodeId, key: &str) -> Option<(Generation, u64)> {
        let shelf = self.nodes.get(&owner)?;
        shelf.get(key).map(|record| (shelf.generation, record.value.sequence))
    }

    /// What stands under a service's key.
    pub fn service(&self, owner: NodeId, key: &str) -> Option<&ServiceEntry> {
        match &self.nodes.get(&owner)?.get(key)?.content {
            Content::Service(entry) => Some(entry),
            _ => None,
        }
    }

    /// Every service instance that anyone offers, alive or not.
    pub fn services(&self) -> impl Iterator<Item = (NodeId, &ServiceEntry)> {
        self.nodes.iter().flat_map(|(owner, shelf)| {
            shelf.records().filter_map(|record| match &record.content {
                Content::Service(entry) => Some((*owner, entry)),
                _ => None,
            })
        })
    }

    /// The service instances of one node.
    pub fn services_of(&self, owner: NodeId) -> impl Iterator<Item = &ServiceEntry> {
        let records = self.nodes.get(&owner).into_iter().flat_map(Shelf::records);
        records.filter_map(|record| match &record.content {
            Content::Service(entry) => Some(entry),
            _ => None,
        })
    }

    /// Every value, for a join. Cheap: bodies and signatures are shared.
    pub fn values(&self) -> impl Iterator<Item = &v1::SignedValue> {
        self.nodes.values().flat_map(Shelf::records).map(|record| &record.value)
    }

    /// How many values of all nodes there are, and their bytes.
    pub fn sizes(&self) -> (usize, usize) {
        self.nodes.values().map(Shelf::sizes).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The bytes of one node's values, as they travel.
    pub(crate) fn bytes_of(&self, owner: NodeId) -> usize {
        self.nodes.get(&owner).map_or(0, |shelf| shelf.sizes().1)
    }

    /// Whose values there are.
    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// Is there no room for one more value of our own that is withdrawn?
    pub(crate) fn is_full_of_withdrawn(&self) -> bool {
        self.nodes.get(&self.owner).is_some_and(|shelf| shelf.withdrawn() >= MAX_WITHDRAWN)
    }

    /// The values of one node, for a pull.
    pub fn values_of(&self, owner: NodeId) -> impl Iterator<Item = &v1::SignedValue> {
        self.nodes.get(&owner).into_iter().flat_map(Shelf::records).map(|record| &record.value)
    }
}

#[cfg(test)]
mod caps;
#[cfg(test)]
mod tests;
