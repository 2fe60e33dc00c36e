//! Binding a long-lived gossip key to a certificate, so that anyone who trusts the mesh's roots can check it without
//! having met the node (docs/decisions/0005).

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use prost::Message;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::CertificateDer;
use starling_proto::mesh::v1;
use starling_proto::{NodeId, ServicePattern, SpiffeId, decode};
use webpki::EndEntityCert;

use crate::refusal::RefusedCertificate;
use crate::trust::{Role, Trust, unix_time};

/// The most an encoded credential may have, in bytes: a chain of a few certificates.
pub const MAX_CREDENTIAL: usize = 16 * 1024;
/// The most certificates in its chain.
const MAX_CHAIN: usize = 4;
/// How far a credential's time of issue may lie ahead of our clock.
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Keeps these signatures apart from every other use of both keys.
const DOMAIN: &[u8] = b"starling credential v1\0";

/// What a checked credential says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCredential {
    /// The name in the certificate.
    pub spiffe: SpiffeId,
    /// What the certificate allows the node to run.
    pub services: Vec<ServicePattern>,
    /// Ed25519 public key of the node's gossip.
    pub gossip_key: [u8; 32],
    /// The id that belongs to that key.
    pub node_id: NodeId,
    /// Unix seconds; a newer statement of one node replaces an older one.
    pub issued_at: u64,
    /// When the certificate ends.
    pub not_after: SystemTime,
}

/// Why a credential is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No such message, or too large.
    #[error(transparent)]
    Decode(#[from] decode::DecodeError),
    /// No certificates, or too many.
    #[error("a credential holds 1 to {MAX_CHAIN} certificates, not {0}")]
    Chain(usize),
    /// The gossip key has not 32 bytes.
    #[error("a gossip key has 32 bytes, not {0}")]
    GossipKey(usize),
    /// The certificate is not one of this mesh, or not valid now.
    #[error("its certificate: {0}")]
    Certificate(#[from] RefusedCertificate),
    /// Issued in the future.
    #[error("issued {0} s ahead of this clock")]
    Future(u64),
    /// A signature scheme that TLS 1.3 does not know.
    #[error("signature scheme {0:#06x} is not accepted")]
    Scheme(u32),
    /// The gossip key did not sign this.
    #[error("the signature by the gossip key is wrong")]
    GossipSignature,
    /// The certificate's key did not sign this.
    #[error("the signature by the certificate's key is wrong")]
    CertificateSignature,
}

/// What both keys sign: the domain, the hash of the leaf certificate, the gossip key, the time of issue.
fn statement(leaf: &[u8], gossip_key: &[u8; 32], issued_at: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DOMAIN.len() + 32 + 32 + 8);
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(digest(&SHA256, leaf).as_ref());
    bytes.extend_from_slice(gossip_key);
    bytes.extend_from_slice(&issued_at.to_be_bytes());
    bytes
}

/// Makes a credential. `None` if the certificate's key can sign in none of TLS 1.3's schemes.
pub(crate) fn issue(
    chain: &[CertificateDer<'static>],
    certificate_key: &dyn SigningKey,
    gossip_key: &Ed25519KeyPair,
    now: SystemTime,
) -> Option<Bytes> {
    use aws_lc_rs::signature::KeyPair as _;
    let public: [u8; 32] = gossip_key.public_key().as_ref().try_into().ok()?;
    let issued_at = unix_time(now).as_secs();
    let statement = statement(chain.first()?, &public, issued_at);
    let signer = certificate_key.choose_scheme(SCHEMES)?;
    let credential = v1::Credential {
        certificates: chain.iter().map(|der| Bytes::copy_from_slice(der)).collect(),
        gossip_key: Bytes::copy_from_slice(&public),
        issued_at,
        by_gossip_key: Bytes::copy_from_slice(gossip_key.sign(&statement).as_ref()),
        by_certificate_key: signer.sign(&statement).ok()?.into(),
        certificate_scheme: u16::from(signer.scheme()).into(),
    };
    Some(credential.encode_to_vec().into())
}

/// What TLS 1.3 allows in its own signatures (RFC 8446, section 4.2.3).
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

impl Trust {
    /// Checks a credential: chain, time, trust domain, one name, and both signatures.
    ///
    /// # Errors
    /// If anything in it is wrong; nothing of it may be used then.
    pub fn verify_credential(&self, credential: &[u8], now: SystemTime) -> Result<VerifiedCredential, CredentialError> {
        let bytes = Bytes::copy_from_slice(credential);
        let credential: v1::Credential = decode::message("Credential", bytes, MAX_CREDENTIAL)?;
        let chain: Vec<CertificateDer<'_>> =
            credential.certificates.iter().map(|der| CertificateDer::from(&der[..])).collect();
        let (leaf, intermediates) = match chain.split_first() {
            Some((leaf, intermediates)) if chain.len() <= MAX_CHAIN => (leaf, intermediates),
            _ => return Err(CredentialError::Chain(chain.len())),
        };
        let gossip_key: [u8; 32] = credential.gossip_key[..]
            .try_into()
            .map_err(|_| CredentialError::GossipKey(credential.gossip_key.len()))?;
        let now = unix_time(now);
        let ahead = credential.issued_at.saturating_sub(now.as_secs());
        if ahead > CLOCK_SKEW.as_secs() {
            return Err(CredentialError::Future(ahead));
        }
        let peer = self.check(leaf, intermediates, now, Role::Client)?;
        let statement = statement(leaf, &gossip_key, credential.issued_at);
        UnparsedPublicKey::new(&ED25519, &gossip_key)
            .verify(&statement, &credential.by_gossip_key)
            .map_err(|_| CredentialError::GossipSignature)?;
        self.check_by_certificate(leaf, &statement, &credential)?;
        Ok(VerifiedCredential {
            spiffe: peer.spiffe,
            services: peer.services,
            gossip_key,
            node_id: NodeId::of_key(&gossip_key),
            issued_at: credential.issued_at,
            not_after: peer.not_after,
        })
    }

    fn check_by_certificate(
        &self,
        leaf: &CertificateDer<'_>,
        statement: &[u8],
        credential: &v1::Credential,
    ) -> Result<(), CredentialError> {
        let unknown = CredentialError::Scheme(credential.certificate_scheme);
        let scheme = u16::try_from(credential.certificate_scheme).map(SignatureScheme::from);
        let Ok(scheme) = scheme else { return Err(unknown) };
        if !SCHEMES.contains(&scheme) {
            return Err(unknown);
        }
        // One algorithm for each scheme in TLS 1.3, and the first is that one (rustls does the same).
        let algorithm =
            self.algorithms().mapping.iter().find(|(known, _)| *known == scheme).and_then(|(_, a)| a.first());
        let Some(algorithm) = algorithm else { return Err(unknown) };
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_signature(*algorithm, statement, &credential.by_certificate_key))
            .map_err(|_| CredentialError::CertificateSignature)
    }
}
