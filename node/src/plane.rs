//! What all shards share: immutable, atomic, or swapped as a whole.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use starling_proto::ServiceName;
use starling_routing::Clusters;
use starling_transport::Identity;
use starling_transport::drain::DrainWatch;

use crate::config;
use crate::dns::VipTable;
use crate::inbound::Offers;
use crate::outbound::{Attestor, Passed};
use crate::telemetry::Telemetry;

/// The data side of a node, as every shard sees it.
pub(crate) struct Plane {
    pub(crate) identity: Arc<Identity>,
    /// Tells which service a local program is.
    pub(crate) attestor: Attestor,
    /// What is done with connections that lead to nothing of the mesh.
    pub(crate) unknown: config::Unknown,
    /// What became of them.
    pub(crate) passed: Arc<Passed>,
    /// Domain of the mesh's DNS names.
    pub(crate) suffix: String,
    /// What holds for a request that says nothing else.
    pub(crate) defaults: config::Defaults,
    /// What local clients may send.
    pub(crate) limits: config::Limits,
    pub(crate) offers: Offers,
    /// Services that explicit listeners lead to: their nodes are dialed ahead of need.
    pub(crate) expected: Vec<ServiceName>,
    /// Made from the current view of the mesh.
    pub(crate) clusters: ArcSwap<Clusters>,
    pub(crate) vips: Arc<VipTable>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) drain: DrainWatch,
    /// Changes with every start: tells peers that loads of before mean nothing.
    pub(crate) epoch: u32,
}

impl Plane {
    /// How long a request may take of which nobody said it.
    pub(crate) const fn timeout(&self) -> Duration {
        self.defaults.timeout
    }
}
