use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use starling_gossip::StatementError;
use starling_proto::NodeId;

/// `starling keyring list`: no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyringReport {
    /// The trust domain.
    pub mesh: String,
    /// Of the statement that counts at the node asked; 0 if no administrator signed one yet.
    pub revision: u64,
    /// When it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// The epoch that packets are sealed with.
    pub in_use: u32,
    /// Every key that is accepted, and for some seconds one that was removed.
    pub keys: Vec<KeyReportLine>,
    /// The node asked, and every other that is up, by name.
    pub members: Vec<HolderReport>,
    /// The statement as it was signed, in hexadecimal digits of `mesh.v1.SignedKeyring`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyReportLine {
    /// Its epoch.
    pub epoch: u32,
    /// `in-use`, `accepted` or `removed` (a moment ago).
    pub state: String,
    /// The revision that it was installed in; 0: with the nodes' files.
    pub since: u64,
    /// A hash of it, in hexadecimal digits; empty of a key that was removed.
    pub digest: String,
    /// Names of members that are up and are not known to accept it.
    pub missing: Vec<String>,
}

/// Who has which keys, as the node asked knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Its revision; none if it has not said yet.
    pub revision: Option<u64>,
    /// Does it have the same statement as the node asked?
    pub current: bool,
}

/// Why the group keys were not told or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// What was brought is no statement with keys.
    #[error("this is no change of group keys")]
    Malformed,
    /// It is not to be believed.
    #[error(transparent)]
    Refused(#[from] StatementError),
    /// Something counts more.
    #[error("the mesh has revision {0} already")]
    Stale(u64),
    /// The mesh side has ended.
    #[error("the mesh side has ended")]
    Stopped,
}
