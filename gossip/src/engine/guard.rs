//! What peers may do how often, and the naming of those who break the rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use starling_proto::{NodeId, SpiffeId};

use super::Engine;
use crate::allowance::{Allowance, Allowances, Rate};
use crate::conduct::Offence;
use crate::{Event, Refusal, Rejection};

/// States exchanged with one peer, whichever side dials. A member that is down is dialed once a second at most.
const JOINS: Rate = Rate { burst: 32, each: Duration::from_millis(250) };
/// Names whose joins are counted at a time.
const JOINERS: usize = 2_048;
/// Datagrams of those whose address is not known, all together: newcomers, and those who moved.
const STRANGERS: Rate = Rate { burst: 4_096, each: Duration::from_millis(2) };
/// Certificates in packets of those who are not known, all together: a mesh of 500 may start at once.
const GREETINGS: Rate = Rate { burst: 512, each: Duration::from_millis(10) };

/// What is held of those who are not admitted, or not yet.
pub(super) struct Guard {
    joins: Allowances<SpiffeId>,
    strangers: Allowance,
    greetings: Allowance,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            joins: Allowances::new(JOINS, JOINERS),
            strangers: Allowance::default(),
            greetings: Allowance::default(),
        }
    }
}

impl Engine {
    /// May a datagram that says it is of `sender` be looked into? Each look costs a check of a signature, so this comes
    /// before it. What comes from a member's own address is charged to it; others have one allowance together.
    pub(super) fn check_flood(&mut self, from: SocketAddr, sender: NodeId, now: Instant) -> Result<(), Rejection> {
        let may = match self.admission.get_mut(sender) {
            Some(peer) if peer.identity.address.gossip() == from => peer.conduct.take_datagram(now),
            _ => self.guard.strangers.take(STRANGERS, now),
        };
        if may { Ok(()) } else { Err(Rejection::Flood) }
    }

    /// May the certificate of one that is not known be checked?
    pub(super) fn may_greet(&mut self, now: Instant) -> bool {
        self.guard.greetings.take(GREETINGS, now)
    }

    /// May this peer exchange states again?
    pub(super) fn check_join_rate(&mut self, peer: &SpiffeId, now: Instant) -> Result<(), Refusal> {
        if self.guard.joins.take(peer.clone(), now) {
            return Ok(());
        }
        let member = self.admission.named(peer).next().map(|(node, _)| node);
        if let Some(node) = member {
            self.blame(node, Offence::JoinFlood, now);
        }
        Err(Refusal::TooOften)
    }

    /// A member broke a rule, and nobody can have done it in its name.
    pub(super) fn blame(&mut self, node: NodeId, offence: Offence, now: Instant) {
        let Some(peer) = self.admission.get_mut(node) else { return };
        if peer.conduct.blame(offence, now) {
            let (name, count) = (peer.name(), peer.conduct.offences()[&offence]);
            self.emit(Event::Offender { node, name, offence, count });
        }
    }

    /// Members that broke rules, with how often they broke each.
    #[must_use]
    pub fn offenders(&self) -> BTreeMap<NodeId, BTreeMap<Offence, u64>> {
        let all = self.admission.iter().map(|(node, peer)| (node, peer.conduct.offences().clone()));
        all.filter(|(_, offences)| !offences.is_empty()).collect()
    }
}
