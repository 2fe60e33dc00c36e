//! The group keys: which ones this node has, and how a change of them spreads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::{Engine, Output};
use crate::admission::Peer;
use crate::keyring::statement::revision_of;
use crate::{Event, HeldKey, Offence, StatedKey, StatementError};

/// A change of keys is brought to so many members at once; packets tell the rest.
const KICK: usize = 3;

/// Which group keys this node has and, as far as it knows, its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Of the statement that counts here; 0 if no administrator signed one yet.
    pub revision: u64,
    /// The epoch that packets are sealed with.
    pub in_use: u32,
    /// Every epoch that is accepted, lowest first.
    pub keys: Vec<StatedKey>,
    /// Epochs that were removed a moment ago and are still accepted for some seconds.
    pub lingering: Vec<u32>,
    /// The statement, as it was signed.
    pub signed: Option<v1::SignedKeyring>,
    /// Every admitted member that is up.
    pub peers: BTreeMap<NodeId, PeerKeys>,
}

/// What a peer said of its keys last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKeys {
    /// Its revision; `None` if it has not said any yet.
    pub revision: Option<u64>,
    /// Does it have the same statement as this node?
    pub current: bool,
    /// Which epochs of this node it accepts for sure.
    pub accepts: Vec<u32>,
}

impl Engine {
    /// The statement that counts here with its keys: for peers that ask, over mutual TLS only.
    #[must_use]
    pub fn keyring_state(&self) -> v1::KeyringState {
        self.me.keyring.state()
    }

    /// Would [`Input::Keys`](crate::Input::Keys) with this change anything?
    ///
    /// # Errors
    /// If it is not to be believed.
    pub fn check_keys(&self, state: &v1::KeyringState) -> Result<bool, StatementError> {
        self.me.keyring.check(state)
    }

    /// Of the statement that counts here; 0 if no administrator signed one yet.
    #[must_use]
    pub const fn key_revision(&self) -> u64 {
        self.me.keyring.revision()
    }

    /// Who has which keys.
    #[must_use]
    pub fn key_report(&self) -> KeyReport {
        let keyring = &self.me.keyring;
        let peer = |(node, peer): (NodeId, &Peer)| {
            let mark = self.exchange.mark(node);
            let mut accepts = mark.map_or_else(Vec::new, |mark| keyring.accepted_at(mark));
            let mut current = mark == Some(keyring.mark());
            // A statement names each key by its digest; before there is one, epochs are but numbers.
            if !current || keyring.revision() == 0 {
                accepts.retain(|epoch| !peer.other_keys.contains(epoch));
                current &= peer.other_keys.is_empty();
            }
            (node, PeerKeys { revision: mark.map(revision_of), current, accepts })
        };
        let up = self.admission.iter().filter(|(_, peer)| peer.state.is_up());
        KeyReport {
            revision: keyring.revision(),
            in_use: keyring.in_use(),
            keys: keyring.stated(),
            lingering: keyring.lingering().collect(),
            signed: keyring.signed().cloned(),
            peers: up.map(peer).collect(),
        }
    }

    /// A statement arrived: of a member, or (`None`) of this node's own operator.
    pub(super) fn on_keys(&mut self, from: Option<NodeId>, state: &v1::KeyringState, now: Instant) {
        if let Some(node) = from.filter(|node| !self.exchange.may_show(*node, now)) {
            self.blame(node, Offence::KeyFlood, now);
            return;
        }
        match self.me.keyring.adopt(state, now) {
            Ok(changed) => {
                if let Some(node) = from.filter(|node| self.admission.get(*node).is_some()) {
                    // It is told ours in the same exchange.
                    self.exchange.note(node, self.me.keyring.mark_of(state));
                }
                if changed {
                    self.on_keys_changed(now);
                }
            }
            Err(error) => {
                // An honest node passes on only what it took over itself; it may know of other administrators.
                if let (Some(node), StatementError::Forged | StatementError::WrongKey(_)) = (from, error) {
                    self.blame(node, Offence::ForgedKeys, now);
                }
                self.emit(Event::KeysRefused { from, error });
            }
        }
    }

    /// A peer's full state came. Each side has the other's keys before the first packet between them.
    pub(super) fn on_keys_of_join(&mut self, node: NodeId, state: &v1::JoinState, now: Instant) {
        self.on_keys(Some(node), state.keyring.as_ref().unwrap_or(&v1::KeyringState::default()), now);
        let own = self.me.keyring.held();
        let named = HeldKey::named(&state.key_epochs, &state.key_prints);
        let others = named.filter_map(|key| own.iter().any(|own| own.rivals(&key)).then_some(key.epoch));
        let others: Vec<u32> = others.take(own.len()).collect();
        if let Some(peer) = self.admission.get_mut(node) {
            peer.other_keys = others;
        }
    }

    fn on_keys_changed(&mut self, now: Instant) {
        self.exchange.on_change();
        let (revision, in_use) = (self.me.keyring.revision(), self.me.keyring.in_use());
        let accepted = self.me.keyring.epochs().collect();
        self.emit(Event::KeysChanged { revision, in_use, accepted });
        self.out.push(Output::Keys(self.me.keyring.state()));
        let own = self.me.keyring.mark();
        for (node, _) in self.some_members(KICK) {
            if self.exchange.mark(node) != Some(own) && self.exchange.start(node, now) {
                self.exchange_keys(node);
            }
        }
    }

    /// A packet, or a statement, of an admitted peer tells which keys it has.
    pub(super) fn on_mark(&mut self, node: NodeId, mark: u64, now: Instant) {
        if self.exchange.on_mark(node, mark, self.me.keyring.mark(), now) {
            self.exchange_keys(node);
        }
    }

    /// A packet came that is sealed with a key that is not here. Nothing vouches for its source; but if it is that of a
    /// member, this node may be the one that missed a change.
    pub(super) fn on_unreadable(&mut self, from: SocketAddr, now: Instant) {
        if !self.exchange.may_look(now) {
            return;
        }
        let sender = self.admission.iter().find(|(_, peer)| peer.identity.address.gossip() == from);
        if let Some(node) = sender.map(|(node, _)| node)
            && self.exchange.start(node, now)
        {
            self.exchange_keys(node);
        }
    }

    fn exchange_keys(&mut self, node: NodeId) {
        if let Some(peer) = self.admission.get(node) {
            let at = peer.identity.address.quic();
            self.counters.key_exchanges += 1;
            self.out.push(Output::ExchangeKeys { node, at });
        }
    }
}
