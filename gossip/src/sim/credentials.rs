use bytes::Bytes;
use starling_proto::{NodeId, ServicePattern, SpiffeId};

use crate::{CredentialVerifier, SigningKey, VerifiedCredential};

/// Credentials of the simulator: the word "good", the key, the name. The certificate names every service.
pub(crate) fn credential(key: &SigningKey, name: &str) -> Bytes {
    credential_for(key, name, &["*/*"], 1)
}

/// One whose certificate names these services, issued at this time.
pub(crate) fn credential_for(key: &SigningKey, name: &str, services: &[&str], issued_at: u8) -> Bytes {
    let text = format!("{} {}", spiffe(name), services.join(" "));
    [b"good", &key.public_key()[..], &[issued_at], text.as_bytes()].concat().into()
}

pub(crate) fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://demo.example/node/{name}").parse().unwrap()
}

/// Believes every credential that starts with the word.
pub(crate) struct Verifier;

impl CredentialVerifier for Verifier {
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String> {
        let rest = credential.strip_prefix(b"good").ok_or("not issued by this mesh")?;
        let (key, rest) = rest.split_at_checked(32).ok_or("too short")?;
        let (issued_at, text) = rest.split_first().ok_or("too short")?;
        let mut words = std::str::from_utf8(text).map_err(|_| "no name")?.split_whitespace();
        let spiffe = words.next().and_then(|name| name.parse().ok()).ok_or("no name")?;
        let services: Result<Vec<ServicePattern>, _> = words.map(str::parse).collect();
        Ok(VerifiedCredential {
            spiffe,
            gossip_key: key.try_into().map_err(|_| "too short")?,
            node_id: NodeId::of_key(key),
            issued_at: (*issued_at).into(),
            services: services.map_err(|_| "no services")?,
        })
    }
}
