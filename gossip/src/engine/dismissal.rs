//! Dismissing members that are down: an operator knows that they will not come back.
//!
//! Any member may say so of any other that is down, so it must not do harm where it is wrong. It counts only where the
//! member is down already, and only for the identity that is down: a member that was dismissed and is there all the same
//! is told so as soon as it is heard, renews its identity, and is a member again.

use std::time::Instant;

use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId};

use super::Engine;
use crate::admission::rank;
use crate::conduct::Offence;
use crate::{Event, State};

impl Engine {
    /// This node's operator dismisses a member. One that is up, or unknown, is left alone.
    pub(super) fn dismiss(&mut self, node: NodeId, prune: bool, reason: String, now: Instant) {
        let Some(peer) = self.admission.get(node).filter(|peer| !peer.state.is_up()) else { return };
        let identity = peer.identity;
        let body = v1::Dismissal { identity: Some((&identity).into()), prune, reason: reason.clone() };
        self.tell_all(v1::NoticeKind::Dismissal, &body, now);
        self.on_dismissed(self.me.node(), &identity, prune, reason, now);
    }

    /// Another node's operator did.
    pub(super) fn on_dismissal(
        &mut self,
        by: NodeId,
        identity: &MemberIdentity,
        prune: bool,
        reason: String,
        now: Instant,
    ) {
        let node = identity.node_id;
        let meant = self.admission.get(node).is_some_and(|peer| peer.identity == *identity && !peer.state.is_up());
        if !meant {
            return;
        }
        if self.admission.get_mut(by).is_some_and(|author| author.conduct.take_dismissal(now)) {
            self.on_dismissed(by, identity, prune, reason, now);
        } else {
            self.blame(by, Offence::DismissalFlood, now);
        }
    }

    fn on_dismissed(&mut self, by: NodeId, identity: &MemberIdentity, pruned: bool, reason: String, now: Instant) {
        let node = identity.node_id;
        let Some(peer) = self.admission.get_mut(node) else { return };
        let (name, news) = (peer.name(), peer.state == State::Down || pruned);
        peer.dismissed = Some(rank(identity));
        self.membership.tell_again(node);
        self.publish.remember(now, &self.timings);
        if news {
            self.emit(Event::Dismissed { node, name, by, pruned, reason });
        }
        if pruned {
            self.admission.remove(node);
            self.on_forgotten(node, now);
        }
    }
}
