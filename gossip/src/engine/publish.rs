use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foca::State as SwimState;
use starling_proto::{Endpoint, NodeId, ServiceName};

use super::{Engine, Output};
use crate::admission::Peer;
use crate::swim::SwimIdentity;
use crate::{Event, Member, Remembered, RememberedMember, State, Timings, View};

/// Changes come together: those within this time of the first one are persisted with it.
const SETTLE: Duration = Duration::from_millis(500);

/// What is to be published and persisted, and when.
#[derive(Debug, Default)]
pub(super) struct Publish {
    /// Something in the view may have changed.
    pub(super) changed: bool,
    /// A load changed: worth a view of its own at this time.
    pub(super) load_due: Option<Instant>,
    /// The node's own numbers have to be persisted now.
    pub(super) remember_own: bool,
    pub(super) remember_due: Option<Instant>,
    /// When members that changed were persisted last.
    pub(super) remembered: Option<Instant>,
}

impl Publish {
    /// Members changed: persist them, soon after the first change and seldom while more follow.
    pub(super) fn remember(&mut self, now: Instant, timings: &Timings) {
        let earliest = self.remembered.map_or(now, |last| last + timings.remember_gap);
        self.remember_due.get_or_insert(earliest.max(now + SETTLE));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.load_due.into_iter().chain(self.remember_due).min()
    }
}

impl Engine {
    /// Takes over what foca thinks of each member by now.
    pub(super) fn sync_states(&mut self, now: Instant) {
        let (mut events, mut refuted) = (Vec::new(), Vec::new());
        for member in self.membership.take_changes() {
            let node = member.id().node();
            let Some(peer) = self.admission.get_mut(node) else { continue };
            if peer.incarnation != member.incarnation() {
                peer.incarnation = member.incarnation();
                peer.accusers.clear();
                refuted.push(node);
                self.publish.changed = true;
            }
            let state = match member.state() {
                SwimState::Alive => State::Alive,
                SwimState::Suspect => State::Suspect,
                SwimState::Down if peer.has_left() || peer.is_dismissed() => State::Left,
                SwimState::Down => State::Down,
            };
            if peer.state != state {
                events.push((node, peer.state, state, peer.name()));
                self.admission.set_state(node, state, now);
            }
        }
        for node in refuted {
            self.rumours.drop_accusations(node);
            self.weigh_unrest(node, now);
        }
        self.drop_refuted();
        self.drop_settled();
        for (node, before, state, name) in events {
            self.publish.changed = true;
            self.on_state(node, before, state, name, now);
        }
    }

    fn on_state(&mut self, node: NodeId, before: State, state: State, name: String, now: Instant) {
        if !state.is_up() {
            self.rumours.drop_accusations(node);
        }
        if state == State::Down {
            let up = 1 + self.admission.up();
            self.redials.on_down(node, up, &self.timings, &mut self.rng, now);
        } else {
            self.redials.on_gone(node);
        }
        match state {
            State::Alive => {
                if let Some(peer) = self.admission.get_mut(node) {
                    peer.accusers.clear();
                }
                self.rumours.drop_accusations(node);
                self.emit(Event::MemberUp { node, name });
            }
            State::Suspect => self.emit(Event::MemberSuspect { node, name }),
            State::Down if before != State::Left => self.emit(Event::MemberDown { node, name }),
            // A departure was told when it was heard.
            State::Down | State::Left => {}
        }
    }

    /// Publishes a view if anything in it changed.
    pub(super) fn publish_view(&mut self, now: Instant) {
        let load_due = self.publish.load_due.is_some_and(|due| due <= now);
        if !self.publish.changed && !load_due {
            return;
        }
        self.publish.changed = false;
        self.publish.load_due = None;
        self.health.prune(&self.catalog);
        let view = View {
            version: self.view.version,
            this: self.me.node(),
            members: self.members(now),
            services: self.services(),
        };
        if view != *self.view {
            self.view = Arc::new(View { version: view.version + 1, ..view });
            self.out.push(Output::View(self.view.clone()));
        }
    }

    fn members(&self, now: Instant) -> BTreeMap<NodeId, Member> {
        let mut members: BTreeMap<NodeId, Member> =
            self.admission.iter().map(|(node, peer)| (node, self.member(node, peer))).collect();
        members.insert(self.me.node(), self.own_member(now));
        members
    }

    fn member(&self, node: NodeId, peer: &Peer) -> Member {
        let record = self.catalog.node_record(node);
        Member {
            id: node,
            name: peer.name(),
            spiffe: peer.verified.spiffe.clone(),
            address: peer.identity.address,
            state: peer.state,
            generation: peer.identity.generation,
            incarnation: peer.incarnation.into(),
            since: peer.since,
            zone: record.map_or_else(|| "".into(), |record| record.zone.clone()),
            version: record.map_or_else(String::new, |record| record.version.clone()),
            load: peer.load,
            flaky: self.is_flaky(node),
        }
    }

    fn own_member(&self, now: Instant) -> Member {
        let state = if self.me.leaving { State::Left } else { State::Alive };
        let before = self.view.members.get(&self.me.node()).filter(|member| member.state == state);
        Member {
            id: self.me.node(),
            name: self.me.spiffe.node().to_owned(),
            spiffe: self.me.spiffe.clone(),
            address: self.me.identity.address,
            state,
            generation: self.me.identity.generation,
            incarnation: self.membership.incarnation().into(),
            since: before.map_or(now, |member| member.since),
            zone: self.me.zone.clone(),
            version: self.me.version.clone(),
            load: self.me.load,
            flaky: false,
        }
    }

    /// A live connection beats gossip: the endpoints of a member that is down but linked stay. Not of one that left.
    fn services(&self) -> BTreeMap<ServiceName, Arc<[Endpoint]>> {
        let mut services: BTreeMap<ServiceName, Vec<Endpoint>> = BTreeMap::new();
        for (owner, entry) in self.catalog.services() {
            let (spiffe, address) = if owner == self.me.node() {
                (&self.me.spiffe, self.me.identity.address)
            } else {
                match self.admission.get(owner) {
                    Some(peer) if self.counts(owner, peer) && peer.verified.may_run(&entry.service) => {
                        (&peer.verified.spiffe, peer.identity.address)
                    }
                    _ => continue,
                }
            };
            let mut endpoint = entry.endpoint(owner, spiffe.clone(), address.quic());
            endpoint.healthy = self.health.of(owner, entry);
            services.entry(endpoint.key.service.clone()).or_default().push(endpoint);
        }
        let sorted = services.into_iter().map(|(name, mut endpoints)| {
            self.spare_flaky(&mut endpoints);
            endpoints.sort_by(|a, b| a.key.cmp(&b.key));
            (name, endpoints.into())
        });
        sorted.collect()
    }

    fn counts(&self, owner: NodeId, peer: &Peer) -> bool {
        peer.state.is_up() || (peer.state == State::Down && self.links.contains(&owner))
    }

    /// Emits what is to be persisted, if it is time.
    pub(super) fn remember_if_due(&mut self, now: Instant) {
        let due = self.publish.remember_due.is_some_and(|due| due <= now);
        if !due && !self.publish.remember_own {
            return;
        }
        self.publish.remember_own = false;
        self.publish.remember_due = None;
        if due {
            self.publish.remembered = Some(now);
        }
        let members =
            self.admission.iter().filter(|(_, peer)| !peer.has_left() && !peer.is_dismissed()).map(|(id, peer)| {
                RememberedMember {
                    id,
                    name: peer.name(),
                    address: peer.identity.address,
                    generation: peer.identity.generation,
                }
            });
        let remembered = Remembered {
            generation: self.me.identity.generation,
            rejoin: self.me.rejoin_reserved,
            members: members.collect(),
        };
        self.out.push(Output::Remember(remembered));
    }

    /// Forgets members that were down or left for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        if self.sweep_at > now {
            return;
        }
        self.sweep_at = now + SWEEP;
        let forget_after = self.timings.forget_after;
        let old = |peer: &Peer| !peer.state.is_up() && now.duration_since(peer.since) >= forget_after;
        let gone: Vec<_> = self.admission.iter().filter(|(_, peer)| old(peer)).map(|(id, _)| id).collect();
        for node in gone {
            self.admission.remove(node);
            self.on_forgotten(node, now);
            self.publish.remember(now, &self.timings);
        }
    }

    /// A node is no longer listed.
    pub(super) fn on_forgotten(&mut self, node: NodeId, now: Instant) {
        let known = self.membership.get(node).map(|member| *member.id());
        if let Some(SwimIdentity(identity)) = known {
            self.membership.forget(identity, now);
        }
        self.redials.on_gone(node);
        self.exchange.forget(node);
        self.catalog.forget(node);
        self.doubts.forget(node);
        self.restless.remove(node);
        self.publish.changed = true;
        self.emit(Event::MemberForgotten { node });
    }
}

/// How often members are looked at for being forgotten.
const SWEEP: Duration = Duration::from_mins(1);
