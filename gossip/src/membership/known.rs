use std::collections::{BTreeMap, BTreeSet};

use foca::{Member, State};
use starling_proto::NodeId;

use crate::swim::SwimIdentity;

/// What foca thinks of each member, kept beside it: foca can only be asked for all of them, and most packets change what
/// it thinks of none.
#[derive(Debug, Default)]
pub(super) struct KnownMembers {
    members: BTreeMap<NodeId, Member<SwimIdentity>>,
    /// Of whom foca may think otherwise than stands here.
    touched: BTreeSet<NodeId>,
    /// Of whom this changed since it was last asked.
    changed: BTreeSet<NodeId>,
}

impl KnownMembers {
    pub(super) fn get(&self, node: NodeId) -> Option<&Member<SwimIdentity>> {
        self.members.get(&node)
    }

    /// Foca is told this.
    pub(super) fn touch(&mut self, update: &Member<SwimIdentity>) {
        let node = update.id().node();
        if self.members.get(&node).is_none_or(|known| may_change(known, update)) {
            self.touched.insert(node);
        }
    }

    /// Foca may think otherwise of this one.
    pub(super) fn touch_anyway(&mut self, node: NodeId) {
        self.touched.insert(node);
    }

    /// Takes over what foca thinks by now of those that were touched.
    pub(super) fn look<'a, I: Iterator<Item = &'a Member<SwimIdentity>>>(&mut self, all: impl FnOnce() -> I) {
        if self.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.touched);
        for member in all() {
            let node = member.id().node();
            if touched.remove(&node) && self.members.get(&node) != Some(member) {
                self.members.insert(node, member.clone());
                self.changed.insert(node);
            }
            if touched.is_empty() {
                return;
            }
        }
        // Foca does not know them any more.
        for node in touched {
            self.members.remove(&node);
        }
    }

    pub(super) fn tell_again(&mut self, node: NodeId) {
        self.changed.insert(node);
    }

    pub(super) fn take_changes(&mut self) -> Vec<Member<SwimIdentity>> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|node| self.members.get(&node).cloned()).collect()
    }
}

/// Might foca think otherwise of a member once it is told this? Said to be so too often rather than too seldom.
fn may_change(known: &Member<SwimIdentity>, update: &Member<SwimIdentity>) -> bool {
    if known.id() != update.id() {
        return true;
    }
    match (known.state(), update.state()) {
        // For good.
        (State::Down, _) => false,
        (_, State::Down) => true,
        (State::Alive, State::Suspect) => update.incarnation() >= known.incarnation(),
        _ => update.incarnation() > known.incarnation(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::{Foca, NoCustomBroadcast, Runtime};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use starling_proto::{Generation, MemberIdentity, NodeAddress};
    use std::time::Duration;

    use crate::swim::Bincode;

    struct Nothing;

    impl Runtime<SwimIdentity> for Nothing {
        fn notify(&mut self, _: foca::Notification<'_, SwimIdentity>) {}
        fn send_to(&mut self, _: SwimIdentity, _: &[u8]) {}
        fn submit_after(&mut self, _: foca::Timer<SwimIdentity>, _: Duration) {}
    }

    fn identity(n: u8, rejoin: u16) -> SwimIdentity {
        SwimIdentity(MemberIdentity {
            node_id: NodeId::of_key(&[n]),
            address: NodeAddress { ip: [10, 0, 0, n].into(), gossip_port: 1, quic_port: 2 },
            generation: Generation(1),
            rejoin,
            cell: 0,
        })
    }

    fn update() -> impl Strategy<Value = Member<SwimIdentity>> {
        let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
        (1..4_u8, 0..2_u16, 0..3_u16, state)
            .prop_map(|(n, rejoin, incarnation, state)| Member::new(identity(n, rejoin), incarnation, state))
    }

    proptest! {
        #[test]
        fn it_is_what_foca_thinks_whatever_foca_is_told(updates in proptest::collection::vec(update(), 0..40)) {
            let mut swim: Foca<_, _, _, NoCustomBroadcast> =
                Foca::new(identity(0, 0), foca::Config::simple(), StdRng::seed_from_u64(1), Bincode::default());
            let mut known = KnownMembers::default();
            let mut followed: BTreeMap<NodeId, Member<SwimIdentity>> = BTreeMap::new();
            for update in updates {
                known.touch(&update);
                swim.apply_many(std::iter::once(update), true, Nothing).unwrap();
                known.look(|| swim.iter_membership_state());
                for member in swim.iter_membership_state() {
                    prop_assert_eq!(known.get(member.id().node()), Some(member));
                }
                prop_assert_eq!(known.members.len(), swim.iter_membership_state().len());
                followed.extend(known.take_changes().into_iter().map(|member| (member.id().node(), member)));
            }
            prop_assert_eq!(followed, known.members);
        }
    }
}
