//! A shard: one thread with a single-threaded runtime, its sockets, its connections. A request never leaves it.

mod gauges;
mod links;
mod names;
mod warm;

use std::net::{IpAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use starling_proto::{ErrorCode, ServiceName};
use starling_transport::{Dialer, Incoming, Limits, Listener, Pool, PoolSettings, ShardSocket, Tls};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::inbound;
use crate::inbound::application;
use crate::inbound::local_http::LocalPool;
use crate::inbound::local_http2::Http2Pool;
use crate::mesh::Mesh;
use crate::outbound::udp::{self, UdpWay};
use crate::outbound::{Destination, Inlet, entry};
use crate::plane::Plane;
use names::Names;

/// Idle connections to local applications are looked through this often.
const EXPIRE_EVERY: Duration = Duration::from_secs(2);

/// What a request needs of its shard.
pub(crate) struct Shard {
    pub(crate) plane: Arc<Plane>,
    pub(crate) pool: Pool,
    pub(crate) local_http: LocalPool,
    pub(crate) local_http2: Http2Pool,
    /// Looks up hosts outside the mesh.
    pub(crate) outside: application::Names,
    /// For connections of local programs: each holds one while it is open.
    pub(crate) places: Arc<Semaphore>,
    /// Services that peers name.
    pub(crate) names: Names,
    rng: Mutex<SmallRng>,
}

impl Shard {
    /// The shard's own generator: fast, and no secret.
    pub(crate) fn rng(&self) -> MutexGuard<'_, SmallRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a VIP that another thread accepted.
pub(crate) type VipConnection = (std::net::TcpStream, SocketAddrV4);

/// A socket that takes datagrams for a service, until it is told to stop.
pub(crate) struct UdpInlet {
    pub(crate) socket: std::net::UdpSocket,
    pub(crate) destination: Destination,
    /// Whoever sends here speaks for this service.
    pub(crate) source: Option<ServiceName>,
    pub(crate) stop: CancellationToken,
}

/// What a shard is started with: everything bound already, so that a node starts whole or not at all.
pub(crate) struct ShardPlan {
    pub(crate) index: usize,
    /// Connections of local programs that it may have open.
    pub(crate) places: usize,
    pub(crate) plane: Arc<Plane>,
    pub(crate) tls: Tls,
    pub(crate) limits: Limits,
    pub(crate) quic: ShardSocket,
    /// The address to dial from.
    pub(crate) local: IpAddr,
    pub(crate) ways: Vec<(std::net::TcpListener, Inlet)>,
    pub(crate) vips: mpsc::Receiver<VipConnection>,
    /// Addresses of datagrams from the beginning, and those that come.
    pub(crate) udp: Vec<UdpInlet>,
    pub(crate) udp_vips: mpsc::Receiver<UdpInlet>,
    pub(crate) mesh: Mesh,
    /// Ends the shard, whatever runs.
    pub(crate) stop: CancellationToken,
}

/// A shard could not be started.
#[derive(Debug, thiserror::Error)]
#[error("shard {index}: {reason}")]
pub struct ShardError {
    /// Which one.
    pub index: usize,
    /// Why not.
    pub reason: String,
}

/// Starts the shard's thread. Returns once it serves, with its pool, to be looked at.
///
/// # Errors
/// If a thread or a runtime cannot be had, or the sockets cannot be used.
pub(crate) fn start(plan: ShardPlan) -> Result<(JoinHandle<()>, Pool), ShardError> {
    let index = plan.index;
    let failed = |reason: String| ShardError { index, reason };
    let (ready, started) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(run(plan, &ready)),
                Err(error) => drop(ready.send(Err(error.to_string()))),
            }
        })
        .map_err(|error| failed(error.to_string()))?;
    match started.recv() {
        Ok(Ok(pool)) => Ok((thread, pool)),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed("its thread ended".to_owned())),
    }
}

async fn run(plan: ShardPlan, ready: &std::sync::mpsc::Sender<Result<Pool, String>>) {
    let ShardPlan { index, places, plane, tls, limits, quic, local, ways, vips, udp, udp_vips, mesh, stop } = plan;
    let bound = Listener::start(quic, &tls, &limits)
        .map_err(|error| error.to_string())
        .and_then(|listener| Ok((listener, Dialer::bind(local, &tls, &limits).map_err(|error| error.to_string())?)));
    let (mut listener, dialer) = match bound {
        Ok(bound) => bound,
        Err(reason) => return drop(ready.send(Err(reason))),
    };
    let dialer = Arc::new(dialer);
    let settings = PoolSettings { connect_timeout: plane.defaults.connect_timeout, ..PoolSettings::default() };
    let shard = Arc::new(Shard {
        plane,
        pool: Pool::start(Arc::clone(&dialer), settings),
        local_http: LocalPool::default(),
        local_http2: Http2Pool::default(),
        outside: application::Names::default(),
        places: Arc::new(Semaphore::new(places)),
        names: Names::default(),
        rng: Mutex::new(SmallRng::from_rng(&mut rand::rng())),
    });
    for (listener, inlet) in ways {
        tokio::spawn(entry::accept(Arc::clone(&shard), listener, move |shard, stream| {
            entry::serve(shard, stream, inlet.clone())
        }));
    }
    gauges::publish(&shard, index, places);
    tokio::spawn(take_vips(Arc::clone(&shard), vips));
    for inlet in udp {
        take_udp(&shard, inlet);
    }
    tokio::spawn(take_udp_vips(Arc::clone(&shard), udp_vips));
    tokio::spawn(expire(Arc::clone(&shard)));
    tokio::spawn(warm::keep_warm(Arc::clone(&shard), mesh.views()));
    tokio::spawn(links::tell(shard.pool.linked(), mesh.clone()));
    let _ = ready.send(Ok(shard.pool.clone()));
    tokio::select! {
        () = serve_peers(&shard, &mut listener, &mesh) => {}
        () = stop.cancelled() => {}
    }
    // Told, peers never send a request into a connection that ended here: they might wait for its answer.
    dialer.close();
    listener.close(ErrorCode::Draining, "this node stops");
    let told = async { tokio::join!(dialer.wait_idle(), listener.wait_idle()) };
    let _ = tokio::time::timeout(Duration::from_millis(200), told).await;
}

/// Takes connections of peers until the shard ends. While the node drains no new ones are taken, and those that are there
/// are told with each stream they open.
async fn serve_peers(shard: &Arc<Shard>, listener: &mut Listener, mesh: &Mesh) {
    let mut drain = shard.plane.drain.clone();
    let mut draining = false;
    loop {
        tokio::select! {
            incoming = listener.accept() => match incoming {
                Some(Incoming::Data(connection)) => drop(tokio::spawn(inbound::serve(Arc::clone(shard), connection))),
                Some(Incoming::Control(connection)) => mesh.control_incoming(connection),
                None => return,
            },
            () = drain.started(), if !draining => {
                draining = true;
                listener.drain();
            }
        }
    }
}

async fn take_vips(shard: Arc<Shard>, mut vips: mpsc::Receiver<VipConnection>) {
    while let Some((stream, vip)) = vips.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                // Whoever comes meanwhile waits with those who hand them over, who let go of what is too much.
                let Ok(place) = Arc::clone(&shard.places).acquire_owned().await else { return };
                let serving = entry::serve_vip(Arc::clone(&shard), stream, vip);
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => tracing::warn!(%error, "a connection to {vip} is lost"),
        }
    }
}

fn take_udp(shard: &Arc<Shard>, inlet: UdpInlet) {
    let UdpInlet { socket, destination, source, stop } = inlet;
    match UdpWay::new(socket, destination, source) {
        Ok(way) => {
            let serving = udp::serve(Arc::clone(shard), Arc::new(way));
            tokio::spawn(async move { stop.run_until_cancelled(serving).await });
        }
        Err(error) => tracing::error!(%error, "a socket of datagrams cannot be used"),
    }
}

async fn take_udp_vips(shard: Arc<Shard>, mut inlets: mpsc::Receiver<UdpInlet>) {
    while let Some(inlet) = inlets.recv().await {
        take_udp(&shard, inlet);
    }
}

async fn expire(shard: Arc<Shard>) {
    let mut ticks = tokio::time::interval(EXPIRE_EVERY);
    loop {
        ticks.tick().await;
        shard.local_http.expire();
        shard.local_http2.expire();
    }
}
