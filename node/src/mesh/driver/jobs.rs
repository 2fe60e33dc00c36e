//! Doing what others want of the driver.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use starling_gossip::catalog::key::Key;
use starling_gossip::{Input, Refusal};
use starling_proto::mesh::v1;
use starling_proto::{NodeId, ServiceName, SpiffeId};

use super::{Driver, Heard, Job, JoinOutcome};
use crate::mesh::Status;
use crate::mesh::counters::add;

/// The most that one answer to a pull holds, in bytes: all that one node may have.
const MAX_PULLED: usize = 128 << 10;

impl Driver {
    pub(super) async fn handle_job(&mut self, job: Job) {
        match job {
            Job::Register(record) => self.register(record).await,
            Job::Withdraw { service, instance } => {
                self.state.offered.remove(&(service.clone(), instance));
                self.feed(Input::Withdraw { key: Key::service(&service, instance).to_string() }).await;
            }
            Job::GoAway { reason, done } => {
                self.go_away(&reason).await;
                done.send(()).ok();
            }
            Job::Leave { reason, done } => {
                self.feed(Input::Leave { reason: reason.clone() }).await;
                self.peers.go_away(&reason);
                self.state.leaving = Some((Instant::now() + self.timings.leave, done));
            }
            Job::Status { reply } => drop(reply.send(self.status())),
            Job::State { receiver, reply } => drop(reply.send(self.join_state(receiver))),
            Job::Joined { peer, state, answer, reply } => {
                let outcome = self.on_joined(peer, *state, answer).await;
                reply.send(outcome).ok();
            }
            Job::JoinDone { at } => drop(self.state.joining.remove(&at)),
            Job::SeedDone { seed, sought } => self.on_seed_done(&seed, sought),
            Job::Resolve { ids, reply } => drop(reply.send(self.engine.resolve(&ids))),
            Job::Resolved { members } => drop(self.feed(Input::Resolved { members }).await),
            Job::Pull { pull, reply } => drop(reply.send(self.pulled(&pull))),
            Job::Pulled { owner, values } => self.on_pulled(owner, values).await,
            Job::Ping { from, ping, reply } => drop(reply.send(self.on_ping(from, &ping).await)),
            Job::Pong { node, pong } => drop(self.feed(Input::Pong { node, pong }).await),
            Job::Nudge { nodes } => {
                for node in nodes {
                    self.feed(Input::Nudge { node }).await;
                }
            }
            Job::Heard { nodes, reply } => {
                let heard = nodes.iter().map(|node| self.engine.heard(*node)).collect();
                reply.send(Heard { last: heard, keys: self.engine.keys_held(), own: *self.engine.identity() }).ok();
            }
            Job::Health { service, instance, healthy } => self.on_health(service, instance, healthy).await,
            Job::Dismiss { node, prune, reason, done } => {
                self.feed(Input::Dismiss { node, prune, reason }).await;
                done.send(()).ok();
            }
            Job::Keys { peer, state, reply } => {
                let own = self.on_keys(&peer, state).await;
                reply.map(|reply| reply.send(own));
            }
            Job::KeyReport { reply } => drop(reply.send(self.engine.key_report())),
            Job::ChangeKeys { state, reply } => drop(reply.send(self.change_keys(state).await)),
            Job::Chitchat(message) => {
                if let Some(replication) = &self.state.replication {
                    replication.receive(message);
                }
            }
        }
    }

    async fn register(&mut self, mut record: v1::ServiceRecord) {
        let service = match ServiceName::from_path(&record.service) {
            Ok(service) => service,
            Err(error) => {
                tracing::error!(%error, "a service of this node is not offered");
                return;
            }
        };
        if record.zone.is_empty() {
            record.zone.clone_from(&self.zone);
        }
        record.draining |= self.state.draining;
        let key = Key::service(&service, record.instance).to_string();
        let body = record.encode_to_vec().into();
        self.state.offered.insert((service, record.instance), record);
        self.feed(Input::Register { key, body }).await;
    }

    async fn go_away(&mut self, reason: &str) {
        self.state.draining = true;
        for record in self.state.offered.values().cloned().collect::<Vec<_>>() {
            self.register(record).await;
        }
        self.peers.go_away(reason);
    }

    fn status(&self) -> Status {
        Status {
            id: self.this,
            generation: self.engine.identity().generation,
            counts: self.counters.snapshot(),
            engine: self.engine.counters(),
            offences: self.offences(),
            sizes: self.engine.sizes(),
            jobs_queued: self.jobs.len(),
            key_revision: self.engine.key_revision(),
            key_epoch: self.engine.keys_held().first().map_or(0, |key| key.epoch),
            catalog_hash: self.engine.catalog().hash(),
        }
    }

    fn offences(&self) -> BTreeMap<&'static str, u64> {
        let mut offences = BTreeMap::new();
        for (offence, count) in self.engine.offenders().into_values().flatten() {
            *offences.entry(offence.as_str()).or_default() += count;
        }
        offences
    }

    fn join_state(&self, receiver: Option<NodeId>) -> v1::JoinState {
        let mut state = self.engine.join_state(receiver);
        state.clock = unix_millis();
        state
    }

    async fn on_joined(&mut self, peer: SpiffeId, state: v1::JoinState, answer: bool) -> JoinOutcome {
        let node = state.identity.as_ref().and_then(|identity| NodeId::try_from(&identity.node_id[..]).ok());
        match self.feed(Input::Joined { peer, state }).await {
            Some(refusal) => Err(refused(&refusal)),
            None => Ok(answer.then(|| Box::new(self.join_state(node)))),
        }
    }

    fn pulled(&self, pull: &v1::Pull) -> v1::Pulled {
        let Ok(owner) = NodeId::try_from(&pull.owner[..]) else { return v1::Pulled::default() };
        let wanted = self.engine.catalog().values_of(owner);
        let wanted = wanted.filter(|value| pull.keys.is_empty() || pull.keys.contains(&value.key));
        let mut room = MAX_PULLED;
        let fits = |value: &&v1::SignedValue| {
            room = room.saturating_sub(value.encoded_len());
            room > 0
        };
        v1::Pulled { values: wanted.take_while(fits).cloned().collect() }
    }

    async fn on_pulled(&mut self, owner: NodeId, values: Vec<v1::SignedValue>) {
        add(&self.counters.pulls);
        for value in values {
            let (key, value) = (value.key.clone(), value.encode_to_vec().into());
            self.feed(Input::Value { owner, key, value }).await;
        }
    }

    /// A peer asks whether this node is there: it is told, and what a look at the path between the two needs.
    async fn on_ping(&mut self, from: Option<NodeId>, ping: &v1::Ping) -> v1::Pong {
        if let Some(from) = from.filter(|_| ping.suspected) {
            self.feed(Input::Pinged { from, ping: ping.clone() }).await;
        }
        if let Some(node) = from.filter(|_| ping.nudge) {
            self.feed(Input::Nudge { node }).await;
        }
        let heard = from.and_then(|node| self.engine.heard(node)).map(|at| at.elapsed().as_millis());
        let keys = self.engine.keys_held();
        v1::Pong {
            clock: unix_millis(),
            key_epochs: keys.iter().map(|key| key.epoch).collect(),
            key_prints: keys.iter().filter_map(|key| key.print).collect(),
            heard_ago_ms: heard.map(|ago| u64::try_from(ago).unwrap_or(u64::MAX)),
            ..self.engine.pong(from)
        }
    }

    async fn on_health(&mut self, service: ServiceName, instance: u32, healthy: bool) {
        if let Some(record) = self.state.offered.get_mut(&(service.clone(), instance)) {
            // What is registered anew says the same.
            record.healthy = healthy;
        }
        self.feed(Input::Health { service, instance, healthy }).await;
    }
}

/// What this node's clock says, in milliseconds since 1970.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn refused(refusal: &Refusal) -> v1::ControlError {
    v1::ControlError { code: refusal.code().to_owned(), detail: refusal.to_string() }
}
