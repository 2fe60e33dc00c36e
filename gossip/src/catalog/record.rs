//! One signed value: what the signature covers, and what has to hold before anyone looks into the body.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use prost::Message;
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::key::KeyError;
use super::{MAX_NODE, MAX_RECORDS, MAX_VALUE, MAX_WITHDRAWN};

/// The highest version or sequence a value may have. Far above what a node can reach in one generation, and far below
/// where adding one would overflow.
pub const MAX_VERSION: u64 = 1 << 48;

/// What a signature of a value starts with, so that it can't be taken for a signature over anything else.
const DOMAIN: &[u8] = b"starling.mesh.v1.SignedValue\0";

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than [`MAX_VALUE`].
    #[error("a value of {0} bytes: the limit is {MAX_VALUE}")]
    TooLarge(usize),
    /// Its key is none.
    #[error("key: {0}")]
    Key(#[from] KeyError),
    /// Not an encoded `SignedValue`.
    #[error("not a signed value: {0}")]
    Malformed(String),
    /// Not encoded the one way a node encodes it: something was added that nobody signed.
    #[error("not in its canonical encoding")]
    NotCanonical,
    /// Its owner is another node than it was offered for.
    #[error("its owner is another node")]
    WrongOwner,
    /// Its key is another than it was offered for.
    #[error("its key is another")]
    WrongKey,
    /// A version or sequence of zero or above [`MAX_VERSION`].
    #[error("{0}: out of range")]
    Range(&'static str),
    /// The owner did not sign this.
    #[error("the signature is not its owner's")]
    Signature,
    /// A withdrawal with a body.
    #[error("a withdrawn value has no body")]
    WithdrawnBody,
    /// The body is not what its key says.
    #[error("{what}: {reason}")]
    Body {
        /// The message it should be, or its field.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The owner has more values than it may.
    #[error("more than {MAX_RECORDS} values of one node")]
    TooMany,
    /// The owner withdrew more values in one generation than it may.
    #[error("more than {MAX_WITHDRAWN} withdrawn values of one node")]
    TooManyWithdrawn,
    /// The owner's values are larger than they may be together.
    #[error("more than {MAX_NODE} bytes of values of one node")]
    NodeFull,
    /// Another node offers a value of ours.
    #[error("our own values come from nobody else")]
    OwnRecord,
    /// There is no such value to withdraw.
    #[error("there is no such value")]
    Unknown,
}

impl RecordError {
    /// Is it the owner's own doing, since it signed what is refused?
    pub const fn is_of_owner(&self) -> bool {
        matches!(
            self,
            Self::WithdrawnBody | Self::Body { .. } | Self::TooMany | Self::TooManyWithdrawn | Self::NodeFull
        )
    }
}

/// The bytes that are signed: every field but the signature, each with its length.
pub(crate) fn statement(value: &v1::SignedValue) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DOMAIN.len() + value.owner.len() + value.key.len() + value.body.len() + 48);
    bytes.extend_from_slice(DOMAIN);
    for part in [&value.owner[..], value.key.as_bytes(), &value.body[..]] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&value.generation.to_be_bytes());
    bytes.extend_from_slice(&value.version.to_be_bytes());
    bytes.extend_from_slice(&value.sequence.to_be_bytes());
    bytes.push(u8::from(value.withdrawn));
    bytes
}

/// Decodes an encoded `SignedValue` and checks all that does not depend on what is known already: its size, its
/// canonical encoding, its owner, key, ranges and signature. `public_key` is the owner's.
pub fn open(owner: NodeId, key: &str, encoded: &Bytes, public_key: &[u8; 32]) -> Result<v1::SignedValue, RecordError> {
    if encoded.len() > MAX_VALUE {
        return Err(RecordError::TooLarge(encoded.len()));
    }
    let value = v1::SignedValue::decode(encoded.clone()).map_err(|error| RecordError::Malformed(error.to_string()))?;
    if value.encode_to_vec() != encoded[..] {
        return Err(RecordError::NotCanonical);
    }
    if value.owner[..] != owner.as_bytes()[..] {
        return Err(RecordError::WrongOwner);
    }
    if value.key != key {
        return Err(RecordError::WrongKey);
    }
    super::key::Key::parse(key)?;
    for (what, number) in [("version", value.version), ("sequence", value.sequence)] {
        if !(1..=MAX_VERSION).contains(&number) {
            return Err(RecordError::Range(what));
        }
    }
    UnparsedPublicKey::new(&ED25519, public_key)
        .verify(&statement(&value), &value.signature)
        .map_err(|_| RecordError::Signature)?;
    Ok(value)
}
