//! Whole nodes from whole configurations: most in this process, each with its threads and an address of its own in
//! 127/8; some as processes, to be killed.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Longer than anything here takes on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const GOSSIP: u16 = 7946;
const QUIC: u16 = 7947;
const PROXY: u16 = 4140;
const FIRST_LISTENER: u16 = 9001;

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

/// A node in a process of its own. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    place: Place,
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
    let claim = |block| Some((block, UdpSocket::bind((Ipv4Addr::new(127, block, 255, 254), 9)).ok()?));
    let claim_port = |block| {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, block, 255, 254), 49_009)).ok()?;
        Some((block, socket))
    };
    BLOCK.get_or_init(|| (200..250).find_map(|block| claim(block).or_else(|| claim_port(block))).unwrap()).0
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

    /// It waits for its clients hardly at all.
    pub(crate) fn hasty(mut self) -> Self {
        self.hasty = true;
        self
    }

    fn write(&self) -> (Place, Identity) {
        let dir = self.world.path(self.name);
        let offered = self.services.iter().map(|(name, ..)| *name);
        let named: Vec<&str> = offered.chain(self.named.iter().copied()).collect();
        let identity = self.world.identity(self.name, &named);
        let ((ip, vips), name, at) = (address(), self.name, dir.display());
        let seed = self.world.seed.get_or_init(|| SocketAddr::new(ip, QUIC));
        let mut text = format!(
            "[node]\nname = {name:?}\ndata_dir = \"{at}/data\"\nshards = 1\n\
             [mesh]\nadvertise = \"{ip}\"\ngossip_port = {GOSSIP}\nquic_port = {QUIC}\nseeds = [\"{seed}\"]\n\
             [identity]\ndir = \"{at}/identity\"\n\
             [admin]\nsocket = \"{at}/admin.sock\"\nlisten = \"off\"\n\
             [dns]\nlisten = \"off\"\nvip_range = \"{vips}\"\n\
             [capture]\nlisten = \"off\"\n\
             [proxy]\nhttp = \"{ip}:{PROXY}\"\n\
             [log]\naccess = \"{at}/access.log\"\n"
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

    /// Starts it as a process.
    pub(crate) fn spawn(self) -> Process {
        let (place, _) = self.write();
        let log = std::fs::File::create(place.dir.join("agent.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(["agent", "-c"]).arg(place.dir.join("starling.toml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Process { child, place }
    }
}

impl Place {
    fn way(&self, service: &str) -> SocketAddr {
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

fn sum(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let series = metrics.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

impl Process {
    /// The listener that leads to this service.
    pub(crate) fn way(&self, service: &str) -> SocketAddr {
        self.place.way(service)
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The sum of a metric's series with this label; `None` while it does not answer.
    async fn metric(&self, name: &str, label: &str) -> Option<u64> {
        let mut stream = UnixStream::connect(self.place.dir.join("admin.sock")).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(sum(&text, name, &[label]))
    }

    /// Waits until a metric's series with this label have such a sum.
    pub(crate) async fn counts(&self, name: &str, label: &str, at_least: u64) {
        let mut last = None;
        let counting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while last.is_none_or(|count| count < at_least) {
                tick.tick().await;
                last = self.metric(name, label).await;
            }
        };
        let counted = tokio::time::timeout(DEADLINE, counting).await;
        assert!(counted.is_ok(), "{name} with {label} is {last:?}, and not {at_least}");
    }

    /// Waits until its requests may go to so many endpoints of the service.
    pub(crate) async fn finds(&self, service: &str, endpoints: u64) {
        self.counts("starling_endpoints", &format!("dst=\"{service}\""), endpoints).await;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while status.is_none() {
                tick.tick().await;
                status = self.child.try_wait().unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("the process ends");
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
