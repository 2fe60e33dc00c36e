//! The admin interface: what the node tells of itself, over a unix socket and over TCP.
//!
//! - the unix socket, mode 0600: who may open the file may ask everything
//! - TCP on loopback: the same, read-only, for browsers and scrapers of this host
//! - TCP beyond loopback: `/metrics`, `/live` and `/ready` only, since nothing there says who asks
//!
//! The node stands behind [`Source`], so that this module knows nothing of how it works.

mod client;
mod report;
mod routes;
mod server;
mod socket;

use starling_proto::ServiceName;

pub use client::{Client, ClientError};
pub use report::{
    Complaint, EndpointReport, MemberReport, NodeReport, RouteStatReport, ServiceReport, ServiceTotals, StatusReport,
    WayReport,
};
pub use server::{AdminError, Server};

/// What the admin interface asks the running node. Every method answers at once, from what is known: none may block.
pub trait Source: Send + Sync {
    /// The node and its mesh in short. `not_ready` is filled in by the caller from [`Source::ready`].
    fn status(&self) -> StatusReport;
    /// Everyone known, this node included, by name.
    fn members(&self) -> Vec<MemberReport>;
    /// Every service known, by name.
    fn services(&self) -> Vec<ServiceReport>;
    /// The endpoints of a service; `None` if nobody is known to offer it.
    fn endpoints(&self, service: &ServiceName) -> Option<Vec<EndpointReport>>;
    /// What went through this node.
    fn routes(&self) -> Vec<RouteStatReport>;
    /// All metrics in the text format of Prometheus, version 0.0.4.
    fn metrics(&self) -> String;
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
