use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bytes::{Buf, BufMut};
use foca::{Header, Member};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MAX_SWIM, SwimIdentity};

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_SWIM>> =
    bincode::config::standard().with_limit::<MAX_SWIM>();
/// More than any header or member takes: three identities of at most 42 bytes, and some small numbers.
const SCRATCH: usize = 256;

/// Foca's codec: bincode with a bound.
#[derive(Debug, Clone)]
pub(crate) struct Bincode {
    scratch: [u8; SCRATCH],
}

/// Why foca's packets can't be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Does not fit into what is left of the packet.
    #[error("no room: {0} bytes are needed")]
    Full(usize),
    /// Can't be written at all.
    #[error("can't be encoded: {0}")]
    Encode(String),
    /// Not what it claims to be.
    #[error("malformed: {0}")]
    Malformed(String),
}

impl Default for Bincode {
    fn default() -> Self {
        Self { scratch: [0; SCRATCH] }
    }
}

impl Bincode {
    /// Into scratch first, then copied: what does not fit leaves no half-written buffer.
    fn write(&mut self, item: &impl Serialize, mut buffer: impl BufMut) -> Result<(), CodecError> {
        let written = bincode::serde::encode_into_slice(item, &mut self.scratch, CONFIG)
            .map_err(|error| CodecError::Encode(error.to_string()))?;
        if written > buffer.remaining_mut() {
            return Err(CodecError::Full(written));
        }
        buffer.put_slice(&self.scratch[..written]);
        Ok(())
    }

    fn read<T: DeserializeOwned>(mut buffer: impl Buf) -> Result<T, CodecError> {
        let (item, read) = bincode::serde::decode_from_slice(buffer.chunk(), CONFIG)
            .map_err(|error| CodecError::Malformed(error.to_string()))?;
        buffer.advance(read);
        Ok(item)
    }
}

impl foca::Codec<SwimIdentity> for Bincode {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<SwimIdentity>, buffer: impl BufMut) -> Result<(), CodecError> {
        self.write(header, buffer)
    }

    fn decode_header(&mut self, buffer: impl Buf) -> Result<Header<SwimIdentity>, CodecError> {
        Self::read(buffer)
    }

    fn encode_member(&mut self, member: &Member<SwimIdentity>, buffer: impl BufMut) -> Result<(), CodecError> {
        self.write(member, buffer)
    }

    fn decode_member(&mut self, buffer: impl Buf) -> Result<Member<SwimIdentity>, CodecError> {
        Self::read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::{Codec, Message, State};
    use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};
    use std::net::IpAddr;

    fn identity() -> SwimIdentity {
        SwimIdentity(MemberIdentity {
            node_id: NodeId::of_key(b"a"),
            address: NodeAddress { ip: IpAddr::from([0xfd; 16]), gossip_port: u16::MAX, quic_port: u16::MAX },
            generation: Generation(u32::MAX),
            rejoin: u16::MAX,
            cell: u16::MAX,
        })
    }

    #[test]
    fn headers_and_members_survive_the_wire() {
        let mut codec = Bincode::default();
        let header = Header {
            src: identity(),
            src_incarnation: u16::MAX,
            dst: identity(),
            message: Message::PingReq { target: identity(), probe_number: 255 },
        };
        let member = Member::new(identity(), 7, State::Suspect);
        let mut buffer = Vec::new();
        codec.encode_header(&header, &mut buffer).unwrap();
        codec.encode_member(&member, &mut buffer).unwrap();
        let mut rest = &buffer[..];
        assert_eq!(codec.decode_header(&mut rest).unwrap(), header);
        assert_eq!(codec.decode_member(&mut rest).unwrap(), member);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_member_that_does_not_fit_leaves_no_trace() {
        let mut codec = Bincode::default();
        let mut buffer = Vec::new().limit(20);
        let error = codec.encode_member(&Member::alive(identity()), &mut buffer).unwrap_err();
        assert!(matches!(error, CodecError::Full(_)), "{error}");
        assert!(buffer.get_ref().is_empty());
    }

    #[test]
    fn an_identity_that_nobody_can_reach_is_malformed() {
        let mut codec = Bincode::default();
        let mut nowhere = identity();
        nowhere.0.address.ip = IpAddr::from([0; 4]);
        let mut buffer = Vec::new();
        codec.encode_member(&Member::alive(nowhere), &mut buffer).unwrap();
        assert!(matches!(codec.decode_member(&buffer[..]), Err(CodecError::Malformed(_))));
    }
}
