use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use starling_proto::{NodeId, ServicePattern, SpiffeId};

use super::{CaError, HINT, ROOT_LIFE, Secret, common_name, files, name, uri, validity};
use crate::certificate::{MAX_SERVICES, SERVICES_OID, read_root, write_services};

/// What one node needs, to be signed by hand.
#[derive(Debug, Clone)]
pub struct IssueRequest {
    /// The authority's directory.
    pub dir: PathBuf,
    /// The node's name, unique in the mesh.
    pub name: String,
    /// What it may run.
    pub services: Vec<ServicePattern>,
    /// How long the certificate lasts, from now.
    pub ttl: Duration,
    /// Where the node's files go.
    pub out: PathBuf,
    /// Replace what is there. The gossip key stays even so: it is the node's identity for its whole life.
    pub force: bool,
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The node's name in its certificate.
    pub spiffe: SpiffeId,
    /// The id of its gossip key.
    pub node_id: NodeId,
    /// When the certificate ends.
    pub not_after: SystemTime,
}

/// Shortest life of a certificate.
const MIN_TTL: Duration = Duration::from_mins(1);

/// Signs a certificate for one node and writes all its files: `node.crt`, `node.key`, `ca.crt`, `gossip.key`,
/// `group.keys`, `admin.pub`, and `group.signed` if the keys were ever rotated. Private ones get mode 0600.
///
/// # Errors
/// If the authority cannot be read, the request is wrong, or `out` holds an identity and `force` is not set.
pub fn issue(request: &IssueRequest) -> Result<Issued, CaError> {
    if request.services.len() > MAX_SERVICES {
        return Err(CaError::TooManyServices { limit: MAX_SERVICES, count: request.services.len() });
    }
    if request.ttl < MIN_TTL {
        return Err(CaError::TooShort);
    }
    if request.ttl > ROOT_LIFE {
        return Err(CaError::TooLong);
    }
    let out = |file| request.out.join(file);
    if !request.force && out(name::NODE_CERTIFICATE).exists() {
        let hint = "--force renews it and keeps its gossip key";
        return Err(CaError::Exists { path: out(name::NODE_CERTIFICATE), hint });
    }
    let root_path = request.dir.join(name::CA_CERTIFICATE);
    let unusable = |reason: String| CaError::Unusable { path: root_path.clone(), reason, hint: HINT };
    if !root_path.exists() {
        return Err(unusable("there is no such file".to_owned()));
    }
    let root_pem = files::read(&root_path)?;
    let (root, issuer) = authority(request, &root_pem)?;
    let domain = read_root(&root).map_err(|refused| unusable(refused.detail))?;
    let spiffe = SpiffeId::try_new(domain, &request.name)?;
    let group_keys = files::read(&request.dir.join(name::GROUP_KEYS))?;
    let admin = files::read(&request.dir.join(name::ADMIN_PUBLIC))?;
    let signed = request.dir.join(name::GROUP_SIGNED);
    let signed = signed.exists().then(|| files::read(&signed)).transpose()?;

    let now = SystemTime::now();
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    let params = leaf_params(&spiffe, &request.services, now, request.ttl)?;
    let certificate = params.signed_by(&key, &issuer)?;

    files::directory(&request.out)?;
    let gossip = gossip_key(&out(name::GOSSIP_KEY))?;
    files::write(&out(name::CA_CERTIFICATE), &root_pem, Secret::No)?;
    files::write(&out(name::GROUP_KEYS), &group_keys, Secret::Yes)?;
    files::write(&out(name::ADMIN_PUBLIC), &admin, Secret::No)?;
    if let Some(signed) = signed {
        files::write(&out(name::GROUP_SIGNED), &signed, Secret::No)?;
    }
    files::write(&out(name::NODE_KEY), &key.serialize_pem(), Secret::Yes)?;
    files::write(&out(name::NODE_CERTIFICATE), &certificate.pem(), Secret::No)?;
    Ok(Issued { spiffe, node_id: NodeId::of_key(gossip.public_key_raw()), not_after: params.not_after.into() })
}

fn authority(
    request: &IssueRequest,
    root_pem: &str,
) -> Result<(CertificateDer<'static>, Issuer<'static, KeyPair>), CaError> {
    let unusable = |file, reason: String| CaError::Unusable { path: request.dir.join(file), reason, hint: HINT };
    let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
        .map_err(|error| unusable(name::CA_CERTIFICATE, format!("no certificate in PEM form ({error})")))?;
    let key = KeyPair::from_pem(&files::read(&request.dir.join(name::CA_KEY))?)
        .map_err(|error| unusable(name::CA_KEY, format!("no private key in PEM form ({error})")))?;
    let issuer = Issuer::from_ca_cert_der(&root, key)
        .map_err(|error| unusable(name::CA_CERTIFICATE, format!("no certificate of an authority ({error})")))?;
    Ok((root, issuer))
}

fn leaf_params(
    spiffe: &SpiffeId,
    services: &[ServicePattern],
    now: SystemTime,
    ttl: Duration,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(spiffe.node());
    params.subject_alt_names = vec![uri(&spiffe.to_string())?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    // Not critical: a tool that does not know it may still read the certificate; only our own verifier acts on it.
    params.custom_extensions = vec![CustomExtension::from_oid_content(SERVICES_OID, write_services(services))];
    (params.not_before, params.not_after) = validity(now, ttl);
    Ok(params)
}

/// The node's long-lived key: the one that is there, or a new one.
fn gossip_key(path: &std::path::Path) -> Result<KeyPair, CaError> {
    if path.exists() {
        let hint = "it is the node's identity: restore it, or move it away to make a new node of this one";
        return KeyPair::from_pem(&files::read(path)?).map_err(|error| CaError::Unusable {
            path: path.to_owned(),
            reason: format!("no private key in PEM form ({error})"),
            hint,
        });
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
    files::create(path, &key.serialize_pem(), Secret::Yes)?;
    Ok(key)
}
