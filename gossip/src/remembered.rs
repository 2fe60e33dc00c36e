//! What a node keeps on disk, as an append-only log of records. Each record is the whole of it; the last whole one
//! counts, so a crash in the middle of a write loses that write only.
//!
//! ```text
//! | length: u32 BE | first 8 bytes of SHA-256 of the payload | payload (protobuf) |
//! ```

use std::net::IpAddr;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use starling_proto::{Generation, NodeAddress, NodeId};

const HEADER: usize = 4 + 8;
/// The most a payload may have, in bytes: a thousand members at some hundred bytes each, with room.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// What a node keeps on disk: hints on its next start, and the generation to start above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The node's own generation.
    pub generation: Generation,
    /// Numbers of `rejoin` below this are taken: reserved in blocks, so that a renewal waits for no disk.
    pub rejoin: u16,
    /// Members, with where they were last.
    pub members: Vec<RememberedMember>,
}

/// A member as it was last known: a hint to dial, no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedMember {
    /// Who.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where.
    pub address: NodeAddress,
    /// Which boot.
    pub generation: Generation,
}

/// What a log held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// The last whole record, if there is one.
    pub remembered: Option<Remembered>,
    /// Bytes up to the end of that record: the log is to be cut there before it is appended to.
    pub whole: usize,
    /// Bytes after it, which are damaged or half-written.
    pub damaged: usize,
}

impl Remembered {
    /// One record, to be appended to the log.
    ///
    /// A driver starts a new log (written beside the old one, then renamed over it) once it is a few times as long as
    /// one record.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let payload = Wire::from(self).encode_to_vec();
        let mut record = Vec::with_capacity(HEADER + payload.len());
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        record.extend_from_slice(&len.to_be_bytes());
        record.extend_from_slice(&checksum(&payload));
        record.extend_from_slice(&payload);
        record
    }

    /// Reads a log. Never fails: what can't be read is not remembered.
    #[must_use]
    pub fn recall(log: &[u8]) -> Recalled {
        let (mut remembered, mut whole) = (None, 0);
        while let Some((record, len)) = first_record(&log[whole..]) {
            remembered = Some(record);
            whole += len;
        }
        Recalled { remembered, whole, damaged: log.len() - whole }
    }
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&Sha256::digest(payload)[..8]);
    sum
}

/// The record at the start of a log, and its length.
fn first_record(log: &[u8]) -> Option<(Remembered, usize)> {
    let (header, rest) = log.split_at_checked(HEADER)?;
    let len = u32::from_be_bytes(header[..4].try_into().ok()?) as usize;
    let payload = rest.get(..len).filter(|_| len <= MAX_PAYLOAD)?;
    if header[4..] != checksum(payload) {
        return None;
    }
    let wire = Wire::decode(payload).ok()?;
    Some((wire.into(), HEADER + len))
}

/// As it stands in the log. Protobuf, so that a newer version may add to it.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    generation: u32,
    #[prost(uint32, tag = "2")]
    rejoin: u32,
    #[prost(message, repeated, tag = "3")]
    members: Vec<WireMember>,
}

#[derive(Clone, PartialEq, Message)]
struct WireMember {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    ip: String,
    #[prost(uint32, tag = "4")]
    gossip_port: u32,
    #[prost(uint32, tag = "5")]
    quic_port: u32,
    #[prost(uint32, tag = "6")]
    generation: u32,
}

impl From<&Remembered> for Wire {
    fn from(remembered: &Remembered) -> Self {
        let member = |member: &RememberedMember| WireMember {
            id: member.id.to_bytes(),
            name: member.name.clone(),
            ip: member.address.ip.to_string(),
            gossip_port: member.address.gossip_port.into(),
            quic_port: member.address.quic_port.into(),
            generation: member.generation.0,
        };
        Self {
            generation: remembered.generation.0,
            rejoin: remembered.rejoin.into(),
            members: remembered.members.iter().map(member).collect(),
        }
    }
}

impl From<Wire> for Remembered {
    fn from(wire: Wire) -> Self {
        let member = |member: WireMember| {
            let address = NodeAddress {
                ip: member.ip.parse::<IpAddr>().ok()?,
                gossip_port: u16::try_from(member.gossip_port).ok()?,
                quic_port: u16::try_from(member.quic_port).ok()?,
            };
            let id = NodeId::try_from(&member.id[..]).ok()?;
            Some(RememberedMember { id, name: member.name, address, generation: Generation(member.generation) })
        };
        Self {
            generation: Generation(wire.generation),
            rejoin: u16::try_from(wire.rejoin).unwrap_or(u16::MAX),
            members: wire.members.into_iter().filter_map(member).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn remembered(n: u8) -> Remembered {
        let member = RememberedMember {
            id: NodeId::of_key(&[n]),
            name: format!("web-{n}"),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, n]), gossip_port: 7946, quic_port: 7947 },
            generation: Generation(7),
        };
        Remembered { generation: Generation(n.into()), rejoin: 16, members: vec![member; 2] }
    }

    #[test]
    fn the_last_record_of_a_log_counts() {
        let log = [remembered(1).to_record(), remembered(2).to_record()].concat();
        let recalled = Remembered::recall(&log);
        assert_eq!(recalled, Recalled { remembered: Some(remembered(2)), whole: log.len(), damaged: 0 });
        assert_eq!(Remembered::recall(&[]).remembered, None);
    }

    #[test]
    fn a_record_that_was_half_written_or_damaged_is_left_out() {
        let (first, second) = (remembered(1).to_record(), remembered(2).to_record());
        let log = [first.clone(), second.clone()].concat();
        for end in first.len()..log.len() {
            let recalled = Remembered::recall(&log[..end]);
            assert_eq!((recalled.remembered, recalled.whole), (Some(remembered(1)), first.len()));
            assert_eq!(recalled.damaged, end - first.len());
        }
        for at in first.len()..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 1;
            assert_eq!(Remembered::recall(&damaged).remembered, Some(remembered(1)), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let recalled = Remembered::recall(&bytes);
            prop_assert_eq!(recalled.whole + recalled.damaged, bytes.len());
        }
    }
}
