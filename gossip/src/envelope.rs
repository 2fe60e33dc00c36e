//! What every datagram is wrapped in.
//!
//! ```text
//! | version: u8 | key epoch: u32 BE | nonce: 12 | AES-256-GCM-SIV(group key, SignedPacket) | tag: 16 |
//! ```
//!
//! Version and epoch are authenticated as associated data, the nonce by its use. An outsider, who has no group key,
//! is dropped before anything is parsed. Inside, the sender signs the packet: members can't speak for one another.

use bytes::{Bytes, BytesMut};
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{NodeId, decode};

use crate::keyring::{NONCE_LEN, TAG_LEN};
use crate::swim::SwimPacket;
use crate::{Keyring, Rejection, SigningKey, verify};

/// The most a datagram may have, in bytes: an IPv6 packet of the least MTU, 1,280, less its headers.
pub(crate) const MAX_DATAGRAM: usize = 1_232;
/// The version of envelope and packet.
pub(crate) const VERSION: u8 = 1;
/// Bytes in the clear.
const CLEAR: usize = 5 + NONCE_LEN;
/// What the signature covers before the packet, so that no signed packet is ever another kind of statement.
const DOMAIN: &[u8] = b"starling/gossip-packet/1\0";
/// Bytes that `SignedPacket` adds to a packet: two tags, a length of at most two bytes, one of one byte, a signature.
const SIGNED: usize = 1 + 2 + 2 + 64;
/// The most an encoded `Packet` may have, in bytes.
pub(crate) const MAX_PACKET: usize = MAX_DATAGRAM - CLEAR - TAG_LEN - SIGNED;

/// A packet that was sealed with the group key. Nothing in it is to be believed before [`Opened::is_signed_by`].
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) packet: v1::Packet,
    pub(crate) sender: NodeId,
    pub(crate) destination: NodeId,
    signed: Bytes,
    signature: Bytes,
}

impl Opened {
    /// Did the owner of this key sign the packet?
    pub(crate) fn is_signed_by(&self, public_key: &[u8; 32]) -> bool {
        verify(public_key, &statement(&self.signed), &self.signature)
    }
}

fn statement(packet: &[u8]) -> Vec<u8> {
    [DOMAIN, packet].concat()
}

/// Signs a packet and seals it with the group key of an epoch. `None` if it does not fit into a datagram.
pub(crate) fn seal(
    packet: &v1::Packet,
    key: &SigningKey,
    keyring: &Keyring,
    epoch: u32,
    nonce: [u8; NONCE_LEN],
) -> Option<Bytes> {
    let encoded = packet.encode_to_vec();
    if encoded.len() > MAX_PACKET {
        return None;
    }
    let signature = Bytes::copy_from_slice(&key.sign(&statement(&encoded)));
    let inside = v1::SignedPacket { packet: encoded.into(), signature }.encode_to_vec();
    seal_bytes(inside, keyring, epoch, nonce)
}

/// Seals what may be a `SignedPacket`.
pub(crate) fn seal_bytes(mut inside: Vec<u8>, keyring: &Keyring, epoch: u32, nonce: [u8; NONCE_LEN]) -> Option<Bytes> {
    let clear = clear(epoch);
    keyring.seal(epoch, nonce, &clear, &mut inside)?;
    let mut datagram = BytesMut::with_capacity(CLEAR + inside.len());
    datagram.extend_from_slice(&clear);
    datagram.extend_from_slice(&nonce);
    datagram.extend_from_slice(&inside);
    Some(datagram.freeze())
}

fn clear(epoch: u32) -> [u8; 5] {
    let [a, b, c, d] = epoch.to_be_bytes();
    [VERSION, a, b, c, d]
}

/// Opens a datagram with the group key.
pub(crate) fn open(datagram: &[u8], keyring: &Keyring) -> Result<Opened, Rejection> {
    if datagram.len() > MAX_DATAGRAM || datagram.len() < CLEAR + TAG_LEN {
        return Err(Rejection::Size);
    }
    let (clear, sealed) = datagram.split_at(CLEAR);
    let (clear, nonce) = clear.split_at(5);
    if clear[0] != VERSION {
        return Err(Rejection::Version);
    }
    let epoch = u32::from_be_bytes([clear[1], clear[2], clear[3], clear[4]]);
    if !keyring.accepts(epoch) {
        return Err(Rejection::Epoch);
    }
    let nonce = nonce.try_into().map_err(|_| Rejection::Size)?;
    let mut buffer = sealed.to_vec();
    let inside = keyring.open(epoch, nonce, clear, &mut buffer).ok_or(Rejection::Unsealed)?.len();
    buffer.truncate(inside);
    parse(buffer.into())
}

fn parse(inside: Bytes) -> Result<Opened, Rejection> {
    let malformed = |_| Rejection::Malformed;
    let signed: v1::SignedPacket = decode::message("SignedPacket", inside, MAX_DATAGRAM).map_err(malformed)?;
    let mut packet: v1::Packet = decode::message("Packet", signed.packet.clone(), MAX_PACKET).map_err(malformed)?;
    if packet.version != u32::from(VERSION) {
        return Err(Rejection::Version);
    }
    complete(&mut packet)?;
    let id = |bytes: &Bytes| NodeId::try_from(&bytes[..]).map_err(|_| Rejection::Malformed);
    Ok(Opened {
        sender: id(&packet.sender)?,
        destination: id(&packet.destination)?,
        packet,
        signed: signed.packet,
        signature: signed.signature,
    })
}

/// Leaves out of a packet what its SWIM part says too: 42 bytes.
pub(crate) fn abridge(packet: &mut v1::Packet) {
    if !packet.swim.is_empty() {
        packet.sender = Bytes::new();
        packet.destination = Bytes::new();
        packet.generation = 0;
    }
}

/// Puts in what was left out.
fn complete(packet: &mut v1::Packet) -> Result<(), Rejection> {
    let abridged = packet.sender.is_empty() && packet.destination.is_empty() && packet.generation == 0;
    if abridged && !packet.swim.is_empty() {
        let header = SwimPacket::header(&packet.swim).map_err(|_| Rejection::Malformed)?;
        packet.sender = header.src.node().to_bytes();
        packet.destination = header.dst.node().to_bytes();
        packet.generation = header.src.0.generation.0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Header;
    use proptest::prelude::*;
    use starling_proto::{Generation, MemberIdentity, NodeAddress};

    use crate::swim::SwimIdentity;

    fn key() -> SigningKey {
        SigningKey::from_seed([1; 32]).unwrap()
    }

    fn ring(epoch: u32, byte: u8) -> Keyring {
        Keyring::try_new(vec![(epoch, [byte; 32])]).unwrap()
    }

    fn packet(padding: usize) -> v1::Packet {
        v1::Packet {
            version: 1,
            sender: key().node_id().to_bytes(),
            destination: NodeId::of_key(b"you").to_bytes(),
            generation: u32::MAX,
            counter: u64::MAX,
            padding: vec![0; padding].into(),
            ..Default::default()
        }
    }

    fn sealed() -> Vec<u8> {
        seal(&packet(10), &key(), &ring(1, 1), 1, [9; 12]).unwrap().to_vec()
    }

    #[test]
    fn a_packet_survives_its_envelope() {
        let opened = open(&sealed(), &ring(1, 1)).unwrap();
        assert_eq!(opened.packet, packet(10));
        assert_eq!(opened.sender, key().node_id());
        assert!(opened.is_signed_by(&key().public_key()));
        assert!(!opened.is_signed_by(&SigningKey::from_seed([2; 32]).unwrap().public_key()));
    }

    #[test]
    fn what_the_swim_part_says_need_not_be_said_twice() {
        let identity = |node_id| {
            let address = NodeAddress { ip: [10, 0, 0, 1].into(), gossip_port: 1, quic_port: 2 };
            SwimIdentity(MemberIdentity { node_id, address, generation: Generation(7), rejoin: 0, cell: 0 })
        };
        let (src, dst) = (identity(key().node_id()), identity(NodeId::of_key(b"you")));
        let header = Header { src, src_incarnation: 3, dst, message: foca::Message::Ping(1) };
        let swim = SwimPacket { header, updates: Vec::new() }.encode().unwrap();
        let whole = v1::Packet { generation: 7, swim, ..packet(0) };
        let mut abridged = whole.clone();
        abridge(&mut abridged);
        assert_eq!(whole.encoded_len() - abridged.encoded_len(), 38, "and four more for a generation of these years");
        let seal = |packet: &v1::Packet| seal(packet, &key(), &ring(1, 1), 1, [9; 12]).unwrap();
        let opened = open(&seal(&abridged), &ring(1, 1)).unwrap();
        assert_eq!((&opened.packet, opened.sender, opened.destination), (&whole, src.node(), dst.node()));
        assert!(opened.is_signed_by(&key().public_key()));
        // By halves is no way, and without a SWIM part there is nothing to take it from.
        let halves = [
            v1::Packet { sender: whole.sender.clone(), ..abridged.clone() },
            v1::Packet { swim: Bytes::new(), ..abridged.clone() },
            v1::Packet { swim: vec![1; 20].into(), ..abridged },
        ];
        for half in halves {
            assert_eq!(open(&seal(&half), &ring(1, 1)).unwrap_err(), Rejection::Malformed, "{half:?}");
        }
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        for at in 0..sealed().len() {
            let mut changed = sealed();
            changed[at] ^= 0x40;
            let expected = match at {
                0 => Rejection::Version,
                1..5 => Rejection::Epoch,
                _ => Rejection::Unsealed,
            };
            assert_eq!(open(&changed, &ring(1, 1)).unwrap_err(), expected, "byte {at}");
        }
    }

    #[test]
    fn an_outsider_is_dropped_before_anything_is_parsed() {
        assert_eq!(open(&sealed(), &ring(1, 2)).unwrap_err(), Rejection::Unsealed);
        assert_eq!(open(&sealed(), &ring(2, 1)).unwrap_err(), Rejection::Epoch);
        assert_eq!(open(&[], &ring(1, 1)).unwrap_err(), Rejection::Size);
        assert_eq!(open(&[1; MAX_DATAGRAM + 1], &ring(1, 1)).unwrap_err(), Rejection::Size);
    }

    #[test]
    fn the_largest_packet_fills_a_datagram_and_a_larger_one_is_not_sealed() {
        let room = MAX_PACKET - packet(0).encoded_len() - 3;
        let datagram = seal(&packet(room), &key(), &ring(1, 1), 1, [9; 12]).unwrap();
        assert_eq!(datagram.len(), MAX_DATAGRAM);
        assert!(open(&datagram, &ring(1, 1)).is_ok());
        assert!(seal(&packet(room + 1), &key(), &ring(1, 1), 1, [9; 12]).is_none());
    }

    #[test]
    fn fields_of_a_newer_version_are_skipped() {
        let mut encoded = packet(0).encode_to_vec();
        // Field 100, length-delimited, three bytes.
        encoded.extend([0xa2, 0x06, 3, b'n', b'e', b'w']);
        let signature = Bytes::copy_from_slice(&key().sign(&statement(&encoded)));
        let mut inside = v1::SignedPacket { packet: encoded.into(), signature }.encode_to_vec();
        ring(1, 1).seal(1, [9; 12], &clear(1), &mut inside).unwrap();
        let datagram = [&clear(1)[..], &[9; 12], &inside].concat();
        let opened = open(&datagram, &ring(1, 1)).unwrap();
        assert_eq!(opened.packet, packet(0));
        assert!(opened.is_signed_by(&key().public_key()));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_400)) {
            prop_assert!(open(&bytes, &ring(1, 1)).is_err());
        }

        #[test]
        fn arbitrary_sealed_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_000)) {
            let mut inside = bytes;
            ring(1, 1).seal(1, [9; 12], &clear(1), &mut inside).unwrap();
            let _ = open(&[&clear(1)[..], &[9; 12], &inside].concat(), &ring(1, 1));
        }
    }
}
