//! Carrying out what the engine wants.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use starling_gossip::{Event, Output, Refusal, Sought, View};
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::{Driver, Job};
use crate::mesh::counters::add;
use crate::mesh::peers::{AskError, Peers};
use crate::mesh::resolver::Resolver;
use crate::mesh::roster::Roster;
use crate::mesh::seed::Seed;

/// Admissions under way at a time that this node asks for; the engine asks again for those that are left out.
const JOINS: usize = 64;
/// How often it is looked at whether anything is missing here.
const LOOK: Duration = Duration::from_millis(250);
/// Members asked for their own values at a time, at most: after a join some may be missing of many.
const PULLS_AT_ONCE: usize = 8;

impl Driver {
    /// Carries out a batch of outputs. Gives why a join in it was refused.
    pub(super) async fn carry_out(&mut self, outputs: Vec<Output>) -> Option<Refusal> {
        let mut refused = None;
        let raised = outputs.iter().find_map(|output| match output {
            Output::Event(Event::GenerationRaised { to, .. }) => Some(*to),
            _ => None,
        });
        if let Some(generation) = raised {
            // Before anything is sent in it.
            if let Err(error) = self.generation.raise(generation, 0) {
                add(&self.counters.unwritten);
                tracing::error!(%error, %generation, "cannot write the generation to node.data_dir");
            }
            if let Err(error) = self.start_catalog().await {
                self.handle_catalog_ended(&error.to_string());
            }
        }
        for output in outputs {
            match output {
                Output::Send { to, bytes } => self.send(to, &bytes),
                Output::Resolve { ask, at, ids } => self.resolve(ask, at, ids),
                Output::Pull { at, owner, keys, .. } => self.pull(at, owner, keys),
                Output::ExchangeKeys { node, at } => self.exchange_keys(node, at),
                Output::Keys(keys) => self.disk.remember_keys(keys),
                Output::Dial { node, at } => self.join(node, at),
                Output::Ping { node, at, ping } => self.ping(node, at, ping),
                Output::Refused { refusal, .. } => refused = Some(refusal),
                // A chitchat that was just started has it already.
                Output::Value { key, value } => self.set_value(&key, &value).await,
                Output::View(view) => self.publish(view),
                Output::Event(event) => self.on_event(event),
                Output::Remember(remembered) => {
                    let remembered = self.unmet.complete(remembered);
                    self.disk.remember(remembered);
                }
            }
        }
        refused
    }

    fn send(&self, to: SocketAddr, bytes: &Bytes) {
        match self.socket.try_send_to(bytes, to) {
            Ok(_) => {
                add(&self.counters.datagrams_sent);
                self.counters.add_bytes_sent(bytes.len());
            }
            // Gossip is made for loss; a queue here would only deliver it late.
            Err(error) => {
                add(&self.counters.datagrams_unsent);
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%to, %error, "datagram not sent");
                }
            }
        }
    }

    async fn set_value(&mut self, key: &str, value: &Bytes) {
        if let Some(replication) = &self.state.replication {
            replication.set(key, value).await;
        }
        self.state.pushes.on_own_change(Instant::now());
    }

    fn publish(&mut self, view: Arc<View>) {
        let roster = Roster::new(&self.engine, &view);
        let before = self.roster.load();
        let now = Instant::now();
        // Both are in the order of their ids.
        for (_, at) in roster.alive.iter().filter(|entry| before.alive.binary_search(entry).is_err()) {
            self.state.pushes.on_newcomer(*at, now);
        }
        self.roster.store(Arc::new(roster));
        self.state.unread_view = true;
        self.view.store(Arc::clone(&view));
        self.views.send_replace(view);
    }

    /// Admission at an address, unless it is under way there.
    fn join(&mut self, node: Option<NodeId>, at: SocketAddr) {
        if self.state.joining.len() >= JOINS {
            add(&self.counters.dials_dropped);
            return;
        }
        if !self.state.joining.insert(at) {
            return;
        }
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            if let Err(error) = peers.join(at, node).await {
                tracing::debug!(%at, %error, "no admission");
            }
            peers.report(Job::JoinDone { at }).await;
        });
    }

    fn resolve(&self, ask: NodeId, at: SocketAddr, ids: Vec<NodeId>) {
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            match peers.resolve(at, &ids).await {
                Ok(members) => peers.report(Job::Resolved { members }).await,
                Err(error) => tracing::debug!(ask = %ask.short(), %error, "credentials not resolved"),
            }
        });
    }

    /// Asks a member whether it is there. The engine has at most one such question to each open.
    fn ping(&self, node: NodeId, at: SocketAddr, ping: v1::Ping) {
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            let pong = peers.ping(at, node, ping).await;
            let pong = pong.inspect_err(|error| tracing::debug!(node = %node.short(), %error, "no answer by stream"));
            peers.report(Job::Pong { node, pong: pong.ok() }).await;
        });
    }

    /// Looks for the seeds whose time has come.
    pub(super) fn seek_seeds(&mut self, now: Instant) {
        for seed in self.seeds.poll_due(now) {
            let peers = Arc::clone(&self.peers);
            let resolver = Arc::clone(&self.resolver);
            tokio::spawn(async move {
                let sought = seek(&peers, &resolver, &seed).await;
                peers.report(Job::SeedDone { seed, sought }).await;
            });
        }
    }

    pub(super) fn on_seed_done(&mut self, seed: &Seed, sought: Sought) {
        self.seeds.on_result(seed, sought, rand::rng().random(), Instant::now());
    }

    /// Starts the rounds of chitchat that are wanted now.
    pub(super) fn push_catalog(&mut self, now: Instant) {
        if let Some(replication) = self.state.replication.as_ref().filter(|_| self.state.look_at <= now) {
            self.state.look_at = now + LOOK;
            replication.on_behind(!self.engine.differing().is_empty());
        }
        let roster = self.roster.load();
        let targets = self.state.pushes.poll(&roster.alive, &mut rand::rng(), now);
        if let Some(replication) = &self.state.replication {
            for at in targets {
                replication.push(at);
            }
        }
    }

    /// Asks those whose own values are others than we hold for long.
    pub(super) fn pull_differing(&mut self, now: Instant) {
        let differing = self.engine.differing();
        for _ in 0..PULLS_AT_ONCE {
            let Some((owner, at)) = self.state.resync.poll(&differing, now) else { return };
            self.pull(at, owner, Vec::new());
        }
    }

    /// Asks whoever accepts QUIC at an address for values of a node.
    fn pull(&mut self, at: SocketAddr, owner: NodeId, keys: Vec<String>) {
        let Ok(permit) = Arc::clone(&self.state.pulls).try_acquire_owned() else {
            // Anti-entropy brings them.
            add(&self.counters.pulls_dropped);
            return;
        };
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            match peers.pull(at, owner, keys).await {
                Ok(values) => peers.report(Job::Pulled { owner, values }).await,
                Err(error) => tracing::debug!(owner = %owner.short(), %error, "values not pulled"),
            }
            drop(permit);
        });
    }
}

/// Asks for admission at every address of a seed where nobody is met already.
///
/// All of them, though some are met: those behind one name may have parted.
async fn seek(peers: &Arc<Peers>, resolver: &Resolver, seed: &Seed) -> Sought {
    let mut dials = tokio::task::JoinSet::new();
    let addresses = resolver.addresses(seed).await;
    let mut sought = if addresses.is_empty() { Sought::Silent } else { Sought::Met };
    for at in addresses.into_iter().filter(|at| !peers.is_met_at(*at)) {
        let peers = Arc::clone(peers);
        dials.spawn(async move { (at, peers.join(at, None).await) });
    }
    while let Some(Ok((at, outcome))) = dials.join_next().await {
        sought = sought.max(match outcome {
            Ok(()) => {
                peers.on_seed_admitted(at);
                Sought::Admitted
            }
            Err(AskError::Answer(error)) if error.code == "self" => Sought::Met,
            Err(error) => {
                peers.on_seed_failed(seed, at, &error);
                match error {
                    AskError::Answer(_) => Sought::Refused,
                    _ if peers.is_known_at(at) => Sought::Lost,
                    _ => Sought::Silent,
                }
            }
        });
    }
    sought
}
