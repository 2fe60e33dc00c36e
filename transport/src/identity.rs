//! Who this node is, out of the files that `starling ca issue` wrote.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use starling_proto::{NodeId, ServiceName, ServicePattern, SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::ca::{FileError, name, read};
use crate::certificate::{PeerIdentity, read_root};
use crate::credential;
use crate::group_key::{self, GroupKey};
use crate::refusal::{Refusal, RefusedCertificate};
use crate::trust::{Role, Trust, unix_time};

/// A node's certificate, keys, and the roots of its mesh. Its private parts never leave this room, but for the gossip
/// seed and the group keys, which gossip needs.
pub struct Identity {
    pub(crate) certified: CertifiedKey,
    trust: Trust,
    this: PeerIdentity,
    gossip_seed: Zeroizing<[u8; 32]>,
    node_id: NodeId,
    group_keys: Vec<GroupKey>,
    group_statement: Option<Vec<u8>>,
    administrators: Vec<[u8; 32]>,
    credential: Bytes,
}

/// Why an identity cannot be used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{}: {reason}; {hint}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
}

const ISSUE_AGAIN: &str = "issue it again: `starling ca issue --force`";

impl Identity {
    /// Loads and checks the files of one node: `node.crt`, `node.key`, `ca.crt`, `gossip.key`, `group.keys`; and, if they
    /// are there, `admin.pub` and `group.signed`.
    ///
    /// # Errors
    /// If a file is missing or malformed, if key and certificate do not belong together, or if the certificate would
    /// be refused by any other node.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let loader = Loader { dir };
        let roots = loader.certificates(name::CA_CERTIFICATE)?;
        let trust = loader.trust(&roots)?;
        let chain = loader.certificates(name::NODE_CERTIFICATE)?;
        let certified = loader.certified(&chain)?;
        let now = SystemTime::now();
        let this = loader.check(&trust, &chain, now)?;
        let gossip = loader.gossip_key()?;
        let bad_gossip = |reason: &str| loader.bad(name::GOSSIP_KEY, reason, ISSUE_AGAIN);
        let seed = gossip.seed().map_err(|_| bad_gossip("no Ed25519 key"))?;
        let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(|_| bad_gossip("no Ed25519 key"))?;
        let mut gossip_seed = Zeroizing::new([0; 32]);
        gossip_seed.copy_from_slice(seed.as_ref());
        let group_keys = group_key::parse(&Zeroizing::new(read(&dir.join(name::GROUP_KEYS))?))
            .map_err(|reason| loader.bad(name::GROUP_KEYS, &reason, "copy it from the authority's directory"))?;
        let administrators = loader.administrators()?;
        let group_statement = loader.group_statement()?;
        let credential = credential::issue(&chain, &*certified.key, &gossip, now)
            .ok_or_else(|| loader.bad(name::NODE_KEY, "a kind of key that TLS 1.3 cannot sign with", ISSUE_AGAIN))?;
        let node_id = NodeId::of_key(gossip.public_key().as_ref());
        Ok(Self {
            certified,
            trust,
            this,
            gossip_seed,
            node_id,
            group_keys,
            group_statement,
            administrators,
            credential,
        })
    }

    /// The node's name.
    pub fn spiffe(&self) -> &SpiffeId {
        &self.this.spiffe
    }

    /// Its mesh.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.trust.domain()
    }

    /// What it may run.
    pub fn services(&self) -> &[ServicePattern] {
        &self.this.services
    }

    /// May it run this service?
    pub fn may_run(&self, service: &ServiceName) -> bool {
        self.this.may_run(service)
    }

    /// When its certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.this.not_after
    }

    /// The id of its gossip key.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The seed of its Ed25519 gossip key (RFC 8032). A secret.
    pub fn gossip_seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.gossip_seed
    }

    /// The mesh's group keys with their epochs, newest first. Secrets.
    pub fn group_keys(&self) -> Vec<(u32, [u8; 32])> {
        self.group_keys.iter().map(|(epoch, key)| (*epoch, **key)).collect()
    }

    /// The encoded statement about the group keys that came with them, if an administrator signed one.
    pub fn group_statement(&self) -> Option<&[u8]> {
        self.group_statement.as_deref()
    }

    /// The public Ed25519 keys of those who may change the group keys. None, if there is no `admin.pub`.
    pub fn administrators(&self) -> &[[u8; 32]] {
        &self.administrators
    }

    /// The encoded credential: gossip key and certificate bound together, signed by both keys when this was loaded.
    pub fn credential(&self) -> Bytes {
        self.credential.clone()
    }

    /// Whom it believes.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }
}

struct Loader<'a> {
    dir: &'a Path,
}

impl Loader<'_> {
    fn bad(&self, file: &str, reason: &str, hint: &'static str) -> IdentityError {
        IdentityError::Content { path: self.dir.join(file), reason: reason.to_owned(), hint }
    }

    fn certificates(&self, file: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let text = read(&self.dir.join(file))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match found {
            Ok(found) if !found.is_empty() => Ok(found),
            Ok(_) => Err(self.bad(file, "no certificate in PEM form", ISSUE_AGAIN)),
            Err(error) => Err(self.bad(file, &format!("no certificate in PEM form ({error})"), ISSUE_AGAIN)),
        }
    }

    /// All roots must be of one mesh: one node, one trust domain.
    fn trust(&self, roots: &[CertificateDer<'static>]) -> Result<Trust, IdentityError> {
        let hint = "it must hold the roots of one mesh, made by `starling ca init`";
        let bad = |reason: &str| self.bad(name::CA_CERTIFICATE, reason, hint);
        let domain = read_root(&roots[0]).map_err(|refused| bad(&refused.detail))?;
        for root in &roots[1..] {
            let other = read_root(root).map_err(|refused| bad(&refused.detail))?;
            if other != domain {
                return Err(bad(&format!("roots of two meshes, '{domain}' and '{other}'")));
            }
        }
        let roots: Vec<Vec<u8>> = roots.iter().map(|root| root.to_vec()).collect();
        Trust::try_new(domain, &roots).map_err(|error| bad(&error.to_string()))
    }

    fn certified(&self, chain: &[CertificateDer<'static>]) -> Result<CertifiedKey, IdentityError> {
        let pem = Zeroizing::new(read(&self.dir.join(name::NODE_KEY))?);
        let bad = |reason: String| self.bad(name::NODE_KEY, &reason, ISSUE_AGAIN);
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| bad(format!("no private key in PEM form ({error})")))?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| bad(format!("a kind of key that cannot be used ({error})")))?;
        let certified = CertifiedKey::new(chain.to_vec(), key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(_) => Err(bad(format!("this key does not belong to {}", name::NODE_CERTIFICATE))),
        }
    }

    fn check(
        &self,
        trust: &Trust,
        chain: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<PeerIdentity, IdentityError> {
        let bad = |refused: RefusedCertificate| {
            let hint = match refused.reason {
                Refusal::UnknownIssuer => "node.crt and ca.crt must come from one authority",
                Refusal::NotYetValid => "set this host's clock",
                Refusal::Expired => "check this host's clock, or renew: `starling ca issue --force`",
                _ => ISSUE_AGAIN,
            };
            self.bad(name::NODE_CERTIFICATE, &refused.detail, hint)
        };
        trust.check(&chain[0], &chain[1..], unix_time(now), Role::Client).map_err(bad)?;
        trust.check(&chain[0], &chain[1..], unix_time(now), Role::Server).map_err(bad)
    }

    /// Without the file this node takes part, and follows no change of the group keys.
    fn administrators(&self) -> Result<Vec<[u8; 32]>, IdentityError> {
        let path = self.dir.join(name::ADMIN_PUBLIC);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let hint = "copy it from the authority's directory";
        group_key::parse_administrators(&read(&path)?).map_err(|reason| self.bad(name::ADMIN_PUBLIC, &reason, hint))
    }

    fn group_statement(&self) -> Result<Option<Vec<u8>>, IdentityError> {
        let path = self.dir.join(name::GROUP_SIGNED);
        if !path.exists() {
            return Ok(None);
        }
        let hint = "copy it from the authority's directory, or remove it: peers tell what it says";
        let parsed = group_key::parse_statement(&read(&path)?);
        parsed.map(Some).ok_or_else(|| self.bad(name::GROUP_SIGNED, "no signed statement", hint))
    }

    fn gossip_key(&self) -> Result<Ed25519KeyPair, IdentityError> {
        let pem = Zeroizing::new(read(&self.dir.join(name::GOSSIP_KEY))?);
        let hint = "restore it: it is the node's identity; without it, `starling ca issue` makes a new node";
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| self.bad(name::GOSSIP_KEY, &format!("no private key in PEM form ({error})"), hint))?;
        Ed25519KeyPair::from_pkcs8(key.secret_pkcs8_der())
            .map_err(|error| self.bad(name::GOSSIP_KEY, &format!("no Ed25519 key ({error})"), hint))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("spiffe", &self.this.spiffe)
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}
