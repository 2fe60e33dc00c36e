//! The configuration: what the files, the environment and the flags say becomes a [`Config`], or nothing does.
//!
//! [`load`] reads `starling.toml`, then `conf.d/*.toml` beside it, then `STARLING_*` from the environment, then `--set`
//! flags: a later source wins, `[[service]]` and `[[listener]]` add up. An error names the place, the key, what is wrong
//! and a hint, and all errors come at once. Every key with its default stands in `docs/configuration.md`.

mod attest;
mod build;
mod claim;
pub mod default;
mod edge;
mod here;
mod host;
mod problem;
mod raw;
mod read;
mod repeated;
mod schema;
mod section;
mod sources;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use starling_proto::{NodeAddress, Protocol, ServiceName};
use starling_transport::Carriers;
use tracing::level_filters::LevelFilter;

use crate::dns::VipRange;

pub use attest::Certificate;
pub use edge::{Egress, Ingress, IngressTo};
pub use host::Host;
pub use problem::{ConfigError, Key, Place, Problem, Source};
pub(crate) use read::duration_of;
pub use sources::Sources;

pub use crate::mesh::Seed;

/// What a node is to do. Plain data; one that [`load`] gives is consistent in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who it is.
    pub node: Node,
    /// How it meets the others.
    pub mesh: Mesh,
    /// How it proves who it is.
    pub identity: Identity,
    /// How it is looked after.
    pub admin: Admin,
    /// Names for programs of this host.
    pub dns: Dns,
    /// Proxies for programs of this host.
    pub proxy: Proxy,
    /// What it offers. No two have one name.
    pub services: Vec<Service>,
    /// Explicit ways out.
    pub listeners: Vec<Listener>,
    /// Ways in for the world outside.
    pub ingresses: Vec<Ingress>,
    /// Services outside.
    pub egresses: Vec<Egress>,
    /// Where redirected traffic arrives.
    pub capture: Capture,
    /// What it writes.
    pub log: Log,
    /// What it sends to a collector.
    pub telemetry: Telemetry,
    /// What holds for a request that says nothing else.
    pub defaults: Defaults,
    /// What clients of this host may send.
    pub limits: Limits,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, the same as in its certificate.
    pub name: String,
    /// Where it stands; empty if it does not say.
    pub zone: String,
    /// Where it keeps what it must remember. One node a directory.
    pub data_dir: PathBuf,
    /// How many single-threaded runtimes carry traffic.
    pub shards: NonZeroUsize,
}

/// `[mesh]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Where others reach this node.
    pub advertise: IpAddr,
    /// The local address of all ports that other nodes reach.
    pub bind: IpAddr,
    /// UDP port of gossip.
    pub gossip_port: u16,
    /// UDP port of QUIC, and TCP port of what stands in for it.
    pub quic_port: u16,
    /// What connections between nodes run over.
    pub carriers: Carriers,
    /// Whom to ask for admission.
    pub seeds: Vec<Seed>,
}

impl Mesh {
    /// Where others reach this node, as gossip tells it.
    #[must_use]
    pub const fn address(&self) -> NodeAddress {
        NodeAddress { ip: self.advertise, gossip_port: self.gossip_port, quic_port: self.quic_port }
    }
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The directory that `starling ca issue` wrote.
    pub dir: PathBuf,
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket with the full API.
    pub socket: PathBuf,
    /// TCP, read-only; beyond loopback only `/metrics`, `/live` and `/ready`.
    pub listen: Option<Listen>,
}

/// A local TCP (or DNS) address of the node's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// Somebody wrote it down: not getting it is fatal. A default that is taken is named in the log and done without, so that
    /// several nodes on one host need not name what none of them uses.
    pub given: bool,
}

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Where names are answered, over UDP and TCP.
    pub listen: Option<Listen>,
    /// The domain of the mesh's names, without dots at its ends.
    pub suffix: String,
    /// Loopback addresses that stand for services.
    pub vip_range: VipRange,
}

/// `[proxy]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// HTTP proxy and CONNECT.
    pub http: Option<Listen>,
    /// SOCKS5.
    pub socks5: Option<Listen>,
}

/// `[[service]]`: offered by this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name in the mesh.
    pub name: ServiceName,
    /// Where it listens on (or near) this host.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port that callers use.
    pub port: u16,
    /// Free words.
    pub labels: BTreeMap<String, String>,
    /// Its programs run as this user: so their own calls are known.
    pub user: Option<User>,
    /// Its programs run in this control group or one below it: a path from the root of the hierarchy, version 2.
    pub cgroup: Option<PathBuf>,
}

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By its number.
    Id(u32),
    /// By its name, looked up when the node starts.
    Name(String),
}

/// `[[listener]]`: an explicit way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where programs of this host connect to.
    pub address: SocketAddr,
    /// Where that leads.
    pub service: ServiceName,
    /// What is spoken; `None`: what the service's own record says.
    pub protocol: Option<Protocol>,
    /// Whose programs connect to it; `None`: that is found out for each connection, as elsewhere.
    pub source: Option<ServiceName>,
}

/// `[capture]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Where `starling capture install` redirects the VIP range to, and what else it is told.
    pub listen: Option<Listen>,
    /// What is done with connections that lead to nothing of the mesh, captured or through SOCKS5.
    pub unknown: Unknown,
    /// Network namespaces that the node listens in.
    pub namespaces: Vec<Namespace>,
}

/// What is done with a connection that leads to nothing of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It goes on to where it was going.
    Pass,
    /// It is refused.
    Refuse,
}

/// `[[capture.namespace]]`: a network namespace whose programs are one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Where it is, such as `/run/netns/web`.
    pub path: PathBuf,
    /// Whom its programs speak for.
    pub source: ServiceName,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Diagnostics on stderr, down to this level.
    pub level: LevelFilter,
    /// One JSON line a request.
    pub access: Option<AccessLog>,
}

/// Where access log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// The process's standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// The OTLP collector's address over HTTP.
    pub otlp: Option<http::Uri>,
    /// The share of requests that are traced where the caller does not say, 0 to 1.
    pub sampling: f64,
}

/// `[defaults]`: what holds for a request that says nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The deadline of a request.
    pub timeout: Duration,
    /// The most that one try takes; it never takes more than half of what is left of the deadline.
    pub try_timeout: Duration,
    /// The most that connecting to another node takes.
    pub connect_timeout: Duration,
    /// What requests under way are granted when the node stops.
    pub drain_timeout: Duration,
}

/// `[limits]`: what a client may send, and how slowly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head, with its target.
    pub header_bytes: usize,
    /// Fields of a request's head.
    pub header_fields: usize,
    /// A head must be whole so soon after it began. Held to within twice the time.
    pub header_timeout: Duration,
    /// Something of a body of HTTP/1 must come so often.
    pub body_timeout: Duration,
    /// Something of an answer must be taken so often.
    pub send_timeout: Duration,
    /// A connection without a request is kept for so long.
    pub idle_timeout: Duration,
    /// Requests at a time on one connection of HTTP/2.
    pub streams: u32,
    /// Flows of datagrams at a time, at one address of one shard.
    pub flows: usize,
    /// A flow of datagrams ends when none came for so long.
    pub flow_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: default::HEADER_BYTES,
            header_fields: default::HEADER_FIELDS,
            header_timeout: default::HEADER_TIMEOUT,
            body_timeout: default::BODY_TIMEOUT,
            send_timeout: default::SEND_TIMEOUT,
            idle_timeout: default::IDLE_TIMEOUT,
            streams: default::STREAMS,
            flows: default::FLOWS,
            flow_timeout: default::FLOW_TIMEOUT,
        }
    }
}

/// A configuration together with where its keys stand, so that later errors can point at them too.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    keys: BTreeMap<String, Key>,
    fallback: Place,
    /// In the order of `config.services`.
    services: Vec<repeated::ServiceKeys>,
    /// In the order of `config.listeners`.
    listeners: Vec<repeated::ListenerKeys>,
    /// In the order of `config.ingresses`.
    ingresses: Vec<Key>,
    /// In the order of `config.egresses`.
    egresses: Vec<Key>,
    /// In the order of `config.capture.namespaces`.
    namespaces: Vec<repeated::NamespaceKeys>,
}

impl Loaded {
    /// The key of a section that stands once, such as `dns.listen`, written or not.
    #[must_use]
    pub fn key(&self, path: &str) -> Key {
        let known = self.keys.get(path).cloned();
        known.unwrap_or_else(|| Key { path: path.to_owned(), place: self.fallback.clone() })
    }

    /// The key of `config.services[index].name`.
    #[must_use]
    pub fn service_key(&self, index: usize) -> Key {
        self.services.get(index).map_or_else(|| self.key("service"), |keys| keys.name.clone())
    }

    /// The key of `config.ingresses[index].address`.
    #[must_use]
    pub fn ingress_key(&self, index: usize) -> Key {
        self.ingresses.get(index).cloned().unwrap_or_else(|| self.key("ingress"))
    }

    /// The key of `config.egresses[index].name`.
    #[must_use]
    pub fn egress_key(&self, index: usize) -> Key {
        self.egresses.get(index).cloned().unwrap_or_else(|| self.key("egress"))
    }

    /// The key of `config.listeners[index].address`.
    #[must_use]
    pub fn listener_key(&self, index: usize) -> Key {
        self.listeners.get(index).map_or_else(|| self.key("listener"), |keys| keys.address.clone())
    }

    /// The key of `config.capture.namespaces[index].path`.
    #[must_use]
    pub fn namespace_key(&self, index: usize) -> Key {
        self.namespaces.get(index).map_or_else(|| self.key("capture.namespace"), |keys| keys.path.clone())
    }
}

/// Reads and checks everything that can be checked without this host's sockets and the identity's files.
///
/// # Errors
/// All problems at once.
pub fn load(sources: &Sources, host: &Host) -> Result<Loaded, ConfigError> {
    let (raw, unknown) = sources.read()?;
    build::build(raw, unknown, sources.main_place(), host)
}

#[cfg(test)]
mod tests;
