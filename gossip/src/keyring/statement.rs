//! What an administrator says of the mesh's group keys, and how it is signed.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use starling_proto::TrustDomain;
use starling_proto::mesh::v1;

use crate::verify;

/// Keys that a mesh has at a time: the one in use, and the one before or after it while a rotation spreads.
pub(crate) const MAX_KEYS: usize = 2;
/// Revisions stop below this: a [`mark`](Statement::mark) has 48 bits for them.
pub(crate) const MAX_REVISION: u64 = 1 << 48;
/// The most an encoded statement may have, in bytes: two keys, a trust domain, and room for fields to come.
const MAX_STATEMENT: usize = 1_024;
const SIGNED: &[u8] = b"starling/keyring/1\0";
const KEY: &[u8] = b"starling/group-key/1\0";

/// Which group keys a mesh has and which one packets are sealed with. It names keys by their hash: no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The mesh that it is about.
    pub mesh: TrustDomain,
    /// Of two statements the higher revision counts; 0 is what the files of `starling ca issue` say, which nobody signed.
    pub revision: u64,
    /// The epoch that packets are sealed with.
    pub in_use: u32,
    /// Every epoch that is accepted, one or two, lowest first.
    pub keys: Vec<StatedKey>,
    /// The epoch of the next key: none is ever given to two keys.
    pub next_epoch: u32,
    /// When it was made, in Unix seconds: for humans.
    pub issued_at: u64,
}

/// One key of a [`Statement`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatedKey {
    /// Its epoch.
    pub epoch: u32,
    /// A hash of the key and its epoch.
    pub digest: [u8; 32],
    /// The revision that it was installed in: a node that has that one, or a higher one, accepts the key.
    pub since: u64,
}

/// Why a statement, or the keys that came with it, count for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It does not hold together.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is about another mesh.
    #[error("it is about another mesh")]
    OtherMesh,
    /// Whoever signed it is no administrator that this node knows.
    #[error("signed by a key that is not in admin.pub of this node's identity")]
    UnknownAdministrator,
    /// The signature is not that of its administrator.
    #[error("the administrator did not sign it")]
    Forged,
    /// A key that it names did not come with it and is not known.
    #[error("the key of epoch {0} is missing")]
    MissingKey(u32),
    /// A key that came with it is not the one that it names.
    #[error("the key of epoch {0} is another than the one signed for")]
    WrongKey(u32),
}

impl StatementError {
    /// A stable word, for counters and answers.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::OtherMesh => "other-mesh",
            Self::UnknownAdministrator => "unknown-administrator",
            Self::Forged => "forged",
            Self::MissingKey(_) => "missing-key",
            Self::WrongKey(_) => "wrong-key",
        }
    }
}

/// The hash that stands for a group key in a statement. A key is 32 random bytes, so that its hash tells nothing of it.
#[must_use]
pub(crate) fn digest(epoch: u32, key: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(KEY).chain_update(epoch.to_be_bytes()).chain_update(key).finalize().into()
}

/// The revision that a mark stands for.
pub(crate) const fn revision_of(mark: u64) -> u64 {
    mark >> 16
}

impl Statement {
    /// What a file of group keys says, at revision 0: the newest two count, the newest is in use. `None` if there is no key.
    #[must_use]
    pub fn of_files(mesh: TrustDomain, keys: &[(u32, [u8; 32])]) -> Option<Self> {
        let mut stated: Vec<StatedKey> = keys
            .iter()
            .map(|(epoch, key)| StatedKey { epoch: *epoch, digest: digest(*epoch, key), since: 0 })
            .collect();
        stated.sort_by_key(|key| key.epoch);
        stated.drain(..stated.len().saturating_sub(MAX_KEYS));
        let newest = stated.last()?.epoch;
        Some(Self { mesh, revision: 0, in_use: newest, keys: stated, next_epoch: newest.checked_add(1)?, issued_at: 0 })
    }

    /// Signs it. `sign` is the private half of `administrator`.
    pub fn signed_by(&self, administrator: [u8; 32], sign: impl FnOnce(&[u8]) -> [u8; 64]) -> v1::SignedKeyring {
        let keys = self.keys.iter().map(|key| v1::KeyDigest {
            epoch: key.epoch,
            digest: Bytes::copy_from_slice(&key.digest),
            since: key.since,
        });
        let wire = v1::KeyringStatement {
            mesh: self.mesh.to_string(),
            revision: self.revision,
            in_use: self.in_use,
            keys: keys.collect(),
            next_epoch: self.next_epoch,
            issued_at: self.issued_at,
        };
        let statement = wire.encode_to_vec();
        let signature = sign(&[SIGNED, &statement].concat());
        v1::SignedKeyring {
            statement: statement.into(),
            administrator: Bytes::copy_from_slice(&administrator),
            signature: Bytes::copy_from_slice(&signature),
        }
    }

    /// Reads and checks a signed statement about `mesh`.
    ///
    /// # Errors
    /// If it is malformed, about another mesh, or not signed by one of `administrators`.
    pub fn open(
        signed: &v1::SignedKeyring,
        mesh: &TrustDomain,
        administrators: &[[u8; 32]],
    ) -> Result<Self, StatementError> {
        if signed.statement.len() > MAX_STATEMENT {
            return Err(StatementError::Malformed("too long"));
        }
        let known = administrators.iter().find(|known| known[..] == signed.administrator[..]);
        let administrator = known.ok_or(StatementError::UnknownAdministrator)?;
        if !verify(administrator, &[SIGNED, &signed.statement].concat(), &signed.signature) {
            return Err(StatementError::Forged);
        }
        let wire = v1::KeyringStatement::decode(signed.statement.clone());
        let statement = Self::read(&wire.map_err(|_| StatementError::Malformed("no statement"))?)?;
        if statement.mesh == *mesh { Ok(statement) } else { Err(StatementError::OtherMesh) }
    }

    fn read(wire: &v1::KeyringStatement) -> Result<Self, StatementError> {
        let malformed = StatementError::Malformed;
        let key = |key: &v1::KeyDigest| {
            let digest = key.digest[..].try_into().map_err(|_| malformed("a hash of another length"))?;
            Ok(StatedKey { epoch: key.epoch, digest, since: key.since })
        };
        let statement = Self {
            mesh: wire.mesh.parse().map_err(|_| malformed("no trust domain"))?,
            revision: wire.revision,
            in_use: wire.in_use,
            keys: wire.keys.iter().map(key).collect::<Result<_, _>>()?,
            next_epoch: wire.next_epoch,
            issued_at: wire.issued_at,
        };
        statement.check()?;
        Ok(statement)
    }

    fn check(&self) -> Result<(), StatementError> {
        let malformed = |why| Err(StatementError::Malformed(why));
        if !(1..MAX_REVISION).contains(&self.revision) {
            return malformed("revision out of range");
        }
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS {
            return malformed("not one or two keys");
        }
        if !self.keys.windows(2).all(|pair| pair[0].epoch < pair[1].epoch) {
            return malformed("epochs out of order");
        }
        if self.keys.iter().any(|key| key.epoch >= self.next_epoch || key.since > self.revision) {
            return malformed("a key from the future");
        }
        if self.keys.iter().all(|key| key.epoch != self.in_use) {
            return malformed("the epoch in use is not among its keys");
        }
        Ok(())
    }

    /// The key of an epoch.
    #[must_use]
    pub fn key(&self, epoch: u32) -> Option<&StatedKey> {
        self.keys.iter().find(|key| key.epoch == epoch)
    }
}

/// A number that orders signed statements as they count, and differs for those that differ (but for chance): the revision
/// and, for two administrators who made the same revision at once, 16 bits of the statement's hash.
pub(crate) fn mark(revision: u64, signed: &v1::SignedKeyring) -> u64 {
    let hash = Sha256::digest(&signed.statement);
    revision << 16 | u64::from(u16::from_be_bytes([hash[0], hash[1]]))
}
