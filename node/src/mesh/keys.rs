//! The group keys: what a node starts with, and what those who look after it may ask and change.

use prost::Message as _;
use starling_gossip::{KeyReport, Keyring, StatementError};
use starling_proto::mesh::v1::{GroupKey, KeyringState, SignedKeyring};
use starling_transport::Identity;
use tokio::sync::oneshot;

use super::driver::Job;
use super::{Mesh, MeshError};

/// Why group keys were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeKeysError {
    /// It is not to be believed.
    #[error(transparent)]
    Refused(#[from] StatementError),
    /// Something counts more than that.
    #[error("revision {0} counts here already")]
    Stale(u64),
    /// The driver has ended.
    #[error(transparent)]
    Mesh(#[from] MeshError),
}

impl Mesh {
    /// Which group keys this node has and, as far as it knows, the others.
    ///
    /// # Errors
    /// If the driver has ended.
    pub async fn keys(&self) -> Result<KeyReport, MeshError> {
        let (reply, report) = oneshot::channel();
        self.send(Job::KeyReport { reply }).await?;
        self.reply(report).await
    }

    /// Takes over what an administrator signed about the group keys, and brings it to the others. The same once more is
    /// no error.
    ///
    /// # Errors
    /// If it is not to be believed, or something counts more than that.
    pub async fn change_keys(&self, state: KeyringState) -> Result<(), ChangeKeysError> {
        let (reply, changed) = oneshot::channel();
        self.send(Job::ChangeKeys { state, reply }).await?;
        self.reply(changed).await?
    }
}

/// What a node starts with: the keys in its identity's files, unless a statement that came with them or one that is on
/// its disk counts more.
pub(super) fn keyring(identity: &Identity, on_disk: &[KeyringState]) -> Result<Keyring, MeshError> {
    let keyring = Keyring::try_new(identity.group_keys()).map_err(|error| MeshError::Key(error.to_string()))?;
    let mut keyring = keyring.governed_by(identity.trust_domain().clone(), identity.administrators().to_vec());
    let filed = identity.group_statement().and_then(|signed| SignedKeyring::decode(signed).ok());
    let keys = identity.group_keys().into_iter();
    let keys = keys.map(|(epoch, key)| GroupKey { epoch, key: key.to_vec().into() }).collect();
    let filed = filed.map(|signed| KeyringState { signed: Some(signed), keys });
    for (state, place) in filed.iter().map(|state| (state, "identity")).chain(on_disk.iter().map(|s| (s, "data_dir"))) {
        if let Err(error) = keyring.recall(state) {
            tracing::warn!(place, %error, "a statement about the group keys is left out; peers tell what counts");
        }
    }
    Ok(keyring)
}
