//! Whole nodes from whole configurations, in this process, each with its threads and an address of its own in
//! 127/8.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use starling::admin::Source;
use starling::app::{Node, Unfinished};
use starling::config::{self, Host, Sources};
use starling::mesh::Mesh;
use starling_transport::ca::{self, IssueRequest};
use starling_transport::{Identity, Tls};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Longer than anything here takes on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const GOSSIP: u16 = 7946;
const QUIC: u16 = 7947;
const PROXY: u16 = 4140;
const FIRST_LISTENER: u16 = 9001;
/// Bound by whoever uses a block of addresses. Below the ports that a system gives away by itself.
const CLAIM: u16 = 20_009;

/// One mesh: an authority, and the directories of its nodes.
pub(crate) struct World {
    dir: TempDir,
    seed: OnceLock<SocketAddr>,
}

/// A node to be.
pub(crate) struct Plan<'w> {
    world: &'w World,
    name: &'static str,
    services: Vec<(&'static str, SocketAddr, &'static str, u16)>,
    listeners: Vec<&'static str>,
    patient: bool,
    hasty: bool,
    /// More of its configuration, and services that its certificate names besides.
    more: String,
    named: Vec<&'static str>,
    carrier: &'static str,
}

/// A node of this process.
pub(crate) struct Running {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) mesh: Mesh,
    /// The one thread of its mesh side.
    pub(crate) runtime: tokio::runtime::Handle,
    place: Place,
    stop: Option<oneshot::Sender<oneshot::Sender<Result<(), Unfinished>>>>,
}

/// Where a node is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) ip: IpAddr,
    pub(crate) dir: PathBuf,
    listeners: Vec<&'static str>,
}

/// A second byte for addresses that no other process of these tests uses while this one lives.
fn block() -> u8 {
    static BLOCK: OnceLock<(u8, UdpSocket)> = OnceLock::new();
    let claim = |block| Some((block, UdpSocket::bind((Ipv4Addr::new(127, block, 255, 254), CLAIM)).ok()?));
    BLOCK.get_or_init(|| (200..250).find_map(claim).unwrap()).0
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), &"demo.example".parse().unwrap()).unwrap();
        Self { dir, seed: OnceLock::new() }
    }

    /// A node of this name, which joins the first one that was started.
    pub(crate) fn node(&self, name: &'static str) -> Plan<'_> {
        Plan {
            world: self,
            name,
            services: Vec::new(),
            listeners: Vec::new(),
            patient: false,
            hasty: false,
            more: String::new(),
            named: Vec::new(),
            carrier: "auto",
        }
    }

    /// The files of a node whose certificate names these services.
    pub(crate) fn identity(&self, name: &str, services: &[&str]) -> Identity {
        let out = self.dir.path().join(name).join("identity");
        let services = services.iter().map(|service| service.parse().unwrap()).collect();
        let (dir, ttl) = (self.dir.path().join("ca"), Duration::from_hours(1));
        ca::issue(&IssueRequest { dir, name: name.to_owned(), services, ttl, out: out.clone(), force: false }).unwrap();
        Identity::load(&out).unwrap()
    }

    /// Starts a node that was stopped, as it was.
    pub(crate) fn restart(place: &Place) -> Running {
        Running::start(place.clone(), Identity::load(&place.dir.join("identity")).unwrap())
    }

    pub(crate) fn tls(&self, name: &str, services: &[&str]) -> Tls {
        Tls::try_new(&self.identity(name, services)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn seed(&self) -> SocketAddr {
        *self.seed.get().unwrap()
    }
}

/// An address that no other node has, and the /24 of its VIPs.
pub(crate) fn address() -> (IpAddr, String) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const A_BLOCK: u16 = 250;
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let [number, host] = [next % A_BLOCK + 1, next / A_BLOCK + 1].map(|part| u8::try_from(part).unwrap());
    assert!(host <= 2, "more nodes than addresses");
    let vips = block() - 180 + 50 * (host - 1);
    (IpAddr::from([127, block(), number, host]), format!("127.{vips}.{number}.0/24"))
}

impl Plan<'_> {
    /// It offers an HTTP service.
    pub(crate) fn offers(mut self, service: &'static str, address: SocketAddr) -> Self {
        self.services.push((service, address, "http", 80));
        self
    }

    /// It offers a service of opaque TCP.
    pub(crate) fn offers_tcp(mut self, service: &'static str, address: SocketAddr) -> Self {
        self.services.push((service, address, "tcp", 3306));
        self
    }

    /// It offers an HTTP service that callers find on this port.
    pub(crate) fn offers_on(mut self, service: &'static str, address: SocketAddr, port: u16) -> Self {
        self.services.push((service, address, "http", port));
        self
    }

    /// It offers a service that speaks this protocol.
    pub(crate) fn offers_speaking(
        mut self,
        service: &'static str,
        address: SocketAddr,
        protocol: &'static str,
    ) -> Self {
        self.services.push((service, address, protocol, 80));
        self
    }

    /// It has a listener that leads to this service.
    pub(crate) fn reaches(mut self, service: &'static str) -> Self {
        self.listeners.push(service);
        self
    }

    /// Its timeouts are far longer than the tests': what is done at once is not done by one of them.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// More of its configuration, in which `IP` stands for its address.
    pub(crate) fn with(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self
    }

    /// Its certificate names this service as well.
    pub(crate) fn may_run(mut self, service: &'static str) -> Self {
        self.named.push(service);
        self
    }

    /// It dials others over TCP.
    pub(crate) fn over_tcp(mut self) -> Self {
        self.carrier = "tcp";
        self
    }

    /// It waits for its clients hardly at all.
    pub(crate) fn hasty(mut self) -> Self {
        self.hasty = true;
        self
    }

    pub(crate) fn write(&self) -> (Place, Identity) {
        let dir = self.world.path(self.name);
        let offered = self.services.iter().map(|(name, ..)| *name);
        let named: Vec<&str> = offered.chain(self.named.iter().copied()).collect();
        let identity = self.world.identity(self.name, &named);
        let ((ip, vips), name, at) = (address(), self.name, dir.display());
        let seed = self.world.seed.get_or_init(|| SocketAddr::new(ip, QUIC));
        let mut text = format!(
            "[node]\nname = {name:?}\ndata_dir = \"{at}/data\"\nshards = 1\n\
             [mesh]\nadvertise = \"{ip}\"\ngossip_port = {GOSSIP}\nquic_port = {QUIC}\nseeds = [\"{seed}\"]\n\
             carrier = {:?}\n\
             [identity]\ndir = \"{at}/identity\"\n\
             [admin]\nsocket = \"{at}/admin.sock\"\nlisten = \"off\"\n\
             [dns]\nlisten = \"off\"\nvip_range = \"{vips}\"\n\
             [capture]\nlisten = \"off\"\n\
             [proxy]\nhttp = \"{ip}:{PROXY}\"\n\
             [log]\naccess = \"{at}/access.log\"\n",
            self.carrier
        );
        if self.patient {
            text.push_str("[defaults]\ntimeout = \"3m\"\ntry_timeout = \"80s\"\n");
        }
        if self.hasty {
            text.push_str("[limits]\nheader_timeout = \"200ms\"\nbody_timeout = \"300ms\"\n");
        }
        for (service, address, protocol, port) in &self.services {
            writeln!(
                text,
                "[[service]]\nname = {service:?}\naddress = \"{address}\"\nprotocol = {protocol:?}\nport = {port}"
            )
            .unwrap();
        }
        for (port, service) in (FIRST_LISTENER..).zip(&self.listeners) {
            writeln!(text, "[[listener]]\naddress = \"{ip}:{port}\"\nservice = {service:?}").unwrap();
        }
        text.push_str(&self.more.replace("IP", &ip.to_string()));
        std::fs::write(dir.join("starling.toml"), text).unwrap();
        (Place { ip, dir, listeners: self.listeners.clone() }, identity)
    }

    /// Starts it in this process.
    pub(crate) fn start(self) -> Running {
        let (place, identity) = self.write();
        Running::start(place, identity)
    }
}

impl Place {
    pub(crate) fn way(&self, service: &str) -> SocketAddr {
        let index = self.listeners.iter().position(|name| *name == service).unwrap();
        SocketAddr::new(self.ip, FIRST_LISTENER + u16::try_from(index).unwrap())
    }
}

impl Running {
    fn start(place: Place, identity: Identity) -> Self {
        let sources = Sources { file: Some(place.dir.join("starling.toml")), ..Sources::default() };
        let loaded = config::load(&sources, &Host::detect()).unwrap();
        let (started, start) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<oneshot::Sender<_>>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let node = match Node::start(&loaded, identity).await {
                    Ok(node) => node,
                    Err(error) => return started.send(Err(error)).unwrap(),
                };
                let runtime = tokio::runtime::Handle::current();
                started.send(Ok((node.source(), node.mesh().clone(), runtime))).unwrap();
                let told = stopped.await;
                let outcome = node.stop().await;
                if let Ok(told) = told {
                    let _ = told.send(outcome);
                }
            });
        });
        let (source, mesh, runtime) =
            start.recv().unwrap().unwrap_or_else(|error| panic!("{}: {error}", place.dir.display()));
        Self { source, mesh, runtime, place, stop: Some(stop) }
    }

    /// The listener that leads to this service.
    pub(crate) fn way(&self, service: &str) -> SocketAddr {
        self.place.way(service)
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        SocketAddr::new(self.place.ip, PROXY)
    }

    /// Where other nodes reach it.
    pub(crate) fn quic(&self) -> SocketAddr {
        SocketAddr::new(self.place.ip, QUIC)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Waits until requests of this node may go to so many endpoints of the service.
    pub(crate) async fn finds(&self, service: &str, endpoints: usize) {
        let name = service.parse().unwrap();
        eventually(&format!("{endpoints} endpoints of {service}"), || {
            let known = self.source.endpoints(&name).unwrap_or_default();
            known.iter().filter(|endpoint| endpoint.state == "ready").count() == endpoints
        })
        .await;
    }

    /// Stops it as SIGTERM would.
    pub(crate) async fn stop(mut self) -> Result<(), Unfinished> {
        let (told, outcome) = oneshot::channel();
        self.stop.take().unwrap().send(told).ok();
        outcome.await.unwrap()
    }

    /// The sum of all series of a metric whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        sum(&self.source.metrics(), name, labels)
    }
}

pub(crate) fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let series = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until something holds that nobody tells of.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let check = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while !condition() {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, check).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

/// What `work` gives, or a failed test.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
