//! Whom this node believes: the roots of its mesh.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use starling_proto::TrustDomain;
use webpki::{EndEntityCert, KeyUsage};

use crate::certificate::{PeerIdentity, read_leaf};
use crate::refusal::{Refusal, RefusedCertificate};

/// The roots of one mesh. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust(Arc<Bundle>);

#[derive(Debug)]
struct Bundle {
    domain: TrustDomain,
    anchors: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why some certificates are no roots to trust.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is none.
    #[error("no certificate in it")]
    Empty,
    /// One cannot be read.
    #[error("certificate {0} in it cannot be used as a root: {1}")]
    Unusable(usize, String),
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// By the side that dialed.
    Client,
    /// By the side that was dialed.
    Server,
}

impl Trust {
    /// Trusts these roots (DER) to name the nodes of one mesh.
    ///
    /// # Errors
    /// If there is none, or one cannot be read.
    pub fn try_new(domain: TrustDomain, roots: &[Vec<u8>]) -> Result<Self, TrustError> {
        let anchor = |(index, root): (usize, &Vec<u8>)| {
            let der = CertificateDer::from(root.as_slice());
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| TrustError::Unusable(index + 1, format!("{error:?}")))?;
            Ok(anchor.to_owned())
        };
        let anchors: Vec<_> = roots.iter().enumerate().map(anchor).collect::<Result<_, TrustError>>()?;
        if anchors.is_empty() {
            return Err(TrustError::Empty);
        }
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Ok(Self(Arc::new(Bundle { domain, anchors, algorithms })))
    }

    /// The mesh.
    pub fn domain(&self) -> &TrustDomain {
        &self.0.domain
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.0.algorithms
    }

    /// Checks a certificate's chain, time, use, trust domain, name and list of services.
    pub(crate) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        role: Role,
    ) -> Result<PeerIdentity, RefusedCertificate> {
        let usage = match role {
            Role::Client => KeyUsage::client_auth(),
            Role::Server => KeyUsage::server_auth(),
        };
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                let algorithms = self.0.algorithms.all;
                leaf.verify_for_usage(algorithms, &self.0.anchors, intermediates, now, usage, None, None).map(|_| ())
            })
            .map_err(|error| refused(&error))?;
        read_leaf(leaf, &self.0.domain)
    }
}

fn refused(error: &webpki::Error) -> RefusedCertificate {
    use webpki::Error;
    match error {
        // An authority of the same name but another key shows as a bad signature.
        Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => RefusedCertificate::new(
            Refusal::UnknownIssuer,
            "no chain to a root of this mesh (another certificate authority)",
        ),
        Error::CertExpired { time, not_after } => {
            let ago = time.as_secs().saturating_sub(not_after.as_secs());
            RefusedCertificate::new(Refusal::Expired, format!("the certificate ended {ago} s ago"))
        }
        Error::CertNotValidYet { time, not_before } => {
            let ahead = not_before.as_secs().saturating_sub(time.as_secs());
            let detail = format!("the certificate begins in {ahead} s: is a clock wrong?");
            RefusedCertificate::new(Refusal::NotYetValid, detail)
        }
        other => RefusedCertificate::new(Refusal::BadCertificate, format!("{other:?}")),
    }
}

/// The time as webpki wants it; before 1970 counts as 1970.
pub(crate) fn unix_time(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
