use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId};

use super::{Engine, Output};
use crate::catalog::{Change, MAX_KEYS, RecordError, key};
use crate::{Event, Offence};

/// The most values of one state that are refused before the rest of it is left unread.
const MAX_REFUSED: usize = 256;

impl Engine {
    /// The record that says what this node is.
    pub(super) fn register_node(&mut self, now: Instant) {
        let record = v1::NodeRecord {
            name: self.me.spiffe.node().to_owned(),
            zone: self.me.zone.to_string(),
            version: self.me.version.clone(),
            shards: self.me.shards,
            protocol_version: 1,
        };
        self.register(key::NODE, record.encode_to_vec().into(), now);
    }

    pub(super) fn register(&mut self, key: &str, body: Bytes, now: Instant) {
        let set = self.catalog.set(key, body, &self.me.signing_key);
        self.on_own_value(key, set, now);
    }

    pub(super) fn withdraw(&mut self, key: &str, now: Instant) {
        if self.catalog.is_full_of_withdrawn() {
            // Nobody needs withdrawals of a generation that is over.
            self.next_generation(now);
        }
        let withdrawn = self.catalog.withdraw(key, &self.me.signing_key);
        self.on_own_value(key, withdrawn, now);
    }

    fn on_own_value(&mut self, key: &str, value: Result<Bytes, RecordError>, now: Instant) {
        match value {
            Ok(value) => {
                self.tell_record(&value, now);
                self.out.push(Output::Value { key: key.to_owned(), value });
                self.publish.changed = true;
            }
            Err(error) => self.reject_record(self.me.node(), error.to_string()),
        }
    }

    /// A value of the catalog, whichever way it came.
    pub(super) fn on_value(&mut self, owner: NodeId, key: &str, value: &Bytes, now: Instant) {
        if owner == self.me.node() {
            // Our own come back to us; nobody tells us what we offer.
            return;
        }
        let candidate = || self.contacts.get(owner).and_then(|contact| contact.proof.as_ref());
        let admitted = self.admission.get(owner).map(|peer| &peer.verified);
        let Some(verified) = admitted.or_else(|| candidate().map(|proof| &proof.verified)) else {
            self.counters.records_unknown += 1;
            return;
        };
        let public_key = verified.gossip_key;
        match self.catalog.apply(owner, key, value, &public_key) {
            Ok(Change::Changed) => {
                self.publish.changed = true;
                self.check_named(owner, key, now);
                self.on_awaited(owner, key, now);
            }
            Ok(Change::Unchanged | Change::Stale) => {}
            Err(error) => {
                if error.is_of_owner() {
                    self.blame(owner, Offence::Record, now);
                }
                self.reject_record(owner, error.to_string());
            }
        }
    }

    /// The values of a peer's full state.
    pub(super) fn merge_records(&mut self, from: NodeId, records: &[v1::SignedValue], now: Instant) {
        let mut refused = 0;
        let mut read: BTreeMap<&[u8], usize> = BTreeMap::new();
        for record in records {
            let of_owner = read.entry(&record.owner).or_default();
            *of_owner += 1;
            if *of_owner > MAX_KEYS {
                // Nobody can hold so many of one owner: it is a flood, be it signed.
                self.counters.records_rejected += 1;
                self.blame(from, Offence::RecordFlood, now);
                break;
            }
            refused += usize::from(!self.merge_record(record, now));
            if refused > MAX_REFUSED {
                // Each takes a check of a signature; an honest peer has hardly one to refuse.
                self.blame(from, Offence::RecordFlood, now);
                break;
            }
        }
    }

    /// One of them. `false` if it was refused.
    pub(super) fn merge_record(&mut self, record: &v1::SignedValue, now: Instant) -> bool {
        let before = self.counters.records_rejected;
        match NodeId::try_from(&record.owner[..]) {
            Ok(owner) => self.on_value(owner, &record.key, &record.encode_to_vec().into(), now),
            Err(_) => self.reject_record(self.me.node(), "a record without an owner".to_owned()),
        }
        self.counters.records_rejected == before
    }

    pub(super) fn reject_record(&mut self, owner: NodeId, reason: String) {
        self.counters.records_rejected += 1;
        self.emit(Event::RejectedRecord { owner, reason });
    }

    /// A node that restarted no longer offers what it offered before.
    pub(super) fn forget_old_records(&mut self, identity: &MemberIdentity) {
        let node = identity.node_id;
        let old = |record: &v1::SignedValue| Generation(record.generation) < identity.generation;
        if self.catalog.values_of(node).any(old) {
            self.catalog.forget(node);
        }
    }
}
