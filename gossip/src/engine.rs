mod admitted;
mod announcements;
mod claims;
mod clockwork;
mod counters;
mod dismissal;
mod doubts;
mod guard;
mod health;
mod inbound;
mod input;
mod introduction;
mod join;
mod keys;
mod notices;
mod outbound;
mod output;
mod owed;
mod pings;
mod publish;
mod records;
mod renewal;
mod restless;
mod survey;
mod suspects;
mod unnamed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId, SpiffeId};

use crate::admission::Admission;
use crate::catalog::Catalog;
use crate::contact::Contacts;
use crate::hints::Hints;
use crate::keyring::exchange::Exchange;
use crate::membership::Membership;
use crate::redial::Redials;
use crate::rumour::Rumours;
use crate::{Config, CredentialVerifier, Event, Keyring, SigningKey, Timings, View};
use announcements::Awaited;
pub use counters::{Counters, Liveness};
use doubts::Doubts;
use guard::Guard;
use health::Health;
pub use input::Input;
pub use keys::{KeyReport, PeerKeys};
pub use output::Output;
use owed::Owed;
use publish::Publish;
use renewal::Renewal;
use restless::Restless;
pub use survey::Sizes;
use unnamed::Unnamed;

/// What the node knows of itself.
struct Me {
    identity: MemberIdentity,
    spiffe: SpiffeId,
    credential: Bytes,
    signing_key: SigningKey,
    keyring: Keyring,
    zone: Arc<str>,
    version: String,
    shards: u32,
    load: v1::LoadSummary,
    /// Packets sent.
    counter: u64,
    /// Notices written.
    notices: u64,
    rejoin_reserved: u16,
    leaving: bool,
}

impl Me {
    const fn node(&self) -> NodeId {
        self.identity.node_id
    }
}

/// Membership, catalog and view of one node, as one machine without IO.
pub struct Engine {
    me: Me,
    timings: Timings,
    verifier: Box<dyn CredentialVerifier>,
    rng: StdRng,
    admission: Admission,
    contacts: Contacts,
    membership: Membership,
    doubts: Doubts,
    rumours: Rumours,
    redials: Redials,
    restless: Restless,
    renewal: Renewal,
    catalog: Catalog,
    exchange: Exchange,
    hints: Hints,
    guard: Guard,
    awaited: Awaited,
    owed: Owed,
    unnamed: Unnamed,
    links: BTreeSet<NodeId>,
    health: Health,
    view: Arc<View>,
    publish: Publish,
    sweep_at: Instant,
    /// When it was last told anything.
    now: Instant,
    counters: Counters,
    out: Vec<Output>,
}

impl Engine {
    /// A node that knows nobody yet. `rng_seed` must come from the operating system in production: nonces come of it.
    ///
    /// The first [`Input::Tick`] is due at once.
    #[must_use]
    pub fn new(config: Config, verifier: Box<dyn CredentialVerifier>, rng_seed: [u8; 32], now: Instant) -> Self {
        let mut rng = StdRng::from_seed(rng_seed);
        let timings = config.timings;
        let identity = MemberIdentity { node_id: config.signing_key.node_id(), ..config.identity };
        let membership = Membership::new(identity, &timings, config.lifeguard, StdRng::from_rng(&mut rng));
        let me = Me {
            identity,
            spiffe: config.spiffe,
            credential: config.credential,
            signing_key: config.signing_key,
            keyring: config.keyring,
            zone: config.zone.into(),
            version: config.version,
            shards: config.shards,
            load: v1::LoadSummary::default(),
            counter: 0,
            notices: 0,
            rejoin_reserved: identity.rejoin,
            leaving: false,
        };
        let view = View { version: 0, this: me.node(), members: BTreeMap::new(), services: BTreeMap::new() };
        let mut engine = Self {
            catalog: Catalog::new(me.node(), identity.generation),
            admission: Admission::new(config.member_limit),
            contacts: Contacts::default(),
            doubts: Doubts::new(config.lifeguard),
            rumours: Rumours::new(timings.transmissions, timings.gossip_period),
            redials: Redials::default(),
            restless: Restless::default(),
            exchange: Exchange::default(),
            renewal: Renewal::default(),
            hints: Hints::default(),
            guard: Guard::default(),
            awaited: Awaited::default(),
            owed: Owed::default(),
            unnamed: Unnamed::default(),
            links: BTreeSet::new(),
            health: Health::default(),
            view: Arc::new(view),
            publish: Publish { changed: true, remember_own: true, ..Publish::default() },
            sweep_at: now,
            now,
            counters: Counters::default(),
            out: Vec::new(),
            me,
            timings,
            verifier,
            rng,
            membership,
        };
        engine.register_node(now);
        engine.publish_view(now);
        // The driver starts with `view()`.
        engine.out.retain(|output| !matches!(output, Output::View(_)));
        engine
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, input: Input, now: Instant) -> Vec<Output> {
        self.now = self.now.max(now);
        self.me.keyring.expire(now);
        self.catch_up(now);
        match input {
            Input::Tick => self.on_tick(now),
            Input::Datagram { from, bytes } => self.on_datagram(from, &bytes, now),
            Input::Joined { peer, state } => self.on_joined(peer, state, now),
            Input::Resolved { members } => self.on_resolved(members, now),
            Input::Link { node, up } => self.on_link(node, up, now),
            Input::Pong { node, pong } => self.on_pong(node, pong, now),
            Input::Pinged { from, ping } => self.on_pinged(from, &ping, now),
            Input::Load(load) => self.on_load(load, now),
            Input::Health { service, instance, healthy } => self.on_health(&service, instance, healthy, now),
            Input::Dismiss { node, prune, reason } => self.dismiss(node, prune, reason, now),
            Input::Nudge { node } => self.nudge(node),
            Input::Keys { from, state } => self.on_keys(from, &state, now),
            Input::Register { key, body } => self.register(&key, body, now),
            Input::Withdraw { key } => self.withdraw(&key, now),
            Input::Value { owner, key, value } => self.on_value(owner, &key, &value, now),
            Input::Leave { reason } => self.on_leave(reason, now),
        }
        self.on_news(now);
        self.sync_states(now);
        self.flush_swim(now);
        self.publish_view(now);
        self.remember_if_due(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout()
    }

    /// What both sides of an admission send: to `receiver`, if it is known who that will be. The driver sets `clock`.
    #[must_use]
    pub fn join_state(&self, receiver: Option<NodeId>) -> v1::JoinState {
        self.state_for(receiver)
    }

    /// Answers a `mesh.v1.Resolve`.
    #[must_use]
    pub fn resolve(&self, ids: &[NodeId]) -> v1::Resolved {
        self.resolve_ids(ids)
    }

    /// Answers a `mesh.v1.Ping` of `asker`, after [`Input::Pinged`].
    #[must_use]
    pub fn pong(&self, asker: Option<NodeId>) -> v1::Pong {
        v1::Pong {
            identity: Some((&self.me.identity).into()),
            incarnation: self.membership.incarnation().into(),
            asker: asker.and_then(|asker| self.admission.get(asker)).map(|peer| (&peer.identity).into()),
            ..v1::Pong::default()
        }
    }

    /// The current view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// The node's own identity, as it is now.
    #[must_use]
    pub const fn identity(&self) -> &MemberIdentity {
        &self.me.identity
    }

    /// All values of all nodes.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What was refused or not done, since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let counts = self.membership.counts();
        Counters {
            notices_dropped: self.rumours.dropped(),
            swim_errors: counts.errors,
            liveness: Liveness {
                probes: counts.probes,
                indirect_probes: counts.indirect,
                health: self.membership.health().value(),
                ..self.doubts.tally
            },
            ..self.counters.clone()
        }
    }

    /// Did this node stand still? Then nobody is blamed for what it missed.
    fn catch_up(&mut self, now: Instant) {
        if let Some(pause) = self.membership.catch_up(now) {
            self.doubts.tally.stalls += 1;
            self.doubts.shift(pause);
        }
    }

    fn emit(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_can_move_to_the_thread_that_drives_it() {
        fn sendable<T: Send>() {}
        sendable::<Engine>();
    }
}
