//! The three steps of a rotation, as statements that follow from one another: install, use, remove.

use super::statement::{MAX_KEYS, MAX_REVISION, StatedKey, Statement, digest};

/// Why a statement can't be changed as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no room for another key.
    #[error("two epochs are accepted already, {0} and {1}: remove one first")]
    Full(u32, u32),
    /// There is no such key.
    #[error("there is no key of epoch {0} now; install one, which gets an epoch of its own")]
    Unknown(u32),
    /// Packets are sealed with it.
    #[error("epoch {0} is in use: use another one first")]
    InUse(u32),
    /// Numbers have run out.
    #[error("no revision or epoch is left")]
    Exhausted,
}

impl Statement {
    /// One more key is accepted, under [`Statement::next_epoch`]. Nobody seals with it yet. `now` in Unix seconds.
    ///
    /// # Errors
    /// If two are accepted already.
    pub fn install(&self, key: &[u8; 32], now: u64) -> Result<Self, ChangeError> {
        if let [first, second] = self.keys[..] {
            return Err(ChangeError::Full(first.epoch, second.epoch));
        }
        debug_assert!(self.keys.len() < MAX_KEYS);
        let mut next = self.next(now)?;
        let epoch = self.next_epoch;
        next.next_epoch = epoch.checked_add(1).ok_or(ChangeError::Exhausted)?;
        next.keys.push(StatedKey { epoch, digest: digest(epoch, key), since: next.revision });
        Ok(next)
    }

    /// Packets are sealed with this epoch from now on.
    ///
    /// # Errors
    /// If it is not accepted.
    pub fn use_epoch(&self, epoch: u32, now: u64) -> Result<Self, ChangeError> {
        self.key(epoch).ok_or(ChangeError::Unknown(epoch))?;
        Ok(Self { in_use: epoch, ..self.next(now)? })
    }

    /// This epoch is no longer accepted.
    ///
    /// # Errors
    /// If it is in use, or was not accepted before.
    pub fn remove(&self, epoch: u32, now: u64) -> Result<Self, ChangeError> {
        self.key(epoch).ok_or(ChangeError::Unknown(epoch))?;
        if epoch == self.in_use {
            return Err(ChangeError::InUse(epoch));
        }
        let mut next = self.next(now)?;
        next.keys.retain(|key| key.epoch != epoch);
        Ok(next)
    }

    fn next(&self, now: u64) -> Result<Self, ChangeError> {
        let revision = self.revision + 1;
        if revision >= MAX_REVISION {
            return Err(ChangeError::Exhausted);
        }
        Ok(Self { revision, issued_at: now, ..self.clone() })
    }
}
