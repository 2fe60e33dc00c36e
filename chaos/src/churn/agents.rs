//! Two agents on loopback: one for the programs that call, one for the services.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::census::gauge;
use super::{Addresses, Ways};
use crate::{binary, wait_until};

/// What callers reach by name, and where the caller's agent listens for it.
const SERVICES: [(&str, &str, u16); 5] = [
    ("http1", "http", 9001),
    ("http2", "http2", 9002),
    ("detected", "detect", 9003),
    ("tcp", "tcp", 9004),
    ("first", "detect", 9005),
];
const ADMIN: u16 = 4191;
const PATIENCE: Duration = Duration::from_mins(1);

/// Both of them, ended when dropped.
pub(super) struct Agents {
    pub(super) caller: Agent,
    pub(super) server: Agent,
    // Addresses in 127/8 that no other run takes meanwhile.
    _claim: UdpSocket,
    directory: TempDir,
}

pub(super) struct Agent {
    pub(super) child: Child,
    pub(super) ip: Ipv4Addr,
}

impl Agents {
    pub(super) fn start(services: Addresses) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (claim, block) = claim();
        let at = directory.path();
        let starling = binary::starling();
        let run = |arguments: &[&str]| {
            let output = Command::new(&starling).args(arguments).current_dir(at).output().expect("starling runs");
            assert!(output.status.success(), "starling {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["ca", "init", "--dir", "ca", "--trust-domain", "churn.example"]);
        let names = SERVICES.iter().flat_map(|(name, ..)| ["--service", name]);
        let issue = ["ca", "issue", "--dir", "ca", "--name", "server", "--out", "server-identity"];
        run(&issue.into_iter().chain(names).collect::<Vec<_>>());
        run(&["ca", "issue", "--dir", "ca", "--name", "caller", "--out", "caller-identity"]);
        let ips = [Ipv4Addr::new(127, block, 1, 1), Ipv4Addr::new(127, block, 2, 1)];
        let offers = SERVICES.iter().map(|(name, protocol, port)| {
            let address = match *name {
                "http2" => services.http2,
                "tcp" => services.tcp,
                "first" => services.first,
                _ => services.http1,
            };
            format!(
                "[[service]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nport = {port}\n"
            )
        });
        let listeners = SERVICES
            .iter()
            .map(|(name, _, port)| format!("[[listener]]\naddress = \"{}:{port}\"\nservice = \"{name}\"\n", ips[0]));
        let start = |name: &str, ip: Ipv4Addr, rest: String| {
            let file = format!("{name}.toml");
            fs::write(at.join(&file), config(name, ip, ips[0]) + &rest).expect("a configuration");
            let log = fs::File::create(at.join(format!("{name}.log"))).expect("a log");
            let mut command = Command::new(&starling);
            command.args(["agent", "-c", &file]).current_dir(at);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            Agent { child: child.expect("starling runs"), ip }
        };
        let caller = start("caller", ips[0], listeners.collect());
        let server = start("server", ips[1], offers.collect());
        Self { caller, server, _claim: claim, directory }
    }

    /// Waits until the caller's agent knows every service.
    #[track_caller]
    pub(super) fn wait_until_whole(&mut self) -> Ways {
        for (name, ..) in SERVICES {
            let label = format!("dst=\"{name}\"");
            wait_until(PATIENCE, &format!("the caller's agent knows {name}"), || {
                assert!(self.ended().is_empty(), "an agent ended: {:?}", self.logs());
                gauge(self.caller.admin(), "starling_endpoints", &label) == 1
            });
        }
        let way = |at: usize| SocketAddr::from((self.caller.ip, SERVICES[at].2));
        Ways { http1: way(0), http2: way(1), detected: way(2), tcp: way(3), first: way(4) }
    }

    /// Those that ended by themselves, with their last words.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let both = [("caller", &mut self.caller), ("server", &mut self.server)];
        let ended = both.into_iter().filter_map(|(name, agent)| {
            let status = agent.child.try_wait().ok().flatten()?;
            Some(format!("the {name}'s agent ended: {status}"))
        });
        let ended: Vec<String> = ended.collect();
        if ended.is_empty() { ended } else { ended.into_iter().chain(self.logs()).collect() }
    }

    /// Where their threads or tasks panicked.
    pub(super) fn panics(&self) -> Vec<String> {
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
    pub(super) fn admin(&self) -> SocketAddr {
        SocketAddr::from((self.ip, ADMIN))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(name: &str, ip: Ipv4Addr, seed: Ipv4Addr) -> String {
    let vips = format!("127.{}.{}.0/24", ip.octets()[1], 100 + ip.octets()[2]);
    format!(
        "[node]\nname = \"{name}\"\ndata_dir = \"{name}-data\"\nshards = 2\n\
         [mesh]\nadvertise = \"{ip}\"\nseeds = [\"{seed}:7947\"]\n\
         [identity]\ndir = \"{name}-identity\"\n\
         [admin]\nsocket = \"{name}.sock\"\nlisten = \"{ip}:{ADMIN}\"\n\
         [dns]\nlisten = \"off\"\nvip_range = \"{vips}\"\n\
         [capture]\nlisten = \"off\"\n[proxy]\nhttp = \"off\"\n"
    )
}

/// The second byte of addresses that are free.
fn claim() -> (UdpSocket, u8) {
    let claim = |block| Some((UdpSocket::bind((Ipv4Addr::new(127, block, 255, 253), 49_009)).ok()?, block));
    (100..200).find_map(claim).expect("a free block of addresses")
}
