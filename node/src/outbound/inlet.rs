use std::sync::Arc;

use starling_proto::ServiceName;

use super::Way;
use crate::netns::Netns;

/// A listener of the node's for local programs: what is spoken there, and who may be behind it.
#[derive(Debug, Clone)]
pub(crate) struct Inlet {
    pub(crate) door: Door,
    /// Whoever comes in here speaks for this service; `None`: that is found out for each connection.
    pub(crate) source: Option<ServiceName>,
    /// The namespace that it listens in; `None`: the node's own.
    pub(crate) netns: Option<Arc<Netns>>,
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    /// What the application speaks anyway, or HTTP to a proxy.
    Way(Way),
    /// SOCKS5.
    Socks,
    /// What the application speaks anyway: a redirect brought it, and the system knows where it was going.
    Captured,
}

impl Inlet {
    /// One in the node's own namespace, whose callers are told apart as elsewhere.
    pub(crate) const fn new(door: Door) -> Self {
        Self { door, source: None, netns: None }
    }
}
