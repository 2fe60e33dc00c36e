//! Asking over QUIC, the last resort of a probe; and being asked.

use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use foca::{Header, Member, Message, State as SwimState};
use rand::RngExt;
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId};

use super::doubts::Asked;
use super::{Engine, Output};
use crate::State;
use crate::admission::rank;
use crate::swim::{SwimIdentity, SwimPacket};

/// An answer is awaited this long before the same member is asked again.
const PAUSE: Duration = Duration::from_secs(3);

/// A member is asked by a datagram at most once in this time.
const PING_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// Has a member asked over QUIC, unless it is being asked. A suspect is told so, and refutes with its answer.
    pub(super) fn ask_by_stream(&mut self, node: NodeId, now: Instant) {
        let asked = self.doubts.asked.get(&node).is_some_and(|asked| asked.until > now);
        let Some(peer) = self.admission.get(node).filter(|peer| peer.state.is_up()) else { return };
        if asked || !self.doubts.is_on() || self.me.leaving {
            return;
        }
        let suspected = self.is_doubted(node);
        self.doubts.tally.stream_pings += 1;
        self.doubts.asked.insert(node, Asked { until: now + PAUSE, told: suspected });
        let (at, incarnation) = (peer.identity.address.quic(), peer.incarnation.into());
        let ping = v1::Ping { target: node.to_bytes(), suspected, incarnation, ..v1::Ping::default() };
        self.out.push(Output::Ping { node, at, ping });
    }

    /// Would this member want to know what is said of it?
    pub(super) fn is_doubted(&self, node: NodeId) -> bool {
        let accused = self.admission.get(node).is_some_and(|peer| {
            peer.state == State::Suspect || (peer.state == State::Alive && !peer.accusers.is_empty())
        });
        let claimed = self.doubts.claims.get(&node).is_some_and(|claimed| claimed.claim.is_open());
        self.doubts.is_on() && (accused || claimed)
    }

    /// What came of a ping over QUIC.
    pub(super) fn on_pong(&mut self, node: NodeId, pong: Option<v1::Pong>, now: Instant) {
        let told = self.doubts.asked.remove(&node).is_some_and(|asked| asked.told);
        let Some(pong) = pong else { return self.silence_claim(node, now) };
        let identity = pong.identity.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok());
        let (Some(identity), Ok(incarnation)) = (identity, u16::try_from(pong.incarnation)) else { return };
        self.watch_for_twin(pong.asker.as_ref(), now);
        let Some(peer) = self.admission.get(node).filter(|_| identity.node_id == node) else { return };
        if rank(&identity) > rank(&peer.identity) {
            // It renewed or restarted: a state of its own says with what.
            return self.dial(&identity);
        }
        if identity != peer.identity || !peer.state.is_up() {
            return;
        }
        self.on_shown(identity, incarnation, now);
        if self.admission.get(node).is_some_and(|peer| incarnation > peer.incarnation) {
            self.membership.apply(Member::new(SwimIdentity(identity), incarnation, SwimState::Alive), now);
        }
        self.on_sign_of_life(identity, incarnation, now);
        if !told && self.doubts.suspects.contains_key(&node) {
            // It came too late for the probe. Now it is told, so that it refutes.
            self.ask_by_stream(node, now);
        }
    }

    /// A member showed that it can hear and be heard, though not by a datagram.
    fn on_sign_of_life(&mut self, identity: MemberIdentity, incarnation: u16, now: Instant) {
        let node = identity.node_id;
        self.membership.on_answer(identity, incarnation, now);
        self.answer_claim(node, now);
        if let Some(suspected) = self.doubts.suspects.get_mut(&node) {
            suspected.suspicion.restart(now);
        }
    }

    /// A member asks whether this node is there.
    pub(super) fn on_pinged(&mut self, from: NodeId, ping: &v1::Ping, now: Instant) {
        let meant = ping.target[..] == self.me.node().as_bytes()[..];
        if meant && ping.suspected && ping.incarnation >= self.membership.incarnation().into() {
            self.refute(from, u16::try_from(ping.incarnation).unwrap_or(u16::MAX), now);
        }
    }

    /// A live connection to a node exists, or the last one is gone.
    pub(super) fn on_link(&mut self, node: NodeId, up: bool, now: Instant) {
        let changed = if up { self.links.insert(node) } else { self.links.remove(&node) };
        self.publish.changed |= changed;
        let Some(peer) = self.admission.get(node).filter(|_| up && changed && self.doubts.is_on()) else { return };
        let (identity, incarnation) = (peer.identity, peer.incarnation);
        self.on_reached(identity, incarnation, now);
        if self.is_doubted(node) {
            self.ask_by_stream(node, now);
        }
    }

    /// A connection to a member was just made, or used: a live connection beats gossip.
    pub(super) fn on_reached(&mut self, identity: MemberIdentity, incarnation: u16, now: Instant) {
        let Some(peer) = self.admission.get(identity.node_id).filter(|_| self.doubts.is_on()) else { return };
        match peer.state {
            State::Down if peer.identity == identity => self.revive(identity, incarnation.max(peer.incarnation), now),
            State::Alive | State::Suspect => self.on_sign_of_life(identity, incarnation, now),
            State::Down | State::Left => {}
        }
    }

    /// A member said itself, in this identity, how often it refuted. If it is held for down, that is refuted as well.
    pub(super) fn on_shown(&mut self, identity: MemberIdentity, incarnation: u16, now: Instant) {
        let Some(peer) = self.admission.get_mut(identity.node_id) else { return };
        if peer.identity != identity {
            return;
        }
        peer.shown = peer.shown.max(incarnation);
        if peer.state == State::Down && incarnation > peer.incarnation && self.doubts.is_on() {
            self.revive(identity, incarnation, now);
        }
    }

    /// Asks a member by a datagram how often it refuted; and tells it that this node is there. At most once a second.
    pub(super) fn ask_by_ping(&mut self, identity: MemberIdentity, now: Instant) {
        self.doubts.pinged.retain(|_, until| *until > now);
        if let Entry::Vacant(vacant) = self.doubts.pinged.entry(identity.node_id) {
            vacant.insert(now + PING_PAUSE);
            let number = self.rng.random();
            self.ping(identity, number);
        }
    }

    /// Sends a ping of this node's own, as a probe would; foca can't be told whom to probe.
    pub(super) fn ping(&mut self, to: MemberIdentity, number: u8) {
        let header = Header {
            src: SwimIdentity(self.me.identity),
            src_incarnation: self.membership.incarnation(),
            dst: SwimIdentity(to),
            message: Message::Ping(number),
        };
        if let Ok(bytes) = (SwimPacket { header, updates: Vec::new() }).encode() {
            self.send(to.node_id, to.address.gossip(), bytes, false);
        }
    }

    /// A member that was held for down proved that it is there, in the identity that it had.
    pub(super) fn revive(&mut self, identity: MemberIdentity, incarnation: u16, now: Instant) {
        // One that was just admitted counts as down until foca says otherwise.
        let Some(peer) = self.admission.get_mut(identity.node_id).filter(|_| self.membership.is_down(&identity)) else {
            return;
        };
        peer.accusers.clear();
        peer.dismissed = None;
        self.doubts.tally.revivals += 1;
        self.membership.revive(identity, incarnation, now);
    }
}
