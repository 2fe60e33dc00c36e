//! Decoders with a bound: a peer never decides how much memory we use.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

/// The most fields a message may have, repeated ones counted each time: each takes memory of its own, an empty one two bytes
/// on the wire and some hundred here. Of those sent the largest have a few hundred (the headers of a request).
pub const MAX_FIELDS: usize = 1_024;
/// The same for all messages in it together: the full state of a mesh has some 60,000 members and records.
pub const MAX_INNER_FIELDS: usize = 65_536;

/// Why bytes of a peer are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than its kind may be.
    #[error("{what} of {size} bytes: the limit is {limit}")]
    TooLarge {
        /// The message's name.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The most its kind may have, in bytes.
        limit: usize,
    },
    /// More fields than any message has that is meant well.
    #[error("{what} of more than {limit} fields")]
    TooMany {
        /// The message's name.
        what: &'static str,
        /// The most it may have.
        limit: usize,
    },
    /// Not what it claims to be.
    #[error("{what}: {reason}")]
    Malformed {
        /// The message's name.
        what: &'static str,
        /// In the decoder's words.
        reason: String,
    },
}

/// Decodes a protobuf message of at most `limit` bytes.
///
/// Decoded size is bounded by the encoded one and by the number of fields: prost allocates as it reads, and `Bytes` fields
/// share the input.
///
/// # Errors
/// If the input is longer than `limit`, has more than [`MAX_FIELDS`] or [`MAX_INNER_FIELDS`], or is no such message.
pub fn message<M: Message + Default>(what: &'static str, bytes: Bytes, limit: usize) -> Result<M, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { what, size: bytes.len(), limit });
    }
    count(what, &bytes)?;
    M::decode(bytes).map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })
}

/// A field takes two bytes at least, so that short messages, which are nearly all, need no count.
fn count(what: &'static str, bytes: &[u8]) -> Result<(), DecodeError> {
    if bytes.len() > 2 * MAX_FIELDS && fields(bytes).nth(MAX_FIELDS).is_some() {
        return Err(DecodeError::TooMany { what, limit: MAX_FIELDS });
    }
    // So large are only states of a mesh: what is in them are messages, not bytes that look like many fields.
    if bytes.len() > 2 * MAX_INNER_FIELDS && fields(bytes).flat_map(fields).nth(MAX_INNER_FIELDS).is_some() {
        return Err(DecodeError::TooMany { what, limit: MAX_INNER_FIELDS });
    }
    Ok(())
}

/// The fields of an encoded message, up to where it is malformed: the payload, or nothing for numbers.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, kind) = decode_key(&mut bytes).ok()?;
        let skip = match kind {
            WireType::Varint => {
                decode_varint(&mut bytes).ok()?;
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                let (payload, rest) = bytes.split_at_checked(len)?;
                bytes = rest;
                return Some(payload);
            }
            // What a group holds counts as fields of the message.
            WireType::StartGroup | WireType::EndGroup => 0,
        };
        (skip <= bytes.len()).then(|| bytes.advance(skip))?;
        Some(&[][..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::v1;

    #[test]
    fn a_message_over_its_limit_is_refused_before_it_is_read() {
        let bytes = Bytes::from(v1::GoAway { reason: "x".repeat(100) }.encode_to_vec());
        let error = message::<v1::GoAway>("GoAway", bytes.clone(), 50).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { what: "GoAway", size: 102, limit: 50 });
        assert!(message::<v1::GoAway>("GoAway", bytes, 102).is_ok());
    }

    #[test]
    fn garbage_names_the_message_it_should_have_been() {
        let error = message::<v1::GoAway>("GoAway", Bytes::from_static(&[0xff; 4]), 50).unwrap_err();
        assert!(error.to_string().starts_with("GoAway: "), "{error}");
    }

    #[test]
    fn fields_that_are_nearly_free_to_send_are_not_free_to_hold_and_refused() {
        // Two bytes each, and 64 when decoded.
        let headers = |count| v1::StreamHeader { headers: vec![v1::Header::default(); count], ..Default::default() };
        let decode = |count| {
            let bytes = Bytes::from(headers(count).encode_to_vec());
            message::<v1::StreamHeader>("StreamHeader", bytes, 128 * 1024).map(|header| header.headers.len())
        };
        assert_eq!(decode(MAX_FIELDS), Ok(MAX_FIELDS));
        for count in [MAX_FIELDS + 1, 60_000] {
            assert_eq!(decode(count), Err(DecodeError::TooMany { what: "StreamHeader", limit: MAX_FIELDS }));
        }
    }

    #[test]
    fn a_state_of_a_full_mesh_is_read_and_one_of_millions_of_empty_members_is_not() {
        let join = |state| v1::ControlRequest { kind: Some(v1::control_request::Kind::Join(state)) };
        let decode = |state: v1::JoinState| {
            let bytes = Bytes::from(join(state).encode_to_vec());
            message::<v1::ControlRequest>("ControlRequest", bytes, 8 << 20).map(drop)
        };
        let record = v1::SignedValue { body: vec![1; 90].into(), ..Default::default() };
        let member = v1::MemberState { credential: vec![7; 700].into(), ..Default::default() };
        let full = v1::JoinState { members: vec![member; 1_000], records: vec![record; 60_000], ..Default::default() };
        assert_eq!(decode(full), Ok(()));
        let hollow = v1::JoinState { members: vec![v1::MemberState::default(); 100_000], ..Default::default() };
        assert_eq!(decode(hollow), Err(DecodeError::TooMany { what: "ControlRequest", limit: MAX_INNER_FIELDS }));
        // The same in pieces, which the decoder would put together.
        let piece = v1::JoinState { members: vec![v1::MemberState::default(); 10_000], ..Default::default() };
        let pieces = join(piece).encode_to_vec().repeat(10);
        let refused = message::<v1::ControlRequest>("ControlRequest", pieces.into(), 8 << 20).unwrap_err();
        assert_eq!(refused, DecodeError::TooMany { what: "ControlRequest", limit: MAX_INNER_FIELDS });
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let newer = v1::Trailers { headers: vec![], load: Some(v1::Load { in_flight: 7, ..Default::default() }) };
        let older: v1::GoAway = message("GoAway", Bytes::from(newer.encode_to_vec()), 50).unwrap();
        assert_eq!(older, v1::GoAway::default());
    }
}
