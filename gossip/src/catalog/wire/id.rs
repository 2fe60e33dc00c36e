//! The ids that chitchat knows nodes by.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use starling_proto::NodeId;

use super::cursor::{Cursor, put_text};
use super::{Context, WireError};

/// One boot of one node at one address. Ordered as chitchat orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId {
    /// Which node: chitchat's `node_id` is its text.
    pub node: NodeId,
    /// Which boot: chitchat's `generation_id`.
    pub generation: u64,
    /// Where it accepts QUIC: chitchat's `gossip_advertise_addr`.
    pub address: SocketAddr,
}

impl ReplicaId {
    /// Reads an id. Only one text stands for each node id.
    pub(super) fn read(input: &mut Cursor<'_>) -> Result<Self, WireError> {
        let text = input.text("an id's node")?;
        let node: NodeId = text.parse().map_err(|_| WireError::Id)?;
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(WireError::Id);
        }
        let generation = input.u64("an id's generation")?;
        let ip = match input.u8("an id's address")? {
            4 => IpAddr::from(input.array::<4>("an id's address")?),
            6 => IpAddr::from(input.array::<16>("an id's address")?),
            _ => return Err(WireError::Id),
        };
        let port = input.u16("an id's port")?;
        Ok(Self { node, generation, address: SocketAddr::new(ip, port) })
    }

    pub(super) fn write(&self, output: &mut Vec<u8>) {
        put_text(output, &self.node.to_string());
        output.extend_from_slice(&self.generation.to_le_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => {
                output.push(4);
                output.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                output.push(6);
                output.extend_from_slice(&ip.octets());
            }
        }
        output.extend_from_slice(&self.address.port().to_le_bytes());
    }

    /// The member's gossip key and whether it is alive, if this very boot of it, at this address, is admitted.
    pub(super) fn admitted(&self, context: &Context<'_>) -> Option<([u8; 32], bool)> {
        let member = context.admission.admitted(self.node)?;
        let same = u64::from(member.generation.0) == self.generation && member.address == self.address;
        same.then_some((member.public_key, member.alive))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}@{}", self.node.short(), self.generation, self.address)
    }
}
