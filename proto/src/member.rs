use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::mesh::v1;
use crate::{Generation, NodeId};

/// Where others reach a node: one address, a UDP port for gossip and one for QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The advertised address.
    pub ip: IpAddr,
    /// UDP port of the SWIM packets.
    pub gossip_port: u16,
    /// UDP port of QUIC: data, admission and control.
    pub quic_port: u16,
}

impl NodeAddress {
    /// Where SWIM packets go, and where they come from.
    #[must_use]
    pub const fn gossip(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.gossip_port)
    }

    /// Where QUIC connections go.
    #[must_use]
    pub const fn quic(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.quic_port)
    }
}

/// The identity that the SWIM engine knows a member by. Of two with one `node_id`, the higher
/// (`generation`, `rejoin`) wins; on a tie the known one stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberIdentity {
    /// Who.
    pub node_id: NodeId,
    /// Where.
    pub address: NodeAddress,
    /// Which boot.
    pub generation: Generation,
    /// Which return to the mesh within this boot: raised when others took the node for dead.
    pub rejoin: u16,
    /// Reserved for meshes that are cut into cells.
    pub cell: u16,
}

impl MemberIdentity {
    /// Is `other` a later boot of the same key at another address? Then two nodes have one key, if this one runs.
    #[must_use]
    pub fn is_run_elsewhere(&self, other: &Self) -> bool {
        self.node_id == other.node_id && self.generation < other.generation && self.address != other.address
    }
}

impl fmt::Debug for MemberIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}#{}.{}", self.node_id.short(), self.address.gossip(), self.generation, self.rejoin)
    }
}

/// Why a message holds no valid [`MemberIdentity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberIdentityError {
    /// The node id is malformed.
    #[error("node_id: {0}")]
    NodeId(#[from] crate::NodeIdError),
    /// An address that is neither 4 nor 16 bytes.
    #[error("ip: an address has 4 or 16 bytes, not {0}")]
    Ip(usize),
    /// An address that nobody can be reached at.
    #[error("ip: {0} is unspecified, multicast or broadcast")]
    Unreachable(IpAddr),
    /// A number out of range.
    #[error("{0}: out of range")]
    Range(&'static str),
}

impl From<&MemberIdentity> for v1::NodeIdentity {
    fn from(identity: &MemberIdentity) -> Self {
        let ip = match identity.address.ip {
            IpAddr::V4(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes::Bytes::copy_from_slice(&ip.octets()),
        };
        Self {
            node_id: identity.node_id.to_bytes(),
            ip,
            gossip_port: identity.address.gossip_port.into(),
            quic_port: identity.address.quic_port.into(),
            generation: identity.generation.0,
            rejoin: identity.rejoin.into(),
            cell: identity.cell.into(),
        }
    }
}

impl TryFrom<&v1::NodeIdentity> for MemberIdentity {
    type Error = MemberIdentityError;

    fn try_from(wire: &v1::NodeIdentity) -> Result<Self, MemberIdentityError> {
        let ip = match wire.ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(&wire.ip[..]).map_err(|_| MemberIdentityError::Ip(4))?),
            16 => IpAddr::from(<[u8; 16]>::try_from(&wire.ip[..]).map_err(|_| MemberIdentityError::Ip(16))?),
            other => return Err(MemberIdentityError::Ip(other)),
        };
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(MemberIdentityError::Unreachable(ip));
        }
        let port = |port: u32, name| match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(MemberIdentityError::Range(name)),
        };
        Ok(Self {
            node_id: NodeId::try_from(&wire.node_id[..])?,
            address: NodeAddress {
                ip,
                gossip_port: port(wire.gossip_port, "gossip_port")?,
                quic_port: port(wire.quic_port, "quic_port")?,
            },
            generation: Generation(wire.generation),
            rejoin: u16::try_from(wire.rejoin).map_err(|_| MemberIdentityError::Range("rejoin"))?,
            cell: u16::try_from(wire.cell).map_err(|_| MemberIdentityError::Range("cell"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> MemberIdentity {
        MemberIdentity {
            node_id: NodeId::of_key(&[1; 32]),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, 1]), gossip_port: 7946, quic_port: 7947 },
            generation: Generation(9),
            rejoin: 2,
            cell: 0,
        }
    }

    #[test]
    fn an_identity_survives_the_wire() {
        let wire = v1::NodeIdentity::from(&identity());
        assert_eq!(MemberIdentity::try_from(&wire), Ok(identity()));
    }

    #[test]
    fn an_identity_that_nobody_can_reach_is_refused() {
        let wire = v1::NodeIdentity::from(&identity());
        let ip = |ip: &[u8]| v1::NodeIdentity { ip: bytes::Bytes::copy_from_slice(ip), ..wire.clone() };
        for (bad, error) in [
            (ip(&[0; 4]), MemberIdentityError::Unreachable(IpAddr::from([0; 4]))),
            (ip(&[255; 4]), MemberIdentityError::Unreachable(IpAddr::from([255; 4]))),
            (ip(&[1; 5]), MemberIdentityError::Ip(5)),
            (v1::NodeIdentity { quic_port: 0, ..wire.clone() }, MemberIdentityError::Range("quic_port")),
            (v1::NodeIdentity { gossip_port: 65_536, ..wire.clone() }, MemberIdentityError::Range("gossip_port")),
            (v1::NodeIdentity { rejoin: 65_536, ..wire.clone() }, MemberIdentityError::Range("rejoin")),
        ] {
            assert_eq!(MemberIdentity::try_from(&bad), Err(error));
        }
    }
}
