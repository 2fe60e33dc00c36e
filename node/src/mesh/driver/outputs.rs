//! Carrying out what the engine wants.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::RngExt;
use starling_gossip::{Event, Output, Refusal, Rejection, View};
use starling_proto::NodeId;

use super::{Driver, Job};
use crate::mesh::counters::add;
use crate::mesh::peers::{AskError, Peers};
use crate::mesh::resolver::Resolver;
use crate::mesh::roster::Roster;
use crate::mesh::seeds::Seed;

/// Admissions under way at a time that this node asks for; the engine asks again for those that are left out.
const JOINS: usize = 64;

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
                Output::Dial { node, at } => self.join(node, at),
                Output::Refused { refusal, .. } => refused = Some(refusal),
                // A chitchat that was just started has it already.
                Output::Value { key, value } => self.set_value(&key, &value).await,
                Output::View(view) => self.publish(view),
                Output::Event(event) => self.on_event(event),
                Output::Remember(remembered) => {
                    let remembered = self.unmet.complete(remembered);
                    self.remember.send_replace(Some(remembered));
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

    /// Dials the seeds whose time has come.
    pub(super) fn dial_seeds(&mut self, now: Instant) {
        for seed in self.seeds.poll_due(now) {
            let peers = Arc::clone(&self.peers);
            let resolver = Arc::clone(&self.resolver);
            tokio::spawn(async move {
                let admitted = dial_seed(&peers, &resolver, &seed).await;
                peers.report(Job::SeedDone { seed, admitted }).await;
            });
        }
    }

    pub(super) fn on_seed_done(&mut self, seed: &Seed, admitted: bool) {
        self.seeds.on_result(seed, admitted, rand::rng().random(), Instant::now());
    }

    /// Starts the rounds of chitchat that are wanted now.
    pub(super) fn push_catalog(&mut self, now: Instant) {
        let roster = self.roster.load();
        let targets = self.state.pushes.poll(&roster.alive, &mut rand::rng(), now);
        if let Some(replication) = &self.state.replication {
            for at in targets {
                replication.push(at);
            }
        }
    }

    /// Asks somebody whose catalog differs from ours for its own values.
    pub(super) fn pull_differing(&mut self, now: Instant) {
        let differing = self.engine.differing();
        let Some((owner, at)) = self.state.resync.poll(&differing, now) else { return };
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            match peers.pull(at, owner).await {
                Ok(values) => peers.report(Job::Pulled { owner, values }).await,
                Err(error) => tracing::debug!(owner = %owner.short(), %error, "values not pulled"),
            }
        });
    }

    fn on_event(&mut self, event: Event) {
        let counters = &self.counters;
        match event {
            Event::MemberUp { node, name } => tracing::info!(node = %node.short(), name, "member up"),
            Event::MemberSuspect { node, name } => tracing::info!(node = %node.short(), name, "member suspect"),
            Event::MemberDown { node, name } => {
                tracing::warn!(node = %node.short(), name, "member down");
                self.seeds.hasten(Instant::now());
            }
            Event::MemberLeft { node, name, reason } => {
                tracing::info!(node = %node.short(), name, reason, "member left");
            }
            Event::MemberForgotten { node } => tracing::info!(node = %node.short(), "member forgotten"),
            Event::MemberRestarted { node, name, generation } => {
                tracing::info!(node = %node.short(), name, %generation, "member restarted");
            }
            Event::Joined { node, name } => {
                add(&counters.joins);
                tracing::debug!(node = %node.short(), name, "states exchanged");
            }
            Event::Refused { peer, refusal } => {
                counters.refuse("join", refusal.code(), &format_args!("{refusal} (from {peer})"));
            }
            // Who is admitted by some before others speaks to all.
            Event::Rejected {
                reason: reason @ (Rejection::UnknownSender | Rejection::UnknownAuthor | Rejection::UnknownGeneration),
                ..
            } => counters.refuse_quietly("datagram", reason.as_str()),
            Event::Rejected { from, reason } => counters.refuse("datagram", reason.as_str(), &from),
            Event::RejectedRecord { owner, reason } => {
                counters.refuse("record", "rejected", &format_args!("{reason} (of {})", owner.short()));
            }
            Event::Accused { node, by, accusers } => {
                tracing::debug!(node = %node.short(), by = %by.short(), accusers, "accused");
            }
            Event::Renewed { rejoin } => tracing::info!(rejoin, "taken for dead by others; identity renewed"),
            Event::GenerationRaised { from, to } => {
                tracing::warn!(%from, %to, "the mesh remembers a higher generation of this node: is its clock wrong?");
            }
            other => tracing::debug!(?other, "event"),
        }
    }
}

/// Asks for admission at every address of a seed. True if any admitted this node, or knows it already.
async fn dial_seed(peers: &Arc<Peers>, resolver: &Resolver, seed: &Seed) -> bool {
    let mut dials = tokio::task::JoinSet::new();
    for at in resolver.addresses(seed).await {
        if peers.is_alive_at(at) {
            return true;
        }
        let peers = Arc::clone(peers);
        dials.spawn(async move { (at, peers.join(at, None).await) });
    }
    let mut admitted = false;
    while let Some(Ok((at, outcome))) = dials.join_next().await {
        match outcome {
            Ok(()) => admitted = true,
            Err(AskError::Answer(error)) if error.code == "self" => admitted = true,
            Err(error) => peers.on_seed_failed(seed, at, &error),
        }
    }
    admitted
}
