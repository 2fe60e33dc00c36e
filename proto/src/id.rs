use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A node's identity for its whole life: the first 16 bytes of SHA-256 of its long-lived Ed25519 gossip key.
///
/// Shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeId([u8; 16]);

/// Why some bytes or text are no [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// Not 16 bytes.
    #[error("a node id has 16 bytes, not {0}")]
    Length(usize),
    /// Not 32 hexadecimal digits.
    #[error("a node id is written as 32 hexadecimal digits")]
    Text,
}

impl NodeId {
    /// The id that belongs to an Ed25519 public key (32 bytes).
    #[must_use]
    pub fn of_key(public_key: &[u8]) -> Self {
        let digest = Sha256::digest(public_key);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// An id from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, as they travel.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The bytes as prost wants them.
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(&self.0)
    }

    /// The first eight digits: enough for a log line, never for a decision.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl TryFrom<&[u8]> for NodeId {
    type Error = NodeIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, NodeIdError> {
        bytes.try_into().map(Self).map_err(|_| NodeIdError::Length(bytes.len()))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NodeIdError::Text);
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NodeIdError::Text)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NodeIdError::Text)?;
        }
        Ok(Self(id))
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for NodeId {
    type Error = NodeIdError;

    fn try_from(text: String) -> Result<Self, NodeIdError> {
        text.parse()
    }
}

/// A node's boot generation: higher at every start, persisted, and never below what the mesh remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation to start with: max(now, persisted + 1, remembered by the mesh + 1).
    ///
    /// `now` is in Unix seconds. Saturates at `u32::MAX`.
    #[must_use]
    pub fn at_boot(now: u64, persisted: Option<Self>, remembered: Option<Self>) -> Self {
        let next = |known: Option<Self>| known.map_or(0, |g| g.0.saturating_add(1));
        let now = u32::try_from(now).unwrap_or(u32::MAX);
        Self(now.max(next(persisted)).max(next(remembered)))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_survives_its_text_form() {
        let id = NodeId::of_key(&[7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), 8);
        assert_eq!("xyz".parse::<NodeId>(), Err(NodeIdError::Text));
        assert_eq!(NodeId::try_from(&[0_u8; 3][..]), Err(NodeIdError::Length(3)));
    }

    #[test]
    fn a_generation_rises_above_the_disk_the_mesh_and_the_clock() {
        let g = |n| Some(Generation(n));
        assert_eq!(Generation::at_boot(100, None, None), Generation(100));
        assert_eq!(Generation::at_boot(100, g(100), None), Generation(101));
        assert_eq!(Generation::at_boot(50, g(100), g(300)), Generation(301));
        assert_eq!(Generation::at_boot(u64::MAX, g(u32::MAX), None), Generation(u32::MAX));
    }
}
