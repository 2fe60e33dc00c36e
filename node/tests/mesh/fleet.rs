//! Whole nodes in one process: each has a thread and a runtime of its own, an address of its own in 127/8, and what
//! `starling ca` would have given it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use starling::mesh::{Backoff, Mesh, MeshConfig, MeshError, Seed, Timings};
use starling_gossip::{State, View};
use starling_proto::NodeAddress;
use starling_proto::mesh::v1;
use starling_transport::ca::{self, IssueRequest};
use starling_transport::{Carriers, Identity, Incoming, Limits, Listener, Tls};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Longer than anything here takes on a slow and busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// An authority and the directories of its nodes.
pub(crate) struct Fleet {
    dir: TempDir,
}

/// A running node.
pub(crate) struct Node {
    pub(crate) mesh: Mesh,
    pub(crate) address: NodeAddress,
    pub(crate) tls: Tls,
    /// The one thread of its mesh side.
    pub(crate) runtime: tokio::runtime::Handle,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// An address that no other node of any test has: hosts differ, ports are the same.
pub(crate) fn address() -> NodeAddress {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = u8::try_from(std::process::id() % 100).unwrap();
    NodeAddress { ip: IpAddr::from([127, 100 + process, high, low]), gossip_port: 7946, quic_port: 7947 }
}

pub(crate) fn seed(address: NodeAddress) -> Seed {
    Seed::Addr(address.quic())
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), &"demo.example".parse().unwrap()).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// The files of a node; made when it is first named.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let out = self.path(name);
        if !out.exists() {
            let services = vec!["*".parse().unwrap()];
            let (dir, ttl) = (self.path("ca"), Duration::from_hours(1));
            let request = IssueRequest { dir, name: name.into(), services, ttl, out: out.clone(), force: false };
            ca::issue(&request).unwrap();
        }
        Identity::load(&out).unwrap()
    }

    pub(crate) fn config(&self, name: &str, address: NodeAddress, seeds: Vec<Seed>) -> MeshConfig {
        config(self.identity(name), address, seeds, &self.path(&format!("{name}-data")))
    }

    pub(crate) fn start(&self, name: &str, address: NodeAddress, seeds: Vec<Seed>) -> Node {
        Node::start(self.config(name, address, seeds)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

pub(crate) fn config(identity: Identity, address: NodeAddress, seeds: Vec<Seed>, data_dir: &Path) -> MeshConfig {
    MeshConfig {
        tls: Tls::try_new(&identity).unwrap(),
        identity: Arc::new(identity),
        advertise: address,
        bind: address.ip,
        seeds,
        data_dir: data_dir.to_owned(),
        zone: "here".into(),
        shards: 1,
        member_limit: MeshConfig::MEMBER_LIMIT,
        carriers: Carriers::Both,
        timings: Timings { seeds: Backoff::default(), ..Timings::default() },
    }
}

impl Node {
    pub(crate) fn start(config: MeshConfig) -> Result<Self, MeshError> {
        let (address, tls) = (config.advertise, config.tls.clone());
        let (started, start) = std::sync::mpsc::channel();
        let (kill, killed) = oneshot::channel();
        let listening = tls.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mesh = match Mesh::start(config).await {
                    Ok(mesh) => mesh,
                    Err(error) => return started.send(Err(error)).unwrap(),
                };
                let mut listener = Listener::bind(address.quic(), &listening, &Limits::default()).unwrap();
                let control = mesh.clone();
                tokio::spawn(async move {
                    while let Some(incoming) = listener.accept().await {
                        if let Incoming::Control(connection) = incoming {
                            control.control_incoming(connection);
                        }
                    }
                });
                started.send(Ok((mesh, tokio::runtime::Handle::current()))).unwrap();
                killed.await.ok();
            });
            // What runs ends where it stands, and tells nobody; a write to disk under way keeps the lock until it is done.
            runtime.shutdown_timeout(DEADLINE);
        });
        let (mesh, runtime) = start.recv().unwrap()?;
        Ok(Self { mesh, address, tls, runtime, kill, thread })
    }

    /// Ends the node as `kill -9` would.
    pub(crate) fn kill(self) {
        drop(self.mesh);
        self.kill.send(()).ok();
        self.thread.join().unwrap();
    }

    pub(crate) async fn offer(&self, service: &str) {
        self.mesh.register(record(service)).await.unwrap();
    }

    /// Waits until the node sees what is wanted.
    pub(crate) async fn sees(&self, what: &str, condition: impl Fn(&View) -> bool) {
        let mut views = self.mesh.views();
        let seen = tokio::time::timeout(DEADLINE, views.wait_for(|view| condition(view))).await;
        assert!(seen.is_ok(), "not seen within {DEADLINE:?}: {what}; the view: {:#?}", self.mesh.view().load());
    }
}

pub(crate) fn record(service: &str) -> v1::ServiceRecord {
    v1::ServiceRecord {
        service: format!("ns/default/svc/{service}"),
        port: 80,
        protocol: v1::Protocol::Http.into(),
        healthy: true,
        ..Default::default()
    }
}

pub(crate) fn alive(view: &View) -> usize {
    view.members.values().filter(|member| member.state == State::Alive).count()
}

/// Waits until each of these sees all of them.
pub(crate) async fn meet(nodes: &[&Node]) {
    for node in nodes {
        node.sees("all", |view| alive(view) == nodes.len()).await;
    }
}

pub(crate) fn state_of(view: &View, name: &str) -> Option<State> {
    view.members.values().find(|member| member.name == name).map(|member| member.state)
}

pub(crate) fn offers(view: &View, service: &str) -> usize {
    view.services.get(&service.parse().unwrap()).map_or(0, |endpoints| endpoints.len())
}

/// Waits for something that no watch tells of.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let check = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !condition() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, check).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

pub(crate) fn refused(node: &Mesh, place: &str, reason: &str) -> u64 {
    node.counts().refused.get(place).and_then(|reasons| reasons.get(reason)).copied().unwrap_or(0)
}

/// A socket on an address that a killed node leaves behind.
pub(crate) async fn take_over(address: SocketAddr) -> tokio::net::UdpSocket {
    tokio::net::UdpSocket::bind(address).await.unwrap()
}
