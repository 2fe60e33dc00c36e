use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use starling_proto::{ErrorCode, Protocol, ServiceName, SpiffeId};

use super::Direction;
use super::trace::Hop;

/// One request (or TCP connection) that is over: all that metrics, access log and trace are made from. Made once
/// and lent; its parts are shared, not copied.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Which way it went.
    pub direction: Direction,
    /// What it spoke.
    pub protocol: Protocol,
    /// When it began.
    pub at: SystemTime,
    /// From its beginning to the end of its answer.
    pub duration: Duration,
    /// Who called; `None`: not known, or the node itself.
    pub src: Option<ServiceName>,
    /// Who was called.
    pub dst: ServiceName,
    /// The node that served it; `None`: it reached none.
    pub endpoint: Option<SpiffeId>,
    /// Who sent it to this node.
    pub peer: Peer,
    /// Its method; `None` for TCP.
    pub method: Option<Method>,
    /// Its target in origin form, with the query; empty for TCP. Bytes that are not UTF-8 are replaced.
    pub target: Bytes,
    /// The status that was answered; 0 for TCP.
    pub status: u16,
    /// What went wrong in the mesh.
    pub error: Option<ErrorCode>,
    /// Bytes of bodies (of the connection, for TCP) that came from the caller.
    pub bytes_in: u64,
    /// The same, to the caller.
    pub bytes_out: u64,
    /// Tries that were made; 0: it was answered without one.
    pub attempts: u32,
    /// Its place in a trace.
    pub trace: Option<Hop>,
}

/// Who sent a request to this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A program of this host.
    Local(SocketAddr),
    /// Another node, by its certificate.
    Node(SpiffeId),
    /// It can't be told.
    Unknown,
}
