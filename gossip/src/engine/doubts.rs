//! What this node doubts: members that it suspects itself, and others' words that one is down.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::{MemberIdentity, NodeId};

use super::counters::Liveness;
use crate::Lifeguard;
use crate::lifeguard::{Claim, Hold, Suspicion};
use crate::membership::Suspect;

/// Everything that is in doubt, and who is being asked.
#[derive(Debug)]
pub(super) struct Doubts {
    pub(super) lifeguard: Lifeguard,
    pub(super) hold: Hold,
    /// Members whose probe failed.
    pub(super) suspects: BTreeMap<NodeId, Suspected>,
    /// Members that others say are down. At most one each.
    pub(super) claims: BTreeMap<NodeId, Claimed>,
    /// Members that are asked over QUIC.
    pub(super) asked: BTreeMap<NodeId, Asked>,
    /// Members that were asked by a datagram beside all probes, until when they are not asked again.
    pub(super) pinged: BTreeMap<NodeId, Instant>,
    pub(super) tally: Liveness,
}

#[derive(Debug)]
pub(super) struct Suspected {
    pub(super) suspect: Suspect,
    pub(super) suspicion: Suspicion,
}

#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) identity: MemberIdentity,
    pub(super) incarnation: u16,
    /// Who said so first: another member, or this node, which only makes sure.
    pub(super) by: NodeId,
    /// The number of the ping that asks the member.
    pub(super) number: u8,
    pub(super) claim: Claim,
}

#[derive(Debug)]
pub(super) struct Asked {
    /// Until when no other ping is sent to it.
    pub(super) until: Instant,
    /// Was it told that it is suspected?
    pub(super) told: bool,
}

impl Doubts {
    pub(super) fn new(lifeguard: Lifeguard) -> Self {
        Self {
            lifeguard,
            hold: Hold::new(),
            suspects: BTreeMap::new(),
            claims: BTreeMap::new(),
            asked: BTreeMap::new(),
            pinged: BTreeMap::new(),
            tally: Liveness::default(),
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.lifeguard == Lifeguard::On
    }

    /// This node stood still for so long.
    pub(super) fn shift(&mut self, pause: Duration) {
        self.suspects.values_mut().for_each(|suspected| suspected.suspicion.shift(pause));
        self.claims.values_mut().for_each(|claimed| claimed.claim.shift(pause));
    }

    /// Nothing of it is worth anything any more.
    pub(super) fn clear(&mut self) {
        self.suspects.clear();
        self.claims.clear();
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.suspects.remove(&node);
        self.claims.remove(&node);
        self.asked.remove(&node);
    }
}
