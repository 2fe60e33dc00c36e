//! Decoders with a bound: a peer never decides how much memory we use.

use bytes::Bytes;
use prost::Message;

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
/// Decoded size is bounded by the encoded one: prost allocates as it reads, and `Bytes` fields share the input.
///
/// # Errors
/// If the input is longer than `limit`, or no such message.
pub fn message<M: Message + Default>(what: &'static str, bytes: Bytes, limit: usize) -> Result<M, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { what, size: bytes.len(), limit });
    }
    M::decode(bytes).map_err(|error| DecodeError::Malformed { what, reason: error.to_string() })
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
    fn unknown_fields_are_skipped() {
        let newer = v1::Trailers { headers: vec![], load: Some(v1::Load { in_flight: 7, ..Default::default() }) };
        let older: v1::GoAway = message("GoAway", Bytes::from(newer.encode_to_vec()), 50).unwrap();
        assert_eq!(older, v1::GoAway::default());
    }
}
