use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize, Serializer};
use starling_proto::{Generation, NodeId, Protocol, ServiceName};

/// Whole seconds are enough for a human and sort well.
fn seconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    time.round(Unit::Second).unwrap_or(*time).serialize(serializer)
}

/// `starling status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// This node.
    pub node: NodeReport,
    /// The trust domain: one a mesh.
    pub mesh: String,
    /// Its boot generation.
    pub generation: Generation,
    /// Seconds since it started.
    pub uptime: u64,
    /// What keeps it from being ready, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// How many members are in which state.
    pub members: BTreeMap<String, usize>,
    /// What is offered.
    pub services: ServiceTotals,
    /// How many single-threaded runtimes carry traffic.
    pub shards: usize,
    /// The ways in and what became of them.
    pub ways: Vec<WayReport>,
    /// Gossip's counters by name.
    pub gossip: BTreeMap<String, u64>,
    /// Connections between nodes.
    #[serde(default)]
    pub hop: HopReport,
    /// QUIC's counters by name.
    pub quic: BTreeMap<String, u64>,
    /// What was refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// When the certificate ends.
    #[serde(serialize_with = "seconds")]
    pub certificate_expires: Timestamp,
}

/// Connections to other nodes and of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HopReport {
    /// How many are open, by what they run over: `quic`, `tcp`.
    pub connections: BTreeMap<String, usize>,
    /// Names of the nodes that are reached over TCP only: UDP does not pass.
    pub by_tcp: Vec<String>,
}

/// Who a node is and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Where others reach it by QUIC: what a seed is written as.
    pub address: SocketAddr,
    /// Its UDP port for gossip.
    pub gossip_port: u16,
    /// Its zone; empty if it does not say.
    pub zone: String,
    /// The software's version.
    pub version: String,
}

/// Services in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTotals {
    /// Those of this node.
    pub offered: Vec<ServiceName>,
    /// How many are known in the mesh.
    pub known: usize,
    /// How many endpoints they have together.
    pub endpoints: usize,
}

/// One way in, such as `dns` or `proxy.http`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayReport {
    /// The key that configures it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// `bound`, or why it is not.
    pub state: String,
}

/// What `starling members -w` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersReport {
    /// Rises when a member comes, changes (but for its load) or is forgotten. Counts from the start of the agent.
    pub version: u64,
    /// All of them, by name.
    pub members: Vec<MemberReport>,
}

/// One line of `starling members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: NodeId,
    /// Where others reach it by QUIC: what a seed is written as.
    pub address: SocketAddr,
    /// Its zone; empty if it does not say.
    pub zone: String,
    /// `alive`, `suspect`, `down` or `left`.
    pub state: String,
    /// Its boot generation.
    pub generation: Generation,
    /// Since when it is in that state, as this node saw it.
    #[serde(serialize_with = "seconds")]
    pub since: Timestamp,
    /// The software's version.
    pub version: String,
    /// What it last said of its load.
    #[serde(default)]
    pub load: LoadReport,
    /// It is up, and yet fails again and again: used only where no other can serve.
    #[serde(default)]
    pub flaky: bool,
    /// Is it the node that answers?
    pub this: bool,
}

/// How busy a member says it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Requests that it serves.
    pub in_flight: u32,
    /// The busy share of its host's cores, in thousandths.
    pub cpu_permille: u32,
    /// How overloaded it is, 0 to 100.
    pub overload: u32,
    /// Its instances whose program accepts no connections.
    pub unhealthy: u32,
}

/// One line of `starling check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What was looked at, in a stable word such as `clock`.
    pub check: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Worth a look; the mesh does its work.
    Warning,
    /// Something does not work.
    Failed,
}

/// One line of `starling services`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: ServiceName,
    /// The loopback address that stands for it on this host, once one is given.
    pub vip: Option<IpAddr>,
    /// The port callers use.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// How many endpoints are known.
    pub endpoints: usize,
    /// How many of them requests may go to now.
    pub usable: usize,
}

/// One line of `starling endpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointReport {
    /// The node that offers it.
    pub node: String,
    /// That node's zone; empty if it does not say.
    pub zone: String,
    /// Where its node accepts QUIC.
    pub address: SocketAddr,
    /// `ready`, `unhealthy`, `draining`, `ejected` or `silent`.
    pub state: String,
    /// Requests in flight there, as far as this node knows: its own, and those that the endpoint last told of.
    pub load: u32,
    /// May requests of this node go there now?
    pub chosen: bool,
    /// Why (not), in words.
    pub why: String,
    /// Recent latency in seconds, once there was a request.
    pub latency: Option<f64>,
    /// Free words of its owner.
    pub labels: BTreeMap<String, String>,
}

/// One line of `starling stat`: requests from one service to another through this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteStatReport {
    /// `outbound`: it left a program of this host; `inbound`: it reached one.
    pub direction: String,
    /// Who called; empty where the caller is not known.
    pub src: String,
    /// Who was called.
    pub dst: String,
    /// How many requests since the node started.
    pub requests: u64,
    /// The share of them that succeeded, 0 to 1; none without requests.
    pub success: Option<f64>,
    /// Requests a second, lately.
    pub rps: f64,
    /// The median latency in seconds, lately; none without requests.
    pub p50: Option<f64>,
    /// The 99th percentile of latency in seconds, lately; none without requests.
    pub p99: Option<f64>,
    /// How many tries were made beyond the first.
    pub retries: u64,
}

/// What the admin interface answers when it cannot do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// What is wrong.
    pub error: String,
    /// What to do about it; empty if nothing is known to help.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}
