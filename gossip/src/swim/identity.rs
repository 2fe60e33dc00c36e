use std::fmt;
use std::net::IpAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};

/// A member's identity as foca knows it: its address is the node id, the higher (generation, rejoin) wins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SwimIdentity(pub(crate) MemberIdentity);

impl SwimIdentity {
    pub(crate) const fn node(&self) -> NodeId {
        self.0.node_id
    }

    /// What decides between two identities of one node.
    pub(crate) const fn rank(&self) -> (Generation, u16) {
        (self.0.generation, self.0.rejoin)
    }
}

impl foca::Identity for SwimIdentity {
    type Addr = NodeId;

    /// Raises `rejoin` only, so that a return to the mesh never rebuilds the catalog.
    fn renew(&self) -> Option<Self> {
        let rejoin = self.0.rejoin.checked_add(1)?;
        Some(Self(MemberIdentity { rejoin, ..self.0 }))
    }

    fn addr(&self) -> NodeId {
        self.node()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.rank() > adversary.rank()
    }
}

/// As it travels: the node id's bytes, not its text.
type Wire = ([u8; 16], IpAddr, u16, u16, u32, u16, u16);

impl Serialize for SwimIdentity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let MemberIdentity { node_id, address, generation, rejoin, cell } = self.0;
        let wire: Wire =
            (*node_id.as_bytes(), address.ip, address.gossip_port, address.quic_port, generation.0, rejoin, cell);
        wire.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SwimIdentity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (node, ip, gossip_port, quic_port, generation, rejoin, cell) = Wire::deserialize(deserializer)?;
        let identity = MemberIdentity {
            node_id: NodeId::from_bytes(node),
            address: NodeAddress { ip, gossip_port, quic_port },
            generation: Generation(generation),
            rejoin,
            cell,
        };
        // The same rules as for an identity that comes as protobuf.
        MemberIdentity::try_from(&v1::NodeIdentity::from(&identity)).map(Self).map_err(D::Error::custom)
    }
}

impl fmt::Debug for SwimIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
