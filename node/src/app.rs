//! A node as a whole: bound, started, drained.

mod bind;
mod check;
pub(crate) mod edge;
mod follow;
mod health;
mod hop;
mod host_load;
mod keyring;
mod names;
mod numbers;
mod redirects;
mod report;
mod udp_vips;
mod vips;
mod ways;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use starling_proto::ServiceName;
use starling_routing::Clusters;
use starling_transport::drain::{self, DrainSignal};
use starling_transport::edge::EdgeClient;
use starling_transport::{Identity, Limits, Tls};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Egress, IngressTo, Loaded};
use crate::descriptors;
use crate::dns::{DnsCounts, DnsServer, VipTable};
use crate::inbound::Offers;
use crate::inbound::application::Application;
use crate::inbound::offers::Offer;
use crate::mesh::{Heartbeat, Mesh, MeshConfig, MeshError};
use crate::outbound::{Attestor, Passed};
use crate::plane::Plane;
use crate::shard::{self, ShardError, ShardPlan};
use crate::telemetry::Telemetry;
use crate::watchdog::Watchdog;
use bind::Bound;
use redirects::Redirects;

/// Connections to VIPs that may wait for a shard.
const VIP_QUEUE: usize = 1024;
/// What is left of a connection's goodbye when the node stops.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Why a node did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that the configuration names is not to be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node cannot take part in its mesh.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A shard did not start.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Anything else that the system refused.
    #[error("{0}")]
    System(String),
}

/// A running node.
pub struct Node {
    config: Config,
    mesh: Mesh,
    plane: Arc<Plane>,
    telemetry: Arc<Telemetry>,
    drain: DrainSignal,
    shards: Vec<JoinHandle<()>>,
    /// Ends the shards.
    stop_shards: CancellationToken,
    /// Ends everything on the mesh side but gossip.
    stop: CancellationToken,
    admin: tokio::task::JoinHandle<std::io::Result<()>>,
    state: Arc<report::State>,
    redirects: Arc<Redirects>,
}

impl Node {
    /// Binds all that the configuration names, starts the shards, and joins the mesh. Call it on a single-threaded
    /// runtime that carries no requests: the mesh side lives there.
    ///
    /// # Errors
    /// If anything that was written down is not to be had. Then nothing runs.
    pub async fn start(loaded: &Loaded, identity: Identity) -> Result<Self, StartError> {
        let config = loaded.config.clone();
        let identity = Arc::new(identity);
        let tls = Tls::try_new(&identity).map_err(|error| StartError::System(error.to_string()))?;
        let mut bound = Bound::bind(loaded)?;
        let (telemetry, exporter) = bind::telemetry(loaded)?;
        let vips = Arc::new(VipTable::open(bound.vip_range, config.node.data_dir.join("vips.json")));
        let dns = bound.dns(loaded, &vips).await?;
        // After all that can fail by the configuration: others are to hear of a node that serves, or of none.
        let mesh = Mesh::start(mesh_config(&config, &identity, &tls)).await?;
        let (drain, watch) = drain::channel();
        let plane = Arc::new(plane(&config, edge::egresses(loaded)?, &identity, &mesh, &vips, &telemetry, watch));
        let (stop, stop_shards) = (CancellationToken::new(), CancellationToken::new());
        let (mut shards, mut pools) = (Vec::new(), Vec::new());
        let (mut inlets, mut udp_inlets) = (Vec::new(), Vec::new());
        let places = descriptors::places(config.node.shards.get());
        for (index, sockets) in bound.take_shards().into_iter().enumerate() {
            let (inlet, vips) = tokio::sync::mpsc::channel(VIP_QUEUE);
            inlets.push(inlet);
            let (udp_inlet, udp_vips) = tokio::sync::mpsc::channel(VIP_QUEUE);
            udp_inlets.push(udp_inlet);
            let (shard, pool) = shard::start(ShardPlan {
                index,
                places,
                plane: Arc::clone(&plane),
                tls: tls.clone(),
                limits: Limits { carriers: config.mesh.carriers, ..Limits::default() },
                quic: sockets.quic,
                local: config.mesh.bind,
                ways: sockets.ways,
                vips,
                udp: sockets.udp,
                udp_vips,
                mesh: mesh.clone(),
                stop: stop_shards.clone(),
            })?;
            shards.push(shard);
            pools.push(pool);
        }
        for offer in plane.offers.iter() {
            mesh.register(offer.record(&config.node.zone, false)).await?;
        }
        if let Some(exporter) = exporter {
            tokio::spawn(exporter.run());
        }
        tokio::spawn(follow::view(Arc::clone(&plane), mesh.views()));
        tokio::spawn(hop::follow(tls.paths().subscribe()));
        tokio::spawn(follow::load(Arc::clone(&plane), mesh.clone()));
        tokio::spawn(health::watch(Arc::clone(&plane), mesh.clone(), stop.clone()));
        tokio::spawn(vips::serve(Arc::clone(&plane), mesh.views(), inlets));
        tokio::spawn(udp_vips::serve(Arc::clone(&plane), mesh.views(), udp_inlets));
        tokio::spawn(Arc::clone(&vips).keep_persisted());
        let redirects = Redirects::of(&bound, &config);
        tokio::spawn(Arc::clone(&redirects).hold());
        let ways = std::mem::take(&mut bound.ways);
        let watchdog = watchdog(&mesh, &bound, &stop)?;
        let state = Arc::new(report::State::new(&config, &mesh, &plane, pools, tls, ways, watchdog));
        tokio::spawn(report::State::keep_current(Arc::clone(&state), stop.clone()));
        let counts: Vec<_> = dns.iter().map(DnsServer::counts).collect();
        telemetry.on_render(move || DnsCounts::publish(&counts.iter().map(|counts| &**counts)));
        for server in dns {
            tokio::spawn(server.run(stop.clone()));
        }
        let admin = tokio::spawn(bound.admin.serve(Arc::clone(&state) as _, stop.clone()));
        Ok(Self { config, mesh, plane, telemetry, drain, shards, stop_shards, stop, admin, state, redirects })
    }

    /// The mesh side: members, services, counters.
    #[must_use]
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What the admin interface says.
    #[must_use]
    pub fn source(&self) -> Arc<dyn crate::admin::Source> {
        Arc::clone(&self.state) as _
    }

    /// Is the node of use yet? Ends when it is.
    pub async fn ready(&self) {
        self.state.ready().await;
    }

    /// Has it seeds beside itself, and is no other member up?
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.state.is_alone()
    }

    /// Lets the access log be moved away: its file is opened anew.
    pub fn reopen_logs(&self) {
        self.telemetry.reopen();
    }

    /// Stops: takes nothing new, lets requests under way finish, leaves the mesh, ends.
    ///
    /// # Errors
    /// If requests were cut since they did not finish in time.
    pub async fn stop(self) -> Result<(), Unfinished> {
        let Self { config, mesh, plane, telemetry, drain, shards, stop_shards, stop, admin, state, redirects } = self;
        // Before the listeners close: what would be redirected to them goes where it was going.
        redirects.end();
        // First the word that no new requests are wanted, so that peers choose others while the old ones finish.
        let _ = mesh.go_away("this node stops").await;
        let finished = drain.drain(config.defaults.drain_timeout).await;
        let _ = mesh.leave("this node stops").await;
        stop_shards.cancel();
        let joining = tokio::task::spawn_blocking(move || shards.into_iter().for_each(|shard| drop(shard.join())));
        let _ = tokio::time::timeout(LAST_WORDS, joining).await;
        stop.cancel();
        let _ = admin.await;
        drop((telemetry, plane, state));
        if finished { Ok(()) } else { Err(Unfinished(config.defaults.drain_timeout)) }
    }
}

/// Watches the mesh side, and the thread that it shares with those who would tell of it.
fn watchdog(mesh: &Mesh, bound: &Bound, stop: &CancellationToken) -> Result<Watchdog, StartError> {
    let system = |error: std::io::Error| StartError::System(format!("the watchdog: {error}"));
    let thread = Arc::new(Heartbeat::new(Instant::now()));
    tokio::spawn(follow::pulse(Arc::clone(&thread), stop.clone()));
    let stand_in = bound.admin.stand_in().map_err(system)?;
    Watchdog::start(mesh.heartbeat(), thread, Some(stand_in)).map_err(system)
}

/// Requests were cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("requests that were still under way after {0:?} were cut (defaults.drain_timeout)")]
pub struct Unfinished(Duration);

fn mesh_config(config: &Config, identity: &Arc<Identity>, tls: &Tls) -> MeshConfig {
    MeshConfig {
        identity: Arc::clone(identity),
        tls: tls.clone(),
        advertise: config.mesh.address(),
        bind: config.mesh.bind,
        seeds: config.mesh.seeds.clone(),
        data_dir: config.node.data_dir.clone(),
        zone: config.node.zone.clone(),
        shards: u32::try_from(config.node.shards.get()).unwrap_or(u32::MAX),
        member_limit: MeshConfig::MEMBER_LIMIT,
        carriers: config.mesh.carriers,
        timings: crate::mesh::Timings::default(),
    }
}

/// The services that listeners and ingresses lead to.
fn expected(config: &Config) -> Vec<ServiceName> {
    let of_listeners = config.listeners.iter().map(|listener| listener.service.clone());
    let of_ingresses = config.ingresses.iter().flat_map(|ingress| match &ingress.to {
        IngressTo::Routes(routes) => routes.iter().map(|route| route.service.clone()).collect(),
        IngressTo::Service(service) => vec![service.clone()],
    });
    of_listeners.chain(of_ingresses).collect()
}

fn plane(
    config: &Config,
    egresses: Vec<(Egress, Option<EdgeClient>)>,
    identity: &Arc<Identity>,
    mesh: &Mesh,
    vips: &Arc<VipTable>,
    telemetry: &Arc<Telemetry>,
    drain: drain::DrainWatch,
) -> Plane {
    let offers = config.services.iter().map(|service| {
        let mut offer =
            Offer::new(service.name.clone(), 0, Application::local(service.address), service.protocol, service.port);
        offer.labels.clone_from(&service.labels);
        offer
    });
    let outside = egresses.into_iter().map(|(egress, tls)| {
        let application = Application::outside(&egress.host, egress.host_port, tls, &egress.authority());
        Offer::new(egress.name.clone(), 0, application, egress.protocol, egress.port)
    });
    let offers: Vec<_> = offers.chain(outside).collect();
    let passed = Arc::new(Passed::default());
    telemetry.on_render({
        let passed = Arc::clone(&passed);
        move || passed.publish()
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Plane {
        identity: Arc::clone(identity),
        attestor: Attestor::new(config),
        unknown: config.capture.unknown,
        passed,
        suffix: config.dns.suffix.clone(),
        defaults: config.defaults.clone(),
        limits: config.limits.clone(),
        offers: Offers::new(offers),
        expected: expected(config),
        clusters: ArcSwap::from_pointee(Clusters::new(Instant::now()).rebuild(&mesh.view().load().services)),
        vips: Arc::clone(vips),
        telemetry: Arc::clone(telemetry),
        drain,
        // It need only differ from start to start.
        epoch: u32::try_from(now.as_secs() & u64::from(u32::MAX)).unwrap_or(0),
    }
}
