//! The certificate authority of a mesh, as files: made once, offline, by `starling ca init`; used by
//! `starling ca issue`. No node needs it to run.

mod administrator;
mod files;
mod issue;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use starling_proto::{SpiffeIdError, TrustDomain};
use time::OffsetDateTime;

pub use self::administrator::Administrator;
pub use self::files::FileError;
pub(crate) use self::files::{Secret, read};
pub use self::issue::{IssueRequest, Issued, issue};
use crate::group_key;

/// File names in the directory of an authority, and (but for the first and `ADMIN_KEY`) in that of an identity.
pub(crate) mod name {
    pub(crate) const CA_KEY: &str = "ca.key";
    pub(crate) const CA_CERTIFICATE: &str = "ca.crt";
    pub(crate) const GROUP_KEYS: &str = "group.keys";
    pub(crate) const GROUP_SIGNED: &str = "group.signed";
    pub(crate) const ADMIN_KEY: &str = "admin.key";
    pub(crate) const ADMIN_PUBLIC: &str = "admin.pub";
    pub(crate) const NODE_CERTIFICATE: &str = "node.crt";
    pub(crate) const NODE_KEY: &str = "node.key";
    pub(crate) const GOSSIP_KEY: &str = "gossip.key";
}

const HINT: &str = "`starling ca init --dir DIR` makes an authority";

/// How long a root lasts. Roots rotate by overlapping bundles, by hand: seldom.
const ROOT_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// How far certificates begin in the past, so that a host whose clock is a little slow accepts them.
const BACKDATE: Duration = Duration::from_mins(5);

/// Why `ca init` or `ca issue` did nothing.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It would overwrite.
    #[error("{} exists already; {hint}", .path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The directory holds no authority that can be used.
    #[error("{}: {reason}; {hint}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The node's name cannot be used.
    #[error(transparent)]
    Name(#[from] SpiffeIdError),
    /// Too many services for one certificate.
    #[error("a certificate can list {limit} services, not {count}; use globs such as 'shop/*'")]
    TooManyServices {
        /// The most.
        limit: usize,
        /// What was asked for.
        count: usize,
    },
    /// A certificate of no time at all.
    #[error("a certificate must last at least a minute; give a longer --ttl")]
    TooShort,
    /// One that outlasts any root.
    #[error("a certificate lasts at most ten years (3650d), as its root does; give a shorter --ttl")]
    TooLong,
    /// The library could not make a key or certificate.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Makes the authority of a new mesh in `dir`: root key and certificate, the mesh's group key (epoch 1) and an
/// administrator's key. Private files get mode 0600. Nothing is ever overwritten.
///
/// # Errors
/// If `dir` holds an authority already, or a file cannot be written.
pub fn init(dir: &Path, trust_domain: &TrustDomain) -> Result<(), CaError> {
    files::directory(dir)?;
    for file in [name::CA_KEY, name::CA_CERTIFICATE, name::GROUP_KEYS, name::ADMIN_KEY] {
        if dir.join(file).exists() {
            let hint = "one directory holds one authority: choose another, or remove it if no node uses it";
            return Err(CaError::Exists { path: dir.join(file), hint });
        }
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let certificate = root_params(trust_domain)?.self_signed(&key)?;
    let admin = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    // The key first: who makes an authority here at the same time fails at it, and changes nothing.
    files::create(&dir.join(name::CA_KEY), &key.serialize_pem(), Secret::Yes)?;
    files::create(&dir.join(name::CA_CERTIFICATE), &certificate.pem(), Secret::No)?;
    files::create(&dir.join(name::GROUP_KEYS), &group_key::first(), Secret::Yes)?;
    files::create(&dir.join(name::ADMIN_KEY), &admin.serialize_pem(), Secret::Yes)?;
    files::write(&dir.join(name::ADMIN_PUBLIC), &admin.public_key_pem(), Secret::No)?;
    Ok(())
}

fn root_params(trust_domain: &TrustDomain) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Starling mesh {trust_domain}"));
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(SystemTime::now(), ROOT_LIFE);
    Ok(params)
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // RFC 5280 bounds a common name to 64 characters; it is for humans only.
    name.push(DnType::CommonName, text.chars().take(64).collect::<String>());
    name
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(Ia5String::try_from(text)?))
}

fn validity(now: SystemTime, life: Duration) -> (OffsetDateTime, OffsetDateTime) {
    (OffsetDateTime::from(now - BACKDATE), OffsetDateTime::from(now + life))
}
