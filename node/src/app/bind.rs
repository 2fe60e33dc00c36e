//! Everything that a node listens on, bound before anything of it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use starling_transport::{BindError, Port, ShardSocket};

use crate::admin::{self, WayReport};
use crate::config::{Config, ConfigError, Key, Listen, Loaded};
use crate::dns::{DnsServer, Upstreams, VipRange, VipTable, Zone};
use crate::outbound::entry::bind_shared;
use crate::outbound::{Destination, Way};
use crate::telemetry::{SpanExporter, Telemetry, TelemetryError};

use super::StartError;

/// Where the host's own resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The sockets of one shard.
pub(super) struct Sockets {
    pub(super) quic: ShardSocket,
    pub(super) ways: Vec<(TcpListener, Way)>,
    pub(super) captured: Option<TcpListener>,
}

/// All sockets of a node.
pub(super) struct Bound {
    shards: Vec<Sockets>,
    pub(super) vip_range: VipRange,
    pub(super) admin: admin::Server,
    pub(super) ways: Vec<WayReport>,
}

fn problem(key: &Key, what: impl Into<String>, hint: impl Into<String>) -> StartError {
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
        let shards = sockets.map(|quic| Sockets { quic, ways: Vec::new(), captured: None }).collect();
        let mut bound = Self { shards, vip_range, admin, ways: Vec::new() };
        bound.ways_in(loaded)?;
        Ok(bound)
    }

    fn ways_in(&mut self, loaded: &Loaded) -> Result<(), StartError> {
        let config = &loaded.config;
        for (index, listener) in config.listeners.iter().enumerate() {
            let destination = Destination { service: listener.service.clone(), port: 0 };
            let way = Way::To { destination, protocol: listener.protocol };
            let listen = Listen { address: listener.address, given: true };
            let name = format!("listener {}", listener.service);
            let sockets = self.listen(&name, listen, &loaded.listener_key(index))?;
            self.shards.iter_mut().zip(sockets).for_each(|(shard, socket)| shard.ways.push((socket, way.clone())));
        }
        if let Some(http) = config.proxy.http {
            let sockets = self.listen("proxy.http", http, &loaded.key("proxy.http"))?;
            self.shards.iter_mut().zip(sockets).for_each(|(shard, socket)| shard.ways.push((socket, Way::Proxy)));
        }
        if let Some(capture) = config.capture.listen {
            let sockets = self.listen("capture.listen", capture, &loaded.key("capture.listen"))?;
            self.shards.iter_mut().zip(sockets).for_each(|(shard, socket)| shard.captured = Some(socket));
        }
        Ok(())
    }

    /// One socket for each shard. None if nobody asked for this address and it is taken.
    fn listen(&mut self, name: &str, listen: Listen, key: &Key) -> Result<Vec<TcpListener>, StartError> {
        let Listen { address, given } = listen;
        let report = |state: String| WayReport { name: name.to_owned(), address, state };
        match bind_for_all(address, self.shards.len()) {
            Ok(sockets) => {
                self.ways.push(report("bound".to_owned()));
                Ok(sockets)
            }
            Err(error) if given => {
                let what = format!("cannot listen on {address}: {error}");
                Err(problem(key, what, "choose another address, or stop the program that has it"))
            }
            Err(error) => {
                tracing::warn!(%address, %error, "{name} is done without: its default address is not to be had");
                self.ways.push(report(error.to_string()));
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn take_shards(&mut self) -> Vec<Sockets> {
        std::mem::take(&mut self.shards)
    }

    /// Binds the DNS server, which needs the table of addresses.
    pub(super) async fn dns(&mut self, loaded: &Loaded, vips: &Arc<VipTable>) -> Result<Option<DnsServer>, StartError> {
        let Some(Listen { address, given }) = loaded.config.dns.listen else { return Ok(None) };
        let key = loaded.key("dns.listen");
        let zone = Zone::try_new(&loaded.config.dns.suffix, Arc::clone(vips))
            .map_err(|error| problem(&loaded.key("dns.suffix"), error.to_string(), "leave it out for \"mesh\""))?;
        let upstreams = Upstreams::system(Path::new(RESOLV_CONF), self.vip_range);
        let report = |state: String| WayReport { name: "dns.listen".to_owned(), address, state };
        match DnsServer::bind(address, zone, upstreams).await {
            Ok(server) => {
                self.ways.push(report("bound".to_owned()));
                Ok(Some(server))
            }
            Err(error) if given => {
                let what = format!("cannot listen on {address}: {error}");
                Err(problem(&key, what, "choose another address, or stop the program that has it"))
            }
            Err(error) => {
                tracing::warn!(%address, %error, "dns.listen is done without: its default address is not to be had");
                self.ways.push(report(error.to_string()));
                Ok(None)
            }
        }
    }
}

/// Binds an address for each of `shards`.
fn bind_for_all(address: SocketAddr, shards: usize) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT, so that another node of the same user is noticed and not shared with.
    drop(TcpListener::bind(address)?);
    (0..shards).map(|_| bind_shared(address)).collect()
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
