//! The administrator's side of the group keys: the key that signs changes of them, and the authority's own copy of the
//! keys, which `ca issue` gives to new nodes. No running node needs either.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use starling_proto::TrustDomain;
use zeroize::Zeroizing;

use super::{CaError, FileError, HINT, Secret, files, name};
use crate::certificate::read_root;
use crate::group_key::{self, GroupKey};

/// The administrator's key with the directory it lies in, which nobody else works in for as long as this lives.
pub struct Administrator {
    dir: PathBuf,
    pair: Ed25519KeyPair,
    public: [u8; 32],
    all: Vec<[u8; 32]>,
    domain: TrustDomain,
    _lock: File,
}

impl Administrator {
    /// Opens the directory that `ca init` made: `admin.key`, `group.keys` and `ca.crt` in it are used, `ca.key` is not.
    ///
    /// # Errors
    /// If a file is missing or malformed, or another process works in it.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let at = |file| dir.join(file);
        let bad = |file, reason: String| CaError::Unusable { path: at(file), reason, hint: HINT };
        let key = at(name::ADMIN_KEY);
        if !key.exists() {
            return Err(bad(name::ADMIN_KEY, "no administrator's key is here".to_owned()));
        }
        let lock = File::open(&key).map_err(|error| FileError::new("read", &key, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(bad(name::ADMIN_KEY, "another `starling keyring` works in this directory".to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(FileError::new("lock", &key, error).into()),
        }
        let pem = Zeroizing::new(files::read(&key)?);
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| bad(name::ADMIN_KEY, format!("no private key in PEM form ({error})")))?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| bad(name::ADMIN_KEY, format!("no Ed25519 key ({error})")))?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        let root = files::read(&at(name::CA_CERTIFICATE))?;
        let root = CertificateDer::from_pem_slice(root.as_bytes())
            .map_err(|error| bad(name::CA_CERTIFICATE, format!("no certificate in PEM form ({error})")))?;
        let domain = read_root(&root).map_err(|refused| bad(name::CA_CERTIFICATE, refused.detail))?;
        let mut all = group_key::parse_administrators(&files::read(&at(name::ADMIN_PUBLIC))?)
            .map_err(|reason| bad(name::ADMIN_PUBLIC, reason))?;
        if !all.contains(&public) {
            all.push(public);
        }
        let this = Self { dir: dir.to_owned(), pair, public, all, domain, _lock: lock };
        this.keys()?;
        Ok(this)
    }

    /// The mesh.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The public half of the key (Ed25519, RFC 8032).
    #[must_use]
    pub const fn public_key(&self) -> [u8; 32] {
        self.public
    }

    /// The public keys of all administrators that `admin.pub` names, this one included.
    #[must_use]
    pub fn administrators(&self) -> &[[u8; 32]] {
        &self.all
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }

    /// The group keys that lie here, newest first. Secrets.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn group_keys(&self) -> Result<Vec<(u32, [u8; 32])>, CaError> {
        Ok(self.keys()?.iter().map(|(epoch, key)| (*epoch, **key)).collect())
    }

    /// The key of an epoch: the one that lies here, or a fresh one, which is on disk before this returns.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn group_key(&self, epoch: u32) -> Result<[u8; 32], CaError> {
        let mut keys = self.keys()?;
        if let Some((_, key)) = keys.iter().find(|(known, _)| *known == epoch) {
            return Ok(**key);
        }
        let key = group_key::fresh();
        keys.push((epoch, key.clone()));
        self.write_keys(keys)?;
        Ok(*key)
    }

    /// Keeps only the keys of these epochs.
    ///
    /// # Errors
    /// If the file can't be read or written, or no key would be left.
    pub fn retain_group_keys(&self, epochs: &[u32]) -> Result<(), CaError> {
        let mut keys = self.keys()?;
        let before = keys.len();
        keys.retain(|(epoch, _)| epochs.contains(epoch));
        if keys.is_empty() || keys.len() == before {
            return Ok(());
        }
        self.write_keys(keys)
    }

    /// What was last signed here, or learnt from the mesh, as [`Administrator::keep_statement`] was given it.
    ///
    /// # Errors
    /// If there is a file that can't be read.
    pub fn statement(&self) -> Result<Option<Vec<u8>>, CaError> {
        let path = self.dir.join(name::GROUP_SIGNED);
        if !path.exists() {
            return Ok(None);
        }
        let parsed = group_key::parse_statement(&files::read(&path)?);
        let hint = "remove it: the running mesh tells what it is";
        parsed.map(Some).ok_or_else(|| CaError::Unusable { path, reason: "no signed statement".to_owned(), hint })
    }

    /// Keeps an encoded signed statement, for the next change and for nodes that `ca issue` makes.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn keep_statement(&self, signed: &[u8]) -> Result<(), CaError> {
        let path = self.dir.join(name::GROUP_SIGNED);
        Ok(files::write(&path, &group_key::write_statement(signed), Secret::No)?)
    }

    fn keys(&self) -> Result<Vec<GroupKey>, CaError> {
        let path = self.dir.join(name::GROUP_KEYS);
        let text = Zeroizing::new(files::read(&path)?);
        let hint = "restore it from a backup, or from the group.keys of any node";
        group_key::parse(&text).map_err(|reason| CaError::Unusable { path, reason, hint })
    }

    fn write_keys(&self, keys: Vec<GroupKey>) -> Result<(), CaError> {
        Ok(files::write(&self.dir.join(name::GROUP_KEYS), &group_key::write(keys), Secret::Yes)?)
    }
}
