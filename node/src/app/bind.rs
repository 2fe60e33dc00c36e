//! Everything that a node listens on, bound before anything of it runs.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use starling_transport::{BindError, Port, ShardSocket};

use crate::admin::{self, WayReport};
use crate::config::{Config, ConfigError, Key, Loaded};
use crate::dns::VipRange;
use crate::outbound::Inlet;
use crate::shard::UdpInlet;
use crate::telemetry::{SpanExporter, Telemetry, TelemetryError};

use super::StartError;
use super::ways::Outpost;

/// What is said of a listener that is as it should be.
pub(super) const BOUND: &str = "bound";

/// The sockets of one shard.
pub(super) struct Sockets {
    pub(super) quic: ShardSocket,
    pub(super) ways: Vec<(TcpListener, Inlet)>,
    pub(super) udp: Vec<UdpInlet>,
}

/// All sockets of a node.
pub(super) struct Bound {
    shards: Vec<Sockets>,
    pub(super) vip_range: VipRange,
    pub(super) admin: admin::Server,
    pub(super) ways: Vec<WayReport>,
    /// Is IPv6 listened for on the capture port?
    pub(super) captures_ipv6: bool,
    pub(super) outposts: Vec<Outpost>,
}

pub(super) fn problem(key: &Key, what: impl Into<String>, hint: impl Into<String>) -> StartError {
    StartError::Config(ConfigError::from(key.problem(what, hint)))
}

impl Bound {
    pub(super) fn bind(loaded: &Loaded) -> Result<Self, StartError> {
        let config = &loaded.config;
        let shards = config.node.shards.get();
        let quic_address = SocketAddr::new(config.mesh.bind, config.mesh.quic_port);
        let quic = Port::bind(quic_address, shards, config.mesh.carriers).map_err(|error| {
            let hint = match &error {
                BindError::InUse(address) => format!(
                    "does an agent run here already? `ss -ulpn 'sport = :{}'` names the program; stop it, or set \
                     mesh.quic_port to a free port",
                    address.port()
                ),
                BindError::TcpInUse(address) => format!(
                    "`ss -tlpn 'sport = :{}'` names the program; stop it, set mesh.quic_port to a port that is free for UDP and \
                     TCP, or do without TCP: mesh.carrier = \"quic\"",
                    address.port()
                ),
                _ => "mesh.bind must be an address of this host".to_owned(),
            };
            problem(&loaded.key("mesh.quic_port"), error.to_string(), hint)
        })?;
        let vip_range = config.dns.vip_range;
        let admin = admin::Server::bind(&config.admin)
            .map_err(|error| problem(&loaded.key(error.key()), error.to_string(), error.hint()))?;
        let sockets = quic.into_sockets().into_iter();
        let shards = sockets.map(|quic| Sockets { quic, ways: Vec::new(), udp: Vec::new() }).collect();
        let (ways, outposts) = (Vec::new(), Vec::new());
        let mut bound = Self { shards, vip_range, admin, ways, captures_ipv6: false, outposts };
        bound.ways_in(loaded)?;
        Ok(bound)
    }

    /// How many shards there are.
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Is this address listened on?
    pub(super) fn is_bound(&self, address: SocketAddr) -> bool {
        self.ways.iter().any(|way| way.address == address && way.state == BOUND)
    }

    /// Gives each shard its socket of datagrams.
    pub(super) fn add_udp(&mut self, name: &str, address: SocketAddr, inlets: Vec<UdpInlet>) {
        self.ways.push(WayReport { name: name.to_owned(), address, state: BOUND.to_owned() });
        self.shards.iter_mut().zip(inlets).for_each(|(shard, inlet)| shard.udp.push(inlet));
    }

    /// Gives each shard its socket of a listener.
    pub(super) fn add(&mut self, name: &str, address: SocketAddr, sockets: Vec<TcpListener>, inlet: &Inlet) {
        self.ways.push(WayReport { name: name.to_owned(), address, state: BOUND.to_owned() });
        self.shards.iter_mut().zip(sockets).for_each(|(shard, socket)| shard.ways.push((socket, inlet.clone())));
    }

    pub(super) fn take_shards(&mut self) -> Vec<Sockets> {
        std::mem::take(&mut self.shards)
    }
}

pub(super) fn telemetry(loaded: &Loaded) -> Result<(Arc<Telemetry>, Option<SpanExporter>), StartError> {
    let Config { node, log, telemetry, .. } = &loaded.config;
    let made = Telemetry::try_new(&node.name, log.access.as_ref(), telemetry, Instant::now());
    let (telemetry, exporter) = made.map_err(|error| match &error {
        TelemetryError::AccessLog(_) => {
            problem(&loaded.key("log.access"), error.to_string(), "choose a path that the agent may write to")
        }
        TelemetryError::Collector(_) => {
            problem(&loaded.key("telemetry.otlp"), error.to_string(), "write http://host:4318")
        }
        TelemetryError::Metrics(_) => StartError::System(error.to_string()),
    })?;
    Ok((Arc::new(telemetry), exporter))
}
