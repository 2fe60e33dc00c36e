use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId, SpiffeId};

use crate::conduct::Conduct;
use crate::lifeguard::Unrest;
use crate::replay::ReplayWindow;
use crate::{Refusal, State, VerifiedCredential};

/// Who may speak: every node whose key a certificate of the mesh vouches for, and that has spoken itself.
#[derive(Debug)]
pub(crate) struct Admission {
    peers: BTreeMap<NodeId, Peer>,
    /// Who has which name.
    names: BTreeMap<SpiffeId, BTreeSet<NodeId>>,
    /// How many are up.
    up: usize,
    limit: usize,
}

/// An admitted node.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Encoded, for others who ask.
    pub(crate) credential: Bytes,
    pub(crate) verified: VerifiedCredential,
    /// The highest identity that it proved to be its own.
    pub(crate) identity: MemberIdentity,
    /// Which of its packets were seen.
    pub(crate) window: ReplayWindow<16>,
    /// Which of its notices were seen.
    pub(crate) notices: ReplayWindow<4>,
    /// As the mesh has it.
    pub(crate) incarnation: u16,
    /// The highest that it signed itself, in its current identity.
    pub(crate) shown: u16,
    pub(crate) state: State,
    pub(crate) since: Instant,
    /// The identity that it gave up on purpose.
    pub(crate) left: Option<(Generation, u16)>,
    /// The identity, of those that were down, that an operator dismissed.
    pub(crate) dismissed: Option<(Generation, u16)>,
    pub(crate) load: v1::LoadSummary,
    /// When its last datagram was accepted.
    pub(crate) heard: Option<Instant>,
    pub(crate) catalog_hash: u64,
    /// Epochs of which it has another key than this node, as of the last exchange of states.
    pub(crate) other_keys: Vec<u32>,
    pub(crate) conduct: Conduct,
    /// Who accuses its current identity and incarnation of having failed: at most [`WITNESSES`](crate::lifeguard::WITNESSES).
    pub(crate) accusers: BTreeSet<NodeId>,
    /// Who accused it lately, whatever became of it.
    pub(crate) unrest: Unrest,
    /// It is told that it counts as down, but not before this.
    pub(crate) tell_down_after: Instant,
}

/// A valid credential, with its encoding.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) credential: Bytes,
    pub(crate) verified: VerifiedCredential,
}

/// Of two identities of one node, the higher wins.
pub(crate) const fn rank(identity: &MemberIdentity) -> (Generation, u16) {
    (identity.generation, identity.rejoin)
}

impl Peer {
    fn new(proof: Proof, identity: MemberIdentity, floor: u64, now: Instant) -> Self {
        Self {
            credential: proof.credential,
            verified: proof.verified,
            window: ReplayWindow::new(identity.generation, floor),
            notices: ReplayWindow::new(identity.generation, 0),
            identity,
            incarnation: 0,
            shown: 0,
            // Until the SWIM engine says otherwise.
            state: State::Down,
            since: now,
            left: None,
            dismissed: None,
            load: v1::LoadSummary::default(),
            heard: None,
            catalog_hash: 0,
            other_keys: Vec::new(),
            conduct: Conduct::default(),
            accusers: BTreeSet::new(),
            unrest: Unrest::default(),
            tell_down_after: now,
        }
    }

    /// Did it leave, and not come back since?
    pub(crate) fn has_left(&self) -> bool {
        self.left.is_some_and(|left| left >= rank(&self.identity))
    }

    /// Did an operator say that it will not come back, and has it not since?
    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.is_some_and(|dismissed| dismissed >= rank(&self.identity))
    }

    pub(crate) fn name(&self) -> String {
        self.verified.spiffe.node().to_owned()
    }
}

impl Admission {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { peers: BTreeMap::new(), names: BTreeMap::new(), up: 0, limit }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.peers.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.peers.get_mut(&node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().map(|(node, peer)| (*node, peer))
    }

    /// How many are up, this node not counted.
    pub(crate) const fn up(&self) -> usize {
        self.up
    }

    /// A peer is in this state from now on. Nobody else changes one that was admitted.
    pub(crate) fn set_state(&mut self, node: NodeId, state: State, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&node) {
            self.up = self.up + usize::from(state.is_up()) - usize::from(peer.state.is_up());
            peer.state = state;
            peer.since = now;
        }
    }

    /// Those with a name.
    pub(crate) fn named(&self, name: &SpiffeId) -> impl Iterator<Item = (NodeId, &Peer)> {
        let nodes = self.names.get(name).into_iter().flatten();
        nodes.filter_map(|node| Some((*node, self.peers.get(node)?)))
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Would a node be refused for its name, or because the mesh is full? `waiting` candidates count as members.
    ///
    /// A name is free again once its holder is down or has left: then the newcomer takes it.
    pub(crate) fn check_room(&self, node: NodeId, name: &SpiffeId, waiting: usize) -> Result<(), Refusal> {
        let holder = self.named(name).find(|(id, peer)| *id != node && peer.state.is_up());
        if let Some((holder, peer)) = holder {
            let address = peer.identity.address.quic();
            return Err(Refusal::NameTaken { name: name.clone(), holder, address });
        }
        if self.peers.get(&node).is_some_and(|peer| peer.state.is_up()) {
            return Ok(());
        }
        // This node is a member too.
        if self.up + waiting + 1 >= self.limit { Err(Refusal::MemberLimit { limit: self.limit }) } else { Ok(()) }
    }

    /// Admits a node with an identity that it proved, or takes note of a higher one. Counters up to `floor` are not
    /// accepted, if its generation is new here.
    ///
    /// Gives those who had to make room: nodes that were down, the longest first.
    pub(crate) fn admit(&mut self, proof: Proof, identity: MemberIdentity, floor: u64, now: Instant) -> Vec<NodeId> {
        let node = identity.node_id;
        if let Some(peer) = self.peers.get_mut(&node) {
            if proof.verified.issued_at >= peer.verified.issued_at {
                let renamed = peer.verified.spiffe != proof.verified.spiffe;
                let before = std::mem::replace(&mut peer.verified, proof.verified).spiffe;
                peer.credential = proof.credential;
                if renamed {
                    self.names.entry(peer.verified.spiffe.clone()).or_default().insert(node);
                    drop_name(&mut self.names, &before, node);
                }
            }
            peer.raise(identity, floor);
            return Vec::new();
        }
        self.names.entry(proof.verified.spiffe.clone()).or_default().insert(node);
        self.peers.insert(node, Peer::new(proof, identity, floor, now));
        let mut gone = Vec::new();
        // Those that are down are kept for a day, but not more of them than there may be members.
        while self.peers.len() > 2 * self.limit {
            let down = self.peers.iter().filter(|(id, peer)| **id != node && !peer.state.is_up());
            let Some(oldest) = down.min_by_key(|(_, peer)| peer.since).map(|(id, _)| *id) else { break };
            gone.push(oldest);
            self.remove(oldest);
        }
        gone
    }

    pub(crate) fn remove(&mut self, node: NodeId) -> Option<Peer> {
        let peer = self.peers.remove(&node)?;
        self.up -= usize::from(peer.state.is_up());
        drop_name(&mut self.names, &peer.verified.spiffe, node);
        Some(peer)
    }
}

fn drop_name(names: &mut BTreeMap<SpiffeId, BTreeSet<NodeId>>, name: &SpiffeId, node: NodeId) {
    if let Some(nodes) = names.get_mut(name) {
        nodes.remove(&node);
        if nodes.is_empty() {
            names.remove(name);
        }
    }
}

impl Peer {
    /// Takes note of a higher identity of its own.
    pub(crate) fn raise(&mut self, identity: MemberIdentity, floor: u64) {
        if rank(&identity) <= rank(&self.identity) {
            return;
        }
        if identity.generation > self.window.generation() {
            self.window = ReplayWindow::new(identity.generation, floor);
        }
        if identity.generation > self.notices.generation() {
            self.notices = ReplayWindow::new(identity.generation, 0);
        }
        if identity.generation > self.identity.generation {
            // What its last process was like says nothing of this one.
            self.unrest = Unrest::default();
        }
        self.identity = identity;
        self.incarnation = 0;
        self.shown = 0;
        self.accusers.clear();
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::Config;
    use starling_proto::NodeAddress;

    fn node(n: usize) -> NodeId {
        NodeId::of_key(&n.to_be_bytes())
    }

    fn name(n: usize) -> SpiffeId {
        format!("spiffe://demo.example/node/n{n}").parse().unwrap()
    }

    /// Has the n-th node admitted, and up.
    fn admit(admission: &mut Admission, n: usize, now: Instant) {
        let verified = VerifiedCredential {
            spiffe: name(n),
            gossip_key: [0; 32],
            node_id: node(n),
            issued_at: 1,
            services: Vec::new(),
        };
        let address = NodeAddress { ip: [10, 0, 0, 1].into(), gossip_port: 1, quic_port: 2 };
        let identity = MemberIdentity { node_id: node(n), address, generation: Generation(1), rejoin: 0, cell: 0 };
        assert_eq!(admission.admit(Proof { credential: Bytes::new(), verified }, identity, 0, now), []);
        admission.set_state(node(n), State::Alive, now);
    }

    #[test]
    fn a_mesh_of_five_hundred_refuses_the_next_by_an_error_that_names_it_and_keeps_those_it_has() {
        let (mut admission, now) = (Admission::new(Config::MEMBER_LIMIT), Instant::now());
        // This node is one of them.
        for n in 1..500 {
            assert_eq!(admission.check_room(node(n), &name(n), 0), Ok(()), "member {}", n + 1);
            admit(&mut admission, n, now);
        }
        let room = |admission: &Admission, n| admission.check_room(node(n), &name(n), 0);
        let full = Refusal::MemberLimit { limit: 500 };
        assert_eq!((admission.up(), room(&admission, 500)), (499, Err(full.clone())));
        assert!(full.to_string().contains("500 members") && full.to_string().contains("gossip.member_limit"), "{full}");
        // Members that come again, as new as they may be, and however they are.
        assert!((1..500).all(|n| room(&admission, n) == Ok(())));
        admission.set_state(node(1), State::Suspect, now);
        assert_eq!((room(&admission, 1), room(&admission, 500)), (Ok(()), Err(full.clone())));
        // One that is down or has left makes room, for itself or for another; and a candidate takes it.
        for gone in [State::Down, State::Left] {
            admission.set_state(node(1), gone, now);
            assert_eq!((room(&admission, 1), room(&admission, 500)), (Ok(()), Ok(())), "{gone}");
            assert_eq!(admission.check_room(node(500), &name(500), 1), Err(full.clone()), "{gone}");
        }
        admit(&mut admission, 500, now);
        assert_eq!((room(&admission, 500), room(&admission, 1)), (Ok(()), Err(full)));
    }
}
