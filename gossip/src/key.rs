use std::fmt;

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use starling_proto::NodeId;
use zeroize::Zeroize;

/// The long-lived Ed25519 key (RFC 8032) that a node signs its gossip with. The secret is never shown and is wiped
/// on drop.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

/// Why some bytes are no [`SigningKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 private key")]
pub struct KeyError;

impl SigningKey {
    /// The key that a seed makes. The seed is wiped.
    ///
    /// # Errors
    /// If the library refuses the seed.
    pub fn from_seed(mut seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        seed.zeroize();
        Self::try_new(pair.map_err(|_| KeyError)?)
    }

    /// Reads a PKCS#8 document (RFC 5958).
    ///
    /// # Errors
    /// If it holds no Ed25519 key.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        Self::try_new(Ed25519KeyPair::from_pkcs8_maybe_unchecked(document).map_err(|_| KeyError)?)
    }

    fn try_new(pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError)?;
        Ok(Self { pair, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// The node id that belongs to this key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::of_key(&self.public)
    }

    /// Signs a message. Callers separate domains: every kind of message starts with a word of its own.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.node_id().short())
    }
}

/// Did the owner of this public key sign this message?
#[must_use]
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let key = SigningKey::from_seed([1; 32]).unwrap();
        let other = SigningKey::from_seed([2; 32]).unwrap();
        let signature = key.sign(b"hello");
        assert!(verify(&key.public_key(), b"hello", &signature));
        assert!(!verify(&key.public_key(), b"hellO", &signature));
        assert!(!verify(&other.public_key(), b"hello", &signature));
        assert!(!verify(&key.public_key(), b"hello", &signature[..63]));
        assert!(!verify(&[0xff; 32], b"hello", &signature));
    }

    #[test]
    fn a_key_never_shows_its_secret() {
        let key = SigningKey::from_seed([1; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.node_id().short()));
        assert_eq!(SigningKey::from_pkcs8(b"nonsense").unwrap_err(), KeyError);
    }
}
