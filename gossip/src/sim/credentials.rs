use bytes::Bytes;
use starling_proto::{NodeId, SpiffeId};

use crate::{CredentialVerifier, SigningKey, VerifiedCredential};

/// Credentials of the simulator: the word "good", the key, the name.
pub(crate) fn credential(key: &SigningKey, name: &str) -> Bytes {
    [b"good", &key.public_key()[..], spiffe(name).to_string().as_bytes()].concat().into()
}

pub(crate) fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://demo.example/node/{name}").parse().unwrap()
}

/// Believes every credential that starts with the word.
pub(crate) struct Verifier;

impl CredentialVerifier for Verifier {
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String> {
        let rest = credential.strip_prefix(b"good").ok_or("not issued by this mesh")?;
        let (key, name) = rest.split_at_checked(32).ok_or("too short")?;
        let spiffe = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or("no name")?;
        let gossip_key = key.try_into().map_err(|_| "too short")?;
        Ok(VerifiedCredential { spiffe, gossip_key, node_id: NodeId::of_key(key), issued_at: 1 })
    }
}
