use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Codec, Header, Member, Message};

use super::codec::CodecError;
use super::{Bincode, MAX_SWIM, SwimIdentity};

/// One packet of foca's, taken apart so that hearsay can be taken out of it: a header, and what its sender says of
/// others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SwimPacket {
    pub(crate) header: Header<SwimIdentity>,
    pub(crate) updates: Vec<Member<SwimIdentity>>,
}

impl SwimPacket {
    /// Reads the whole of a packet. Stricter than foca: nothing may follow the updates, since this mesh's broadcasts
    /// travel beside foca's packets and not in them.
    pub(crate) fn parse(mut bytes: &[u8]) -> Result<Self, CodecError> {
        let malformed = |what: &str| Err(CodecError::Malformed(what.to_owned()));
        if bytes.len() > MAX_SWIM {
            return malformed("too large");
        }
        let mut codec = Bincode::default();
        let header = codec.decode_header(&mut bytes)?;
        let mut updates = Vec::new();
        match header.message {
            Message::Broadcast => return malformed("broadcasts are not in use"),
            Message::Announce | Message::TurnUndead => {}
            _ if bytes.len() < 2 => return malformed("no count of updates"),
            _ => {
                // Bounded by what is left: each update takes bytes.
                for _ in 0..bytes.get_u16() {
                    updates.push(codec.decode_member(&mut bytes)?);
                }
            }
        }
        if bytes.is_empty() { Ok(Self { header, updates }) } else { malformed("bytes after the end") }
    }

    /// Who says it to whom, of a packet that may be malformed after that.
    pub(crate) fn header(mut bytes: &[u8]) -> Result<Header<SwimIdentity>, CodecError> {
        Bincode::default().decode_header(&mut bytes)
    }

    /// Writes it as foca reads it.
    pub(crate) fn encode(&self) -> Result<Bytes, CodecError> {
        let mut codec = Bincode::default();
        let mut buffer = BytesMut::with_capacity(MAX_SWIM).limit(MAX_SWIM);
        codec.encode_header(&self.header, &mut buffer)?;
        if !matches!(self.header.message, Message::Announce | Message::TurnUndead) {
            let count = u16::try_from(self.updates.len()).map_err(|_| CodecError::Full(self.updates.len()))?;
            if buffer.remaining_mut() < 2 {
                return Err(CodecError::Full(2));
            }
            buffer.put_u16(count);
            for update in &self.updates {
                codec.encode_member(update, &mut buffer)?;
            }
        }
        Ok(buffer.into_inner().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};
    use std::net::IpAddr;

    fn identity(n: u8) -> SwimIdentity {
        SwimIdentity(MemberIdentity {
            node_id: NodeId::of_key(&[n]),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, n]), gossip_port: 7946, quic_port: 7947 },
            generation: Generation(9),
            rejoin: 2,
            cell: 0,
        })
    }

    fn packet(message: Message<SwimIdentity>, updates: usize) -> SwimPacket {
        let header = Header { src: identity(1), src_incarnation: 3, dst: identity(2), message };
        SwimPacket { header, updates: vec![Member::alive(identity(3)); updates] }
    }

    #[test]
    fn a_packet_survives_the_wire() {
        for packet in [
            packet(Message::Ping(1), 0),
            packet(Message::Gossip, 3),
            packet(Message::Announce, 0),
            packet(Message::TurnUndead, 0),
            packet(Message::ForwardedAck { origin: identity(4), probe_number: 1 }, 1),
        ] {
            assert_eq!(SwimPacket::parse(&packet.encode().unwrap()).unwrap(), packet);
        }
    }

    #[test]
    fn what_follows_the_end_makes_a_packet_malformed() {
        for packet in [packet(Message::Ping(1), 1), packet(Message::Announce, 0)] {
            let mut bytes = packet.encode().unwrap().to_vec();
            bytes.push(0);
            assert!(SwimPacket::parse(&bytes).is_err());
        }
        assert!(SwimPacket::parse(&packet(Message::Broadcast, 0).encode().unwrap()).is_err());
        assert!(SwimPacket::parse(&[0; MAX_SWIM + 1]).is_err());
    }

    #[test]
    fn more_updates_than_fit_are_not_encoded() {
        assert!(packet(Message::Gossip, 100).encode().is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1_000)) {
            if let Ok(packet) = SwimPacket::parse(&bytes) {
                prop_assert!(packet.encode().is_ok());
            }
        }
    }
}
