//! What the engine tells of goes to the log, to the counters, and to the operator's notice.

use std::time::Instant;

use starling_gossip::{Event, Refusal, Rejection};

use super::Driver;
use crate::mesh::counters::add;
use crate::mesh::troubles::TroubleKind;

impl Driver {
    pub(super) fn on_event(&mut self, event: Event) {
        let counters = &self.counters;
        match event {
            Event::Joined { node, name } => {
                add(&counters.joins);
                tracing::debug!(node = %node.short(), name, "states exchanged");
            }
            Event::KeyInUse { generation, address } => {
                let at = address.map_or_else(String::new, |address| format!(" at {}", address.quic()));
                let text = format!("two nodes with one key: another node{at} runs with this node's, and started later");
                self.counters.troubles.on_trouble(TroubleKind::KeyInUse, "", text, Instant::now());
                tracing::error!(
                    %generation,
                    "another node{at} runs with this node's key, and the mesh speaks with that one: was its identity copied?"
                );
            }
            Event::KeysChanged { revision, in_use, accepted } => {
                tracing::info!(revision, in_use, ?accepted, "the group keys changed");
            }
            Event::CutOff { members } => {
                tracing::warn!(members, "most members do not answer: this node takes itself for cut off, and waits");
            }
            Event::Renewed { rejoin } => tracing::info!(rejoin, "taken for dead by others; identity renewed"),
            Event::GenerationRaised { from, to, remembered: false } => {
                tracing::info!(%from, %to, "a new generation: the one before was used up");
            }
            Event::GenerationRaised { from, to, .. } => {
                let text = format!("the mesh remembers this node in generation {to}, it started in {from}");
                self.counters.troubles.on_trouble(TroubleKind::Generation, "", text, Instant::now());
                tracing::warn!(%from, %to, "the mesh remembers a higher generation of this node: is its clock wrong?");
            }
            other => self.on_member_event(other),
        }
    }

    /// Of single members.
    fn on_member_event(&mut self, event: Event) {
        match event {
            Event::MemberUp { node, name } => tracing::info!(node = %node.short(), name, "member up"),
            Event::MemberSuspect { node, name } => tracing::info!(node = %node.short(), name, "member suspect"),
            Event::MemberDown { node, name } => {
                tracing::warn!(node = %node.short(), name, "member down");
                self.seeds.hasten(Instant::now());
            }
            Event::MemberLeft { node, name, reason } => {
                tracing::info!(node = %node.short(), name, reason, "member left");
                self.seeds.hasten(Instant::now());
            }
            Event::MemberFlaky { node, name } => {
                tracing::warn!(node = %node.short(), name, "member fails again and again: used only where no other can serve");
            }
            Event::MemberSteady { node, name } => tracing::info!(node = %node.short(), name, "member steady again"),
            Event::MemberForgotten { node } => tracing::info!(node = %node.short(), "member forgotten"),
            Event::MemberRestarted { node, name, generation } => {
                tracing::info!(node = %node.short(), name, %generation, "member restarted");
            }
            Event::HealthChanged { node, name, service, instance, healthy } => {
                tracing::info!(node = %node.short(), name, %service, instance, healthy, "health changed");
            }
            Event::OverloadChanged { node, name, overload } => {
                tracing::info!(node = %node.short(), name, overload, "overload changed");
            }
            Event::Dismissed { node, name, by, pruned, reason } => {
                tracing::warn!(node = %node.short(), name, by = %by.short(), pruned, reason, "member dismissed");
            }
            Event::Accused { node, by, accusers } => {
                tracing::debug!(node = %node.short(), by = %by.short(), accusers, "accused");
            }
            Event::DownDismissed { node, by } => {
                tracing::debug!(node = %node.short(), by = %by.short(), "said to be down, and is not");
            }
            other => self.on_refused_event(other),
        }
    }

    /// Of what was refused.
    fn on_refused_event(&self, event: Event) {
        let counters = &self.counters;
        match event {
            Event::Offender { node, name, offence, count } => {
                let text = format!("{name} ({}) breaks the rules: {offence}", node.short());
                counters.troubles.on_trouble(TroubleKind::Offender, &node.to_string(), text, Instant::now());
                tracing::warn!(node = %node.short(), name, %offence, count, "a member breaks the rules");
            }
            Event::Refused { peer, at, refusal } => {
                let at = at.map_or_else(String::new, |at| format!(" at {}", at.quic()));
                let text = format!("{refusal} (refused: {peer}{at})");
                counters.refuse("join", refusal.code(), &text);
                self.note_refusal(&peer.to_string(), &refusal, text);
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
            Event::KeysRefused { from, error } => {
                let from = from.map_or_else(|| "the operator".to_owned(), |node| node.short().clone());
                counters.refuse("keys", error.code(), &format_args!("{error} (from {from})"));
            }
            other => tracing::debug!(?other, "event"),
        }
    }

    /// What an operator should hear of, out of the joins that were refused here.
    fn note_refusal(&self, peer: &str, refusal: &Refusal, text: String) {
        let kind = match refusal {
            Refusal::NameTaken { .. } => TroubleKind::NameTaken,
            Refusal::MemberLimit { .. } => TroubleKind::MemberLimit,
            // It dialed itself, which many do by their seeds.
            Refusal::Ourselves => return,
            _ => TroubleKind::Join,
        };
        self.counters.troubles.on_trouble(kind, peer, text, Instant::now());
    }
}
