use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use starling_proto::SpiffeId;

use crate::certificate::PeerIdentity;
use crate::refusal::{Refusal, RefusedCertificate};
use crate::trust::{Role, Trust};

/// What came of checking one peer's certificate; empty until then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict(Arc<Mutex<Option<Result<PeerIdentity, RefusedPeer>>>>);

/// A refused peer: its certificate, or its name.
#[derive(Debug, Clone)]
pub(crate) enum RefusedPeer {
    Certificate(RefusedCertificate),
    Name { expected: SpiffeId, found: SpiffeId },
}

impl Verdict {
    /// Takes what was found.
    pub(crate) fn take(&self) -> Option<Result<PeerIdentity, RefusedPeer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, outcome: Result<PeerIdentity, RefusedPeer>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// Checks the certificate of one peer, on either side. One verifier serves one connection.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    role: Role,
    expected: Option<SpiffeId>,
    verdict: Verdict,
}

impl Verifier {
    pub(super) fn new(trust: Trust, role: Role, expected: Option<SpiffeId>, verdict: Verdict) -> Self {
        Self { trust, role, expected, verdict }
    }

    fn check(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let outcome = self.trust.check(leaf, chain, now, self.role).map_err(RefusedPeer::Certificate);
        let outcome = outcome.and_then(|peer| match &self.expected {
            Some(expected) if *expected != peer.spiffe => {
                Err(RefusedPeer::Name { expected: expected.clone(), found: peer.spiffe })
            }
            _ => Ok(peer),
        });
        let result = outcome.as_ref().map(|_| ()).map_err(alert);
        self.verdict.set(outcome);
        result
    }

    fn signed(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, self.trust.algorithms())
    }
}

/// The error that makes rustls send the peer a fitting alert.
fn alert(refused: &RefusedPeer) -> Error {
    let other = |detail: String| CertificateError::Other(OtherError(Arc::new(std::io::Error::other(detail))));
    Error::InvalidCertificate(match refused {
        RefusedPeer::Certificate(refused) => match refused.reason {
            Refusal::UnknownIssuer => CertificateError::UnknownIssuer,
            Refusal::Expired => CertificateError::Expired,
            Refusal::NotYetValid => CertificateError::NotValidYet,
            Refusal::BadCertificate => CertificateError::BadEncoding,
            _ => other(refused.to_string()),
        },
        RefusedPeer::Name { .. } => CertificateError::NotValidForName,
    })
}

/// TLS 1.2 is never offered.
fn never() -> Error {
    Error::General("TLS 1.2 is not spoken here".to_owned())
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, chain, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, chain, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}
