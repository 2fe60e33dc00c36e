mod change;
pub(crate) mod exchange;
pub(crate) mod statement;

use std::fmt;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use starling_proto::TrustDomain;
use starling_proto::mesh::v1;
use zeroize::{Zeroize, Zeroizing};

pub use change::ChangeError;
use statement::{MAX_KEYS, digest, revision_of};
pub use statement::{StatedKey, Statement, StatementError};

/// Bytes of a nonce (RFC 8452, section 4).
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes that sealing adds (RFC 8452, section 4).
pub(crate) const TAG_LEN: usize = 16;
/// A key that was removed is accepted for so long: until then others, who learn of the removal a little later, may still
/// seal with it, and nothing of theirs is to be lost.
const LINGER: Duration = Duration::from_secs(10);
/// And sealed with for so long, for a peer that was last heard without the new one: one that heard of the removal some
/// seconds before this node did still reads it then. After that the peer has surely heard of it as well.
const SEALED_FOR: Duration = Duration::from_secs(5);

/// The mesh's group keys, by epochs. Packets are sealed with the one in use; two are accepted at a time.
///
/// Which ones there are is what an administrator last signed ([`Statement`]); before anyone did, what it was made with.
pub struct Keyring {
    /// Those accepted, the one in use first, then the newest.
    epochs: Vec<Epoch>,
    /// Those removed a moment ago.
    lingering: Vec<(Epoch, Instant)>,
    revision: u64,
    signed: Option<v1::SignedKeyring>,
    mark: u64,
    governor: Option<Governor>,
}

/// A key, as nodes tell each other which ones they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldKey {
    /// Its epoch.
    pub epoch: u32,
    /// The start of its digest; `None` of a node of an older version.
    pub print: Option<u32>,
}

impl HeldKey {
    /// Those that a message names. `prints` are in the order of `epochs`.
    pub fn named<'a>(epochs: &'a [u32], prints: &'a [u32]) -> impl Iterator<Item = Self> + 'a {
        epochs.iter().enumerate().map(|(n, epoch)| Self { epoch: *epoch, print: prints.get(n).copied() })
    }

    /// As far as the two nodes say, the same key?
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.print.zip(other.print).is_none_or(|(one, another)| one == another)
    }

    /// Another key of the same epoch?
    #[must_use]
    pub fn rivals(&self, other: &Self) -> bool {
        self.epoch == other.epoch && !self.fits(other)
    }
}

/// Whose statements count.
struct Governor {
    mesh: TrustDomain,
    administrators: Vec<[u8; 32]>,
}

struct Epoch {
    number: u32,
    since: u64,
    secret: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
}

/// Why a keyring can't be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key at all.
    #[error("no group key: a mesh has at least one epoch")]
    Empty,
    /// Two keys of one epoch.
    #[error("two group keys for epoch {0}")]
    Duplicate(u32),
    /// The library refuses a key.
    #[error("the group key of epoch {0} is unusable")]
    Unusable(u32),
}

impl Epoch {
    fn try_new(number: u32, secret: &[u8; 32], since: u64) -> Result<Self, KeyringError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, secret).map_err(|_| KeyringError::Unusable(number))?;
        Ok(Self { number, since, secret: Zeroizing::new(*secret), key: LessSafeKey::new(key) })
    }

    fn digest(&self) -> [u8; 32] {
        digest(self.number, &self.secret)
    }
}

/// A statement that counts, with its keys.
struct Checked {
    statement: Statement,
    epochs: Vec<Epoch>,
    mark: u64,
}

impl Keyring {
    /// A keyring of AES-256-GCM-SIV keys (RFC 8452), each with its epoch, at revision 0. Of more than two the newest two
    /// count; the newest is in use. It stays as it is: see [`Keyring::governed_by`].
    ///
    /// # Errors
    /// If there is none, or two of one epoch.
    pub fn try_new(mut keys: Vec<(u32, [u8; 32])>) -> Result<Self, KeyringError> {
        keys.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let built = Self::build(&keys);
        for (_, key) in &mut keys {
            key.zeroize();
        }
        built
    }

    fn build(keys: &[(u32, [u8; 32])]) -> Result<Self, KeyringError> {
        if let Some(twice) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(KeyringError::Duplicate(twice[0].0));
        }
        let newest = keys.iter().take(MAX_KEYS);
        let epochs = newest.map(|(number, key)| Epoch::try_new(*number, key, 0)).collect::<Result<Vec<_>, _>>()?;
        if epochs.is_empty() {
            return Err(KeyringError::Empty);
        }
        Ok(Self { epochs, lingering: Vec::new(), revision: 0, signed: None, mark: 0, governor: None })
    }

    /// Changes of this mesh's keys count if one of these Ed25519 keys signed them. Without any, none ever counts.
    #[must_use]
    pub fn governed_by(mut self, mesh: TrustDomain, administrators: Vec<[u8; 32]>) -> Self {
        self.governor = Some(Governor { mesh, administrators });
        self
    }

    /// The epochs that are accepted: the one in use, then the newest.
    pub fn epochs(&self) -> impl Iterator<Item = u32> {
        self.epochs.iter().map(|epoch| epoch.number)
    }

    /// The same, so that a node with another key of an epoch is told from one that has this.
    #[must_use]
    pub fn held(&self) -> Vec<HeldKey> {
        let print = |digest: [u8; 32]| u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let held = |epoch: &Epoch| HeldKey { epoch: epoch.number, print: Some(print(epoch.digest())) };
        self.epochs.iter().map(held).collect()
    }

    /// Those that were removed a moment ago and are still accepted.
    pub fn lingering(&self) -> impl Iterator<Item = u32> {
        self.lingering.iter().map(|(epoch, _)| epoch.number)
    }

    /// The epoch that packets are sealed with.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.epochs[0].number
    }

    /// Of the statement that counts here; 0 if nobody signed one yet.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Orders and tells apart what different nodes have; 0 if nobody signed a statement yet.
    pub(crate) const fn mark(&self) -> u64 {
        self.mark
    }

    /// The mark of a node that has this.
    pub(crate) fn mark_of(&self, state: &v1::KeyringState) -> u64 {
        if state.signed == self.signed {
            return self.mark;
        }
        let governor = self.governor.as_ref();
        let signed = state.signed.as_ref().zip(governor);
        let opened = signed.and_then(|(signed, governor)| {
            Some((Statement::open(signed, &governor.mesh, &governor.administrators).ok()?, signed))
        });
        opened.map_or(0, |(statement, signed)| statement::mark(statement.revision, signed))
    }

    /// The statement that counts here, as it was signed.
    #[must_use]
    pub const fn signed(&self) -> Option<&v1::SignedKeyring> {
        self.signed.as_ref()
    }

    /// The epochs that are accepted, as a statement lists them, lowest first.
    #[must_use]
    pub fn stated(&self) -> Vec<StatedKey> {
        let stated = |epoch: &Epoch| StatedKey { epoch: epoch.number, digest: epoch.digest(), since: epoch.since };
        let mut keys: Vec<StatedKey> = self.epochs.iter().map(stated).collect();
        keys.sort_by_key(|key| key.epoch);
        keys
    }

    /// Which of the accepted epochs a peer accepts too that gave this mark.
    pub(crate) fn accepted_at(&self, mark: u64) -> Vec<u32> {
        let known = |epoch: &&Epoch| epoch.since <= revision_of(mark);
        self.epochs.iter().filter(known).map(|epoch| epoch.number).collect()
    }

    /// The statement with its keys: what peers are given, and what is persisted. Empty at revision 0. A secret.
    #[must_use]
    pub fn state(&self) -> v1::KeyringState {
        let Some(signed) = &self.signed else { return v1::KeyringState::default() };
        let keys = self.epochs.iter();
        let keys = keys.map(|epoch| v1::GroupKey { epoch: epoch.number, key: epoch.secret.to_vec().into() });
        v1::KeyringState { signed: Some(signed.clone()), keys: keys.collect() }
    }

    /// Would [`Keyring::adopt`] change anything?
    ///
    /// # Errors
    /// If the statement or its keys are not to be believed.
    pub fn check(&self, state: &v1::KeyringState) -> Result<bool, StatementError> {
        Ok(self.examine(state)?.is_some())
    }

    /// Takes over a statement with its keys, if it counts more than what is here: a higher revision, signed by an
    /// administrator, with every key it names either known or given. `true` if it did.
    ///
    /// # Errors
    /// If the statement or its keys are not to be believed. Then nothing changes.
    pub fn adopt(&mut self, state: &v1::KeyringState, now: Instant) -> Result<bool, StatementError> {
        let Some(removed) = self.replace(state)? else { return Ok(false) };
        self.lingering.retain(|(epoch, _)| !self.epochs.iter().any(|kept| kept.number == epoch.number));
        self.lingering.extend(removed.into_iter().map(|epoch| (epoch, now + LINGER)));
        Ok(true)
    }

    /// As [`Keyring::adopt`], of what was known before the node started: nothing is under way that was sealed with a key
    /// that is not among them.
    ///
    /// # Errors
    /// If the statement or its keys are not to be believed.
    pub fn recall(&mut self, state: &v1::KeyringState) -> Result<bool, StatementError> {
        Ok(self.replace(state)?.is_some())
    }

    /// Gives the epochs that are no longer accepted, if the statement counts.
    fn replace(&mut self, state: &v1::KeyringState) -> Result<Option<Vec<Epoch>>, StatementError> {
        let Some(Checked { statement, mut epochs, mark }) = self.examine(state)? else { return Ok(None) };
        let in_use = statement.in_use;
        epochs.sort_by_key(|epoch| (epoch.number != in_use, std::cmp::Reverse(epoch.number)));
        let before = std::mem::replace(&mut self.epochs, epochs);
        self.revision = statement.revision;
        self.signed.clone_from(&state.signed);
        self.mark = mark;
        let gone = |epoch: &Epoch| !self.epochs.iter().any(|kept| kept.number == epoch.number);
        Ok(Some(before.into_iter().filter(gone).collect()))
    }

    /// A statement that counts more than what is here.
    fn examine(&self, state: &v1::KeyringState) -> Result<Option<Checked>, StatementError> {
        let Some(signed) = &state.signed else { return Ok(None) };
        if self.signed.as_ref() == Some(signed) {
            return Ok(None);
        }
        let governor = self.governor.as_ref().ok_or(StatementError::UnknownAdministrator)?;
        let statement = Statement::open(signed, &governor.mesh, &governor.administrators)?;
        let mark = statement::mark(statement.revision, signed);
        let known = self.signed.as_ref().map(|known| &known.statement[..]).unwrap_or_default();
        if (mark, &signed.statement[..]) <= (self.mark, known) {
            return Ok(None);
        }
        let epochs = statement.keys.iter().map(|stated| self.find(stated, &state.keys)).collect::<Result<_, _>>()?;
        Ok(Some(Checked { statement, epochs, mark }))
    }

    /// The key that a statement names, among those given and those known.
    fn find(&self, stated: &StatedKey, given: &[v1::GroupKey]) -> Result<Epoch, StatementError> {
        let known = self.epochs.iter().map(|epoch| (epoch.number, &epoch.secret[..]));
        let given = given.iter().take(2 * MAX_KEYS).map(|given| (given.epoch, &given.key[..]));
        let mut of_epoch = given.chain(known).filter(|(epoch, _)| *epoch == stated.epoch).peekable();
        if of_epoch.peek().is_none() {
            return Err(StatementError::MissingKey(stated.epoch));
        }
        let keys = of_epoch.filter_map(|(_, key)| <&[u8; 32]>::try_from(key).ok());
        let right = keys.into_iter().find(|key| digest(stated.epoch, key) == stated.digest);
        let epoch = right.and_then(|key| Epoch::try_new(stated.epoch, key, stated.since).ok());
        epoch.ok_or(StatementError::WrongKey(stated.epoch))
    }

    /// Lets go of keys that were removed a while ago.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.lingering.retain(|(_, until)| *until > now);
    }

    /// The epoch to seal with for a peer that gave this mark, if it gave one. It is the one in use, but for a peer that is
    /// known to lag behind: that gets the newest that it has.
    pub(crate) fn epoch_for(&self, mark: Option<u64>, now: Instant) -> u32 {
        let Some(revision) = mark.map(revision_of) else { return self.in_use() };
        if self.epochs[0].since <= revision {
            return self.in_use();
        }
        let fresh = |(epoch, until)| (until + SEALED_FOR > now + LINGER).then_some(epoch);
        let lingering = || self.lingering.iter().filter_map(|(epoch, until)| fresh((epoch, *until)));
        let all = || self.epochs.iter().chain(lingering());
        let known = all().filter(|epoch| epoch.since <= revision).max_by_key(|epoch| epoch.number);
        // Nothing that it surely has: the oldest is the likeliest.
        known.or_else(|| all().min_by_key(|epoch| epoch.number)).map_or(self.in_use(), |epoch| epoch.number)
    }

    fn epoch(&self, number: u32) -> Option<&Epoch> {
        let all = self.epochs.iter().chain(self.lingering.iter().map(|(epoch, _)| epoch));
        all.into_iter().find(|epoch| epoch.number == number)
    }

    /// Seals `buffer` in place with the key of an epoch and appends the tag. `None` only if there is no such key or the
    /// library fails.
    pub(crate) fn seal(&self, number: u32, nonce: [u8; NONCE_LEN], clear: &[u8], buffer: &mut Vec<u8>) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.epoch(number)?.key.seal_in_place_append_tag(nonce, Aad::from(clear), buffer).ok()
    }

    /// Does this ring hold the key of an epoch?
    pub(crate) fn accepts(&self, number: u32) -> bool {
        self.epoch(number).is_some()
    }

    /// Opens what [`Keyring::seal`] sealed. `None` if the epoch is not accepted or the bytes are not authentic.
    pub(crate) fn open<'a>(
        &self,
        number: u32,
        nonce: [u8; NONCE_LEN],
        clear: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let epoch = self.epoch(number)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        epoch.key.open_in_place(nonce, Aad::from(clear), sealed).ok().map(|opened| &*opened)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.epochs().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests;
