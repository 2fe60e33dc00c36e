//! The admin interface: what the node tells of itself, over a unix socket and over TCP.
//!
//! - the unix socket, mode 0600: who may open the file may ask everything
//! - TCP on loopback: the same, read-only, for browsers and scrapers of this host
//! - TCP beyond loopback: `/metrics`, `/live` and `/ready` only, since nothing there says who asks
//!
//! The node stands behind [`Source`], so that this module knows nothing of how it works.

mod client;
mod keyring;
mod report;
mod routes;
mod server;
mod socket;
mod stand_in;

use async_trait::async_trait;
use bytes::Bytes;
use starling_proto::ServiceName;

pub use client::{Client, ClientError};
pub use keyring::{HolderReport, KeyReportLine, KeyringError, KeyringReport};
pub use report::{
    CheckReport, CheckState, Complaint, EndpointReport, HopReport, LoadReport, MemberReport, MembersReport, NodeReport,
    RouteStatReport, ServiceReport, ServiceTotals, StatusReport, WayReport,
};
pub use server::{AdminError, Server};
pub use stand_in::StandIn;

/// Why a member was not dismissed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DismissError {
    /// Nobody is known by this name or id.
    #[error("no member is called '{0}'")]
    Unknown(String),
    /// It is there.
    #[error("{name} is {state}: only members that are down can be dismissed")]
    Up {
        /// Its name.
        name: String,
        /// `alive` or `suspect`.
        state: String,
    },
    /// Several members that are down had this name.
    #[error("{count} members that are down were called '{name}'")]
    Ambiguous {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// The mesh side has ended.
    #[error("the mesh side has ended")]
    Stopped,
}

/// What the admin interface asks the running node. Every method that is not `async` answers at once, from what is known:
/// none of those may block.
#[async_trait]
pub trait Source: Send + Sync {
    /// The node and its mesh in short. `not_ready` is filled in by the caller from [`Source::ready`].
    fn status(&self) -> StatusReport;
    /// Everyone known, this node included, by name.
    fn members(&self) -> Vec<MemberReport>;
    /// The members once they are of another version than `after`, or after a while.
    async fn members_after(&self, after: Option<u64>) -> MembersReport;
    /// Every service known, by name.
    fn services(&self) -> Vec<ServiceReport>;
    /// The endpoints of a service; `None` if nobody is known to offer it.
    fn endpoints(&self, service: &ServiceName) -> Option<Vec<EndpointReport>>;
    /// What went through this node.
    fn routes(&self) -> Vec<RouteStatReport>;
    /// All metrics in the text format of Prometheus, version 0.0.4.
    fn metrics(&self) -> String;
    /// Is this host, node and mesh healthy? Asks other nodes, which takes some seconds.
    async fn check(&self) -> Vec<CheckReport>;
    /// Says to all that a member which is down will not come back: it counts as left, or is not listed at all (`prune`).
    /// `member` is its name or its id.
    ///
    /// # Errors
    /// If it is not known, or not down.
    async fn force_leave(&self, member: &str, prune: bool) -> Result<MemberReport, DismissError>;
    /// Which group keys there are, and who has them.
    ///
    /// # Errors
    /// If the mesh side has ended.
    async fn keyring(&self) -> Result<KeyringReport, KeyringError>;
    /// Takes over a change of the group keys, an encoded `mesh.v1.KeyringState`, and brings it to the others.
    ///
    /// # Errors
    /// If it is not to be believed, or something counts more.
    async fn change_keyring(&self, state: Bytes) -> Result<KeyringReport, KeyringError>;
    /// Does the mesh loop tick?
    ///
    /// # Errors
    /// What stands still, in words.
    fn live(&self) -> Result<(), String>;
    /// Is it of use: identity loaded, listeners bound, and joined (or without seeds, or its seeds unreachable for so long
    /// that it serves alone)?
    ///
    /// # Errors
    /// What is still missing, in words.
    fn ready(&self) -> Result<(), String>;
}
