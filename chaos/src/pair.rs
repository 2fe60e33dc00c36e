//! Two agents on loopback: one for the programs that call, one for the services.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{binary, wait_until};

pub(crate) mod addresses;
pub(crate) mod metrics;

pub(crate) use addresses::Addresses;

const ADMIN: u16 = 4191;
const PATIENCE: Duration = Duration::from_mins(1);

/// Both of them, ended when dropped.
pub(crate) struct Pair {
    pub(crate) caller: Agent,
    pub(crate) server: Agent,
    offers: Vec<Offer>,
    _addresses: Addresses,
    directory: TempDir,
}

pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) ip: Ipv4Addr,
}

/// A service: what callers reach by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub(crate) name: &'static str,
    /// As `service.protocol` has it.
    pub(crate) protocol: &'static str,
    /// Its port in the mesh, and that where the caller's agent listens for it.
    pub(crate) port: u16,
    /// Where it is.
    pub(crate) address: SocketAddr,
}

impl Pair {
    /// Starts both. They reach each other at [`Addresses::between`] if they are `apart`: whoever stands there must pass on to the
    /// addresses that they have. Panics if they do not start.
    #[track_caller]
    pub(crate) fn start(addresses: Addresses, offers: Vec<Offer>, apart: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let starling = binary::starling();
        let run = |arguments: &[&str]| {
            let output = Command::new(&starling).args(arguments).current_dir(at).output().expect("starling runs");
            assert!(output.status.success(), "starling {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["ca", "init", "--dir", "ca", "--trust-domain", "pair.example"]);
        let names = offers.iter().flat_map(|offer| ["--service", offer.name]);
        let issue = ["ca", "issue", "--dir", "ca", "--name", "server", "--out", "server-identity"];
        run(&issue.into_iter().chain(names).collect::<Vec<_>>());
        run(&["ca", "issue", "--dir", "ca", "--name", "caller", "--out", "caller-identity"]);
        let [here, there] = [addresses.caller(), addresses.server()];
        let known = if apart { addresses.between() } else { [here, there] };
        let services = offers.iter().map(Offer::service);
        let listeners = offers.iter().map(|offer| offer.listener(here));
        let start = |name: &str, ip: Ipv4Addr, advertise: Ipv4Addr, rest: String| {
            let file = format!("{name}.toml");
            fs::write(at.join(&file), config(name, ip, advertise, known[0]) + &rest).expect("a configuration");
            let log = fs::File::create(at.join(format!("{name}.log"))).expect("a log");
            let mut command = Command::new(&starling);
            command.args(["agent", "-c", &file]).current_dir(at);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            Agent { child: child.expect("starling runs"), ip }
        };
        let caller = start("caller", here, known[0], listeners.collect());
        let server = start("server", there, known[1], services.collect());
        Self { caller, server, offers, _addresses: addresses, directory }
    }

    /// Waits until the caller's agent knows every service.
    #[track_caller]
    pub(crate) fn wait_until_whole(&mut self) {
        for name in self.offers.iter().map(|offer| offer.name).collect::<Vec<_>>() {
            let label = format!("dst=\"{name}\"");
            wait_until(PATIENCE, &format!("the caller's agent knows {name}"), || {
                assert!(self.ended().is_empty(), "an agent ended: {:?}", self.logs());
                metrics::gauge(self.caller.admin(), "starling_endpoints", &label) == 1
            });
        }
    }

    /// Where the caller's agent listens for a service.
    #[track_caller]
    pub(crate) fn way(&self, name: &str) -> SocketAddr {
        let offer = self.offers.iter().find(|offer| offer.name == name);
        SocketAddr::from((self.caller.ip, offer.expect("a service of this pair").port))
    }

    /// Those that ended by themselves, with their last words.
    pub(crate) fn ended(&mut self) -> Vec<String> {
        let both = [("caller", &mut self.caller), ("server", &mut self.server)];
        let ended = both.into_iter().filter_map(|(name, agent)| {
            let status = agent.child.try_wait().ok().flatten()?;
            Some(format!("the {name}'s agent ended: {status}"))
        });
        let ended: Vec<String> = ended.collect();
        if ended.is_empty() { ended } else { ended.into_iter().chain(self.logs()).collect() }
    }

    /// Where their threads or tasks panicked.
    pub(crate) fn panics(&self) -> Vec<String> {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let logs = ["caller.log", "server.log"].map(|name| (name, read(name)));
        let told = logs.iter().flat_map(|(name, log)| {
            let lines: Vec<&str> = log.lines().collect();
            let at = lines.iter().enumerate().filter(|(_, line)| line.contains("panicked at")).map(|(at, _)| at);
            at.map(|at| format!("{name}: {}", lines[at..lines.len().min(at + 3)].join(" "))).collect::<Vec<_>>()
        });
        told.collect()
    }

    fn logs(&self) -> Vec<String> {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        let tail = |text: String| text.lines().rev().take(10).map(str::to_owned).collect::<Vec<_>>();
        ["caller.log", "server.log"].into_iter().flat_map(|name| tail(read(name))).collect()
    }
}

impl Agent {
    pub(crate) fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.ip, ADMIN))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Offer {
    fn service(&self) -> String {
        let Self { name, protocol, port, address } = self;
        format!("[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nport = {port}\n")
    }

    fn listener(&self, ip: Ipv4Addr) -> String {
        format!("[[listener]]\naddress = \"{ip}:{}\"\nservice = \"{}\"\n", self.port, self.name)
    }
}

fn config(name: &str, ip: Ipv4Addr, advertise: Ipv4Addr, seed: Ipv4Addr) -> String {
    let vips = format!("127.{}.{}.0/24", ip.octets()[1], 100 + ip.octets()[2]);
    format!(
        "[node]\nname = \"{name}\"\ndata_dir = \"{name}-data\"\nshards = 2\n\
         [mesh]\nadvertise = \"{advertise}\"\nbind = \"{ip}\"\nseeds = [\"{seed}:7947\"]\n\
         [identity]\ndir = \"{name}-identity\"\n\
         [admin]\nsocket = \"{name}.sock\"\nlisten = \"{ip}:{ADMIN}\"\n\
         [dns]\nlisten = \"off\"\nvip_range = \"{vips}\"\n\
         [capture]\nlisten = \"off\"\n[proxy]\nhttp = \"off\"\n"
    )
}
