use foca::{Member, Message, State};
use starling_proto::{MemberIdentity, NodeId};

use crate::admission::{Admission, rank};
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Lifeguard, State as Believed};

/// A third party may say that a member refuted so many more suspicions than that member said itself. The numbers end, so
/// nobody may use up another's.
pub(crate) const MAX_LEAP: u16 = 8;
/// The most nodes of one packet that are asked after.
const MAX_HINTS: usize = 32;

/// What was taken out of a packet before foca sees it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sifted {
    /// Nodes that nothing is known of: their credentials are to be asked for.
    pub(crate) strangers: Vec<NodeId>,
    /// New identities of admitted nodes: these are to be spoken to.
    pub(crate) renewed: Vec<MemberIdentity>,
    /// The sender holds this node's current identity for dead.
    pub(crate) we_are_down: bool,
    /// Someone suspects this node's current identity, as of this incarnation.
    pub(crate) we_are_suspect: Option<u16>,
    /// Members that are said to have refuted more than is to be believed of a third party: they are to be asked.
    pub(crate) leaps: Vec<MemberIdentity>,
    /// Members that the sender holds for down.
    pub(crate) downs: Vec<Member<SwimIdentity>>,
    /// Was anything taken out?
    pub(crate) changed: bool,
}

/// Leaves in a packet only what its sender may say: of admitted nodes in the identity they proved themselves, whether
/// they are alive. Nobody is introduced, moved, restarted or renewed by a third party.
///
/// What is said of this node is taken out as well: how often it refutes and when it renews is not foca's decision, since
/// each takes a number, and foca would follow whoever names a high one.
///
/// Nor does foca hear that one is down, which it would believe at once and for good (unless it is to be believed so).
pub(crate) fn sift(
    packet: &mut SwimPacket,
    this: &SwimIdentity,
    admission: &Admission,
    lifeguard: Lifeguard,
) -> Sifted {
    let (mut sifted, doubting) = (Sifted::default(), lifeguard == Lifeguard::On);
    let sender = packet.header.src.node();
    if packet.header.message == Message::TurnUndead {
        sifted.we_are_down = packet.header.dst == *this;
        // What is left is that the sender is alive.
        packet.header.message = Message::Gossip;
        sifted.changed = true;
    }
    let before = packet.updates.len();
    packet.updates.retain(|update| keep(update, sender, this, admission, doubting, &mut sifted));
    if doubting {
        sifted.downs = packet.updates.extract_if(.., |update| update.state() == State::Down).collect();
    }
    sifted.changed |= packet.updates.len() != before;
    sifted
}

fn keep(
    update: &Member<SwimIdentity>,
    sender: NodeId,
    this: &SwimIdentity,
    admission: &Admission,
    doubting: bool,
    sifted: &mut Sifted,
) -> bool {
    let about = update.id();
    if about.node() == this.node() {
        sifted.we_are_down |= about == this && update.state() == State::Down;
        if about == this && update.state() == State::Suspect {
            sifted.we_are_suspect = sifted.we_are_suspect.max(Some(update.incarnation()));
        }
        return false;
    }
    if about.node() == sender {
        // Of itself a node speaks in the header. This is an identity that it gave up.
        return false;
    }
    let alive = update.state() != State::Down;
    match admission.get(about.node()) {
        None => {
            if alive && sifted.strangers.len() < MAX_HINTS {
                sifted.strangers.push(about.node());
            }
            false
        }
        Some(peer) if peer.identity == about.0 => {
            let back = peer.state == Believed::Down && update.incarnation() > peer.incarnation;
            let leap = alive && (back || update.incarnation() > peer.shown.saturating_add(MAX_LEAP));
            if leap && !peer.has_left() && doubting && sifted.leaps.len() < MAX_HINTS {
                sifted.leaps.push(about.0);
            }
            !(peer.has_left() || leap && doubting)
        }
        Some(peer) => {
            if alive && about.rank() > rank(&peer.identity) && sifted.renewed.len() < MAX_HINTS {
                sifted.renewed.push(about.0);
            }
            false
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::VerifiedCredential;
    use crate::admission::Proof;
    use foca::Header;
    use starling_proto::{Generation, NodeAddress, SpiffeId};
    use std::net::IpAddr;
    use std::time::Instant;

    fn identity(n: u8, generation: u32, rejoin: u16) -> SwimIdentity {
        SwimIdentity(MemberIdentity {
            node_id: NodeId::of_key(&[n]),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, n]), gossip_port: 1, quic_port: 2 },
            generation: Generation(generation),
            rejoin,
            cell: 0,
        })
    }

    fn admission() -> Admission {
        let mut admission = Admission::new(10);
        for n in [2, 3] {
            let identity = identity(n, 5, 1).0;
            let spiffe: SpiffeId = format!("spiffe://demo/node/n{n}").parse().unwrap();
            let verified = VerifiedCredential {
                spiffe,
                gossip_key: [n; 32],
                node_id: identity.node_id,
                issued_at: 0,
                services: vec![],
            };
            admission.admit(Proof { credential: vec![].into(), verified }, identity, 0, Instant::now());
            let peer = admission.get_mut(identity.node_id).unwrap();
            (peer.state, peer.incarnation, peer.shown) = (Believed::Alive, 2, 1);
        }
        admission
    }

    /// Node 2 says something to node 1.
    fn said(message: Message<SwimIdentity>, updates: Vec<Member<SwimIdentity>>) -> (SwimPacket, Sifted) {
        said_to(Lifeguard::On, message, updates)
    }

    fn said_to(
        lifeguard: Lifeguard,
        message: Message<SwimIdentity>,
        updates: Vec<Member<SwimIdentity>>,
    ) -> (SwimPacket, Sifted) {
        let header = Header { src: identity(2, 5, 1), src_incarnation: 0, dst: identity(1, 5, 1), message };
        let mut packet = SwimPacket { header, updates };
        let sifted = sift(&mut packet, &identity(1, 5, 1), &admission(), lifeguard);
        (packet, sifted)
    }

    #[test]
    fn what_is_said_of_a_proven_identity_is_kept() {
        for state in [State::Alive, State::Suspect] {
            let update = Member::new(identity(3, 5, 1), 2, state);
            let (packet, sifted) = said(Message::Gossip, vec![update.clone()]);
            assert_eq!(packet.updates, [update]);
            assert_eq!(sifted, Sifted::default());
        }
    }

    #[test]
    fn that_one_is_down_is_taken_out_unless_this_node_doubts_nothing() {
        let down = Member::new(identity(3, 5, 1), 2, State::Down);
        let (packet, sifted) = said(Message::Gossip, vec![down.clone()]);
        assert!(packet.updates.is_empty() && sifted.changed);
        assert_eq!(sifted.downs, std::slice::from_ref(&down));
        let (packet, sifted) = said_to(Lifeguard::Off, Message::Gossip, vec![down.clone()]);
        assert_eq!(packet.updates, [down]);
        assert_eq!(sifted, Sifted::default());
    }

    #[test]
    fn a_third_party_does_not_use_up_a_members_incarnations() {
        // It showed 1 itself.
        for (incarnation, kept) in [(0, true), (2, true), (9, true), (10, false), (u16::MAX, false)] {
            for state in [State::Alive, State::Suspect] {
                let update = Member::new(identity(3, 5, 1), incarnation, state);
                let (packet, sifted) = said(Message::Gossip, vec![update]);
                assert_eq!(packet.updates.len(), usize::from(kept), "{incarnation} {state:?}");
                assert_eq!(sifted.leaps, if kept { vec![] } else { vec![identity(3, 5, 1).0] });
            }
        }
    }

    #[test]
    fn that_one_is_back_from_down_it_says_itself() {
        let mut admission = admission();
        let peer = admission.get_mut(identity(3, 5, 1).node()).unwrap();
        peer.state = Believed::Down;
        for (incarnation, asked) in [(2, false), (3, true)] {
            let update = Member::new(identity(3, 5, 1), incarnation, State::Alive);
            let header =
                Header { src: identity(2, 5, 1), src_incarnation: 0, dst: identity(1, 5, 1), message: Message::Gossip };
            let mut packet = SwimPacket { header, updates: vec![update] };
            let sifted = sift(&mut packet, &identity(1, 5, 1), &admission, Lifeguard::On);
            assert_eq!((!sifted.leaps.is_empty(), packet.updates.is_empty()), (asked, asked), "{incarnation}");
        }
    }

    #[test]
    fn a_stranger_is_a_hint_while_it_is_said_to_live() {
        let (packet, sifted) = said(Message::Gossip, vec![Member::alive(identity(9, 5, 0))]);
        assert_eq!((packet.updates.len(), sifted.strangers), (0, vec![NodeId::of_key(&[9])]));
        let (packet, sifted) = said(Message::Gossip, vec![Member::down(identity(9, 5, 0))]);
        assert_eq!((packet.updates.len(), sifted.strangers.len()), (0, 0));
    }

    #[test]
    fn a_new_generation_or_rejoin_or_address_is_a_hint_and_an_old_one_nothing() {
        let mut moved = identity(3, 5, 1);
        moved.0.address.gossip_port = 9;
        for (about, hinted) in [
            (identity(3, 6, 0), true),
            (identity(3, 5, 2), true),
            (identity(3, 5, 0), false),
            (identity(3, 4, 9), false),
            (moved, false),
        ] {
            let (packet, sifted) = said(Message::Feed, vec![Member::alive(about)]);
            assert!(packet.updates.is_empty(), "{about:?}");
            assert_eq!(sifted.renewed, if hinted { vec![about.0] } else { vec![] });
        }
    }

    #[test]
    fn what_is_said_of_ourselves_never_reaches_foca() {
        let (packet, sifted) = said(Message::Gossip, vec![Member::new(identity(1, 5, 1), 9, State::Suspect)]);
        assert_eq!((packet.updates.len(), sifted.we_are_down, sifted.we_are_suspect), (0, false, Some(9)));
        let (packet, sifted) = said(Message::Gossip, vec![Member::down(identity(1, 5, 1))]);
        assert_eq!((packet.updates.len(), sifted.we_are_down), (0, true));
        for other in [identity(1, 5, 0), identity(1, 6, 0)] {
            let (packet, sifted) = said(Message::Gossip, vec![Member::down(other), Member::alive(other)]);
            assert_eq!((packet.updates.len(), sifted.we_are_down, sifted.we_are_suspect), (0, false, None));
        }
    }

    #[test]
    fn being_told_that_we_are_down_is_only_a_sign_of_life_to_foca() {
        let (packet, sifted) = said(Message::TurnUndead, vec![]);
        assert_eq!(packet.header.message, Message::Gossip);
        assert!(sifted.we_are_down && sifted.changed);
    }
}
