//! What an administrator does to the group keys of a mesh: install, use, remove. Each step is a statement that follows from
//! the last one; this makes it, out of the authority's directory and what the mesh says. No secret but a new key leaves
//! the directory, and nothing that an agent says is signed unless an administrator signed it before.

use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use starling_gossip::{ChangeError, Statement, StatementError};
use starling_proto::mesh::v1::{GroupKey, KeyringState, SignedKeyring};
use starling_transport::ca::{Administrator, CaError};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One more key is accepted, by all; nobody uses it yet.
    Install,
    /// This epoch is used, by all. `None`: the newest.
    Use(Option<u32>),
    /// This epoch is accepted no longer. `None`: the one that is not in use.
    Remove(Option<u32>),
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The directory can't be used.
    #[error(transparent)]
    Directory(#[from] CaError),
    /// The step makes no sense now.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// What the directory or the mesh has is not to be believed.
    #[error("{place}: {error}")]
    Unbelievable {
        /// Where it was found.
        place: &'static str,
        /// Why.
        error: StatementError,
    },
    /// There is nothing but the key in use.
    #[error("epoch {0} is the only one, and in use")]
    Only(u32),
}

/// What counts now, as an administrator signed it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// In words.
    pub statement: Statement,
    /// As it was signed; `None` at revision 0.
    pub signed: Option<SignedKeyring>,
}

impl Standing {
    /// What counts of what the directory and (if it was asked) the mesh have: the higher revision, the mesh's of two.
    ///
    /// # Errors
    /// If the directory can't be read, or no administrator named in it signed what the mesh has.
    pub fn find(administrator: &Administrator, of_mesh: Option<&SignedKeyring>) -> Result<Self, StepError> {
        let filed = administrator.statement()?.map(|signed| SignedKeyring::decode(&*signed));
        let malformed = |_| StatementError::Malformed("no statement");
        let filed = filed.transpose().map_err(malformed);
        let filed = filed.map_err(|error| StepError::Unbelievable { place: "group.signed", error })?;
        let open = |place, signed: Option<&SignedKeyring>| {
            let opened = signed.map(|signed| {
                let statement = Statement::open(signed, administrator.trust_domain(), administrator.administrators())?;
                Ok(Self { statement, signed: Some(signed.clone()) })
            });
            opened.transpose().map_err(|error| StepError::Unbelievable { place, error })
        };
        let (filed, meshed) = (open("group.signed", filed.as_ref())?, open("the mesh", of_mesh)?);
        let higher = match (filed, meshed) {
            (Some(filed), Some(meshed)) if filed.statement.revision > meshed.statement.revision => Some(filed),
            (filed, None) => filed,
            (_, meshed) => meshed,
        };
        match higher {
            Some(standing) => Ok(standing),
            None => Self::of_files(administrator),
        }
    }

    /// Nobody signed anything yet: the files say what counts.
    fn of_files(administrator: &Administrator) -> Result<Self, StepError> {
        let keys = administrator.group_keys()?;
        let statement = Statement::of_files(administrator.trust_domain().clone(), &keys);
        let statement = statement.ok_or(ChangeError::Exhausted)?;
        Ok(Self { statement, signed: None })
    }

    /// The epoch that a step is about, where it does not say.
    ///
    /// # Errors
    /// If there is only one.
    pub fn epoch_of(&self, step: Step) -> Result<u32, StepError> {
        let Statement { keys, in_use, next_epoch, .. } = &self.statement;
        let other = || keys.iter().map(|key| key.epoch).rfind(|epoch| epoch != in_use).ok_or(StepError::Only(*in_use));
        match step {
            Step::Install => Ok(*next_epoch),
            Step::Use(Some(epoch)) | Step::Remove(Some(epoch)) => Ok(epoch),
            Step::Use(None) => keys.last().map(|key| key.epoch).ok_or(StepError::Only(*in_use)),
            Step::Remove(None) => other(),
        }
    }

    /// Makes a step and signs it. A key that it installs is in the directory when this returns; the statement is not.
    ///
    /// # Errors
    /// If the step makes no sense now, or the directory can't be used.
    pub fn step(&self, administrator: &Administrator, step: Step) -> Result<Self, StepError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let epoch = self.epoch_of(step)?;
        let statement = match step {
            Step::Install => {
                // Before a key is made for nothing.
                self.statement.install(&[0; 32], now)?;
                self.statement.install(&administrator.group_key(epoch)?, now)?
            }
            Step::Use(_) => self.statement.use_epoch(epoch, now)?,
            Step::Remove(_) => self.statement.remove(epoch, now)?,
        };
        let signed = statement.signed_by(administrator.public_key(), |message| administrator.sign(message));
        Ok(Self { statement, signed: Some(signed) })
    }

    /// What to bring to the mesh: the statement, with those of its keys that the directory has. A secret.
    ///
    /// # Errors
    /// If the directory can't be read.
    pub fn state(&self, administrator: &Administrator) -> Result<KeyringState, StepError> {
        let named = |(epoch, _): &(u32, [u8; 32])| self.statement.key(*epoch).is_some();
        let keys = administrator.group_keys()?.into_iter().filter(named);
        let keys = keys.map(|(epoch, key)| GroupKey { epoch, key: key.to_vec().into() });
        Ok(KeyringState { signed: self.signed.clone(), keys: keys.collect() })
    }

    /// Has the directory keep it, for the next step and for nodes to come.
    ///
    /// # Errors
    /// If the directory can't be written to.
    pub fn keep(&self, administrator: &Administrator) -> Result<(), StepError> {
        if let Some(signed) = &self.signed {
            administrator.keep_statement(&signed.encode_to_vec())?;
            let epochs: Vec<u32> = self.statement.keys.iter().map(|key| key.epoch).collect();
            administrator.retain_group_keys(&epochs)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
