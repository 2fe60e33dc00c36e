//! Health and load, told the moment they change.
//!
//! A service's health stands in its record, which may be large and then travels by anti-entropy. So a change of it also
//! goes out as a small signed notice of its own, and counts from its arrival until a record of its owner that is newer
//! arrives. How busy a node is stands in each of its packets; that it became overloaded is told to all at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeId, ServiceName};

use super::{Engine, Output};
use crate::Event;
use crate::catalog::key::Key;
use crate::catalog::{Catalog, ServiceEntry};
use crate::notice::Flip;

/// One instance's flips are told to all at most this often: one that flaps faster is told of by its record alone.
const FLIP_PAUSE: Duration = Duration::from_secs(1);
/// From this level on a node counts as overloaded (0 to 100)...
const HOT: u32 = 80;
/// ... until it is below this one: a node at the edge does not tell all of it every second.
const COOL: u32 = 60;

/// One instance of one node: a service's path and a number.
type Instance = (NodeId, ServiceName, u32);

/// What members said of their services' health since their records.
#[derive(Debug, Default)]
pub(super) struct Health {
    flips: BTreeMap<Instance, Flipped>,
    /// When own flips were told.
    told: BTreeMap<(ServiceName, u32), Instant>,
    /// Did this node tell all that it is overloaded?
    hot: bool,
}

#[derive(Debug)]
struct Flipped {
    generation: Generation,
    sequence: u64,
    healthy: bool,
}

impl Health {
    /// Is an entry healthy, by its record or by what its owner said since?
    pub(super) fn of(&self, owner: NodeId, entry: &ServiceEntry) -> bool {
        if self.flips.is_empty() {
            return entry.healthy;
        }
        let instance = (owner, entry.service.clone(), entry.instance);
        self.flips.get(&instance).map_or(entry.healthy, |flipped| flipped.healthy)
    }

    /// Drops what newer records say themselves.
    pub(super) fn prune(&mut self, catalog: &Catalog) {
        self.flips.retain(|(owner, service, instance), flipped| {
            let key = Key::service(service, *instance).to_string();
            record(catalog, *owner, &key).is_some_and(|value| flipped.is_newer_than(value))
        });
    }

    /// May an own flip be told now? Counts it as told.
    fn may_tell(&mut self, service: &ServiceName, instance: u32, now: Instant) -> bool {
        let told = self.told.entry((service.clone(), instance));
        let early = matches!(&told, std::collections::btree_map::Entry::Occupied(at) if *at.get() + FLIP_PAUSE > now);
        if !early {
            told.insert_entry(now);
        }
        !early
    }
}

impl Flipped {
    fn is_newer_than(&self, value: &v1::SignedValue) -> bool {
        !value.withdrawn && value.generation == self.generation.0 && value.sequence < self.sequence
    }
}

fn record<'a>(catalog: &'a Catalog, owner: NodeId, key: &str) -> Option<&'a v1::SignedValue> {
    catalog.values_of(owner).find(|value| value.key == key)
}

impl Engine {
    /// An own instance is (not) healthy from now on.
    pub(super) fn on_health(&mut self, service: &ServiceName, instance: u32, healthy: bool, now: Instant) {
        let (node, key) = (self.me.node(), Key::service(service, instance).to_string());
        let known = record(&self.catalog, node, &key).filter(|value| !value.withdrawn);
        let known = known.and_then(|value| v1::ServiceRecord::decode(value.body.clone()).ok());
        let Some(mut known) = known.filter(|known| known.healthy != healthy) else { return };
        known.healthy = healthy;
        let body: bytes::Bytes = known.encode_to_vec().into();
        if !self.health.may_tell(service, instance, now) {
            return self.register(&key, body, now);
        }
        let Ok(value) = self.catalog.set(&key, body, &self.me.signing_key) else { return };
        let Some(sequence) = record(&self.catalog, node, &key).map(|value| value.sequence) else { return };
        let flip = v1::HealthFlip { service: service.path().to_owned(), instance, healthy, sequence };
        self.tell_all(v1::NoticeKind::Health, &flip, now);
        self.out.push(Output::Value { key, value });
        self.count_unhealthy();
        self.publish.changed = true;
    }

    /// Others learn with every packet how many of this node's instances fail.
    fn count_unhealthy(&mut self) {
        let node = self.me.node();
        let failing = self.catalog.services_of(node).filter(|entry| !entry.healthy).count();
        self.me.load.unhealthy = u32::try_from(failing).unwrap_or(u32::MAX);
    }

    /// This node's own load.
    pub(super) fn on_load(&mut self, load: v1::LoadSummary, now: Instant) {
        self.me.load = load;
        self.count_unhealthy();
        self.publish.load_due.get_or_insert(now + self.timings.load_period);
        let hot = if self.health.hot { load.overload >= COOL } else { load.overload >= HOT };
        if hot != self.health.hot {
            self.health.hot = hot;
            let body = v1::Overload { load: Some(self.me.load), counter: self.me.counter };
            self.tell_all(v1::NoticeKind::Overload, &body, now);
            self.publish.changed = true;
        }
    }

    /// A member said that an instance of its own is (not) healthy. What its record says already, or says anew since,
    /// counts more; of what has no record here its record will tell.
    pub(super) fn on_flip(&mut self, owner: NodeId, generation: Generation, flip: Flip) {
        let Flip { service, instance, healthy, sequence } = flip;
        let flipped = Flipped { generation, sequence, healthy };
        let key = Key::service(&service, instance).to_string();
        if !record(&self.catalog, owner, &key).is_some_and(|value| flipped.is_newer_than(value)) {
            return;
        }
        let known = (owner, service.clone(), instance);
        if self
            .health
            .flips
            .get(&known)
            .is_some_and(|known| (known.generation, known.sequence) >= (generation, sequence))
        {
            return;
        }
        self.health.flips.insert(known, flipped);
        self.publish.changed = true;
        if let Some(peer) = self.admission.get(owner) {
            let name = peer.name();
            self.emit(Event::HealthChanged { node: owner, name, service, instance, healthy });
        }
    }

    /// What a member says of its load in each of its packets. A new view can wait, unless it is now overloaded or no longer.
    pub(super) fn on_peer_load(&mut self, node: NodeId, load: v1::LoadSummary, now: Instant) {
        let Some(peer) = self.admission.get_mut(node).filter(|peer| peer.load != load) else { return };
        let hot = |load: &v1::LoadSummary| load.overload >= HOT;
        if hot(&peer.load) == hot(&load) {
            self.publish.load_due.get_or_insert(now + self.timings.load_period);
        } else {
            self.publish.changed = true;
        }
        peer.load = load;
    }

    /// A member said that it is overloaded, or no longer. What it said itself since counts more.
    pub(super) fn on_overload(&mut self, node: NodeId, generation: Generation, load: v1::LoadSummary, counter: u64) {
        let Some(peer) = self.admission.get_mut(node) else { return };
        if peer.window.generation() != generation || peer.window.highest() > counter {
            return;
        }
        peer.load = load;
        let name = peer.name();
        self.publish.changed = true;
        self.emit(Event::OverloadChanged { node, name, overload: load.overload });
    }
}
