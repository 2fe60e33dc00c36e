//! What a mesh must reach on real hosts: played once, with figures to hold against their bounds.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::{Host, MeshOfHosts, MeshPlan, OpenLoop, Process, Program, Report, wait_until};

/// Hosts of each mesh; the first one calls, the others serve.
const HOSTS: usize = 5;
/// The host that meets the fault.
const VICTIM: usize = HOSTS - 1;
/// Requests a second.
const RATE: u32 = 200;
/// Requests served before the fault, for a picture of what is usual.
const CALM: usize = 4 * RATE as usize;
/// How long the load lasts: longer than all that, than gossip takes to list the host down, and than its return.
const LOAD: Duration = Duration::from_secs(20);
/// Nothing on these hosts may take longer to come about.
const PATIENCE: Duration = Duration::from_secs(30);

/// What happens to a whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Its link goes down, and up again later.
    Cut,
    /// All its processes are killed with SIGKILL, and started again later.
    Kill,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "a host's link goes down",
            Self::Kill => "a host's processes are killed",
        })
    }
}

/// What a load of 200 GETs a second met when a host failed.
#[derive(Debug, Clone, Serialize)]
pub struct Met {
    /// Requests that were due.
    pub sent: u64,
    /// Those without a good answer.
    pub failed: u64,
    /// The longest that one took, failed ones included.
    pub longest: Duration,
    /// From the fault to the moment when the last request that failed was due; `None` if none failed.
    pub last_failure: Option<Duration>,
    /// From the fault to the caller's node listing the host down.
    pub listed_down: Duration,
    /// From the host's return (the link is up, or its processes are started) to the first request it served.
    pub back_in_service: Duration,
    /// All that the load noted.
    #[serde(skip)]
    pub report: Report,
}

/// From the start of the last of five nodes to the first answer, by name, of a plain HTTP server and of a TCP echo on other
/// hosts. `captured`: the agents have no privilege, and `starling capture install` was run before; otherwise neither.
///
/// # Panics
/// If no answer comes at all.
#[track_caller]
pub fn by_name(captured: bool) -> Duration {
    let (mesh, _services, started) = start(if captured { "named" } else { "plain" }, captured);
    wait_until(PATIENCE, "an answer by name", || http_answers(mesh.host(0)) && echo_answers(mesh.host(0)));
    started.elapsed()
}

/// Plays a fault under load.
///
/// # Panics
/// If the mesh does not come about, does not notice the fault, or does not recover.
#[track_caller]
pub fn under_load(fault: Fault) -> Met {
    let (mut mesh, mut services, _) = start(if fault == Fault::Cut { "cut" } else { "kill" }, true);
    mesh.wait_until_whole(PATIENCE);
    wait_until(PATIENCE, "every host serves", || {
        http_answers(mesh.host(0));
        services.iter().step_by(2).all(|service| served(service) > 0)
    });
    let load = OpenLoop::new("http://orders.mesh/", RATE, LOAD).start_on(mesh.host(0));
    let before = served_by_all(&services);
    wait_until(PATIENCE, "some seconds of calm", || served_by_all(&services) >= before + CALM);

    let (at, since) = (SystemTime::now(), Instant::now());
    match fault {
        Fault::Cut => mesh.host(VICTIM).link_down(),
        Fault::Kill => mesh.kill9(VICTIM),
    }
    wait_until(PATIENCE, "the host is listed down", || mesh.state(0, VICTIM).as_deref() == Some("down"));
    let listed_down = since.elapsed();

    let returned = Instant::now();
    match fault {
        Fault::Cut => mesh.host(VICTIM).link_up(),
        Fault::Kill => {
            services.truncate(2 * (VICTIM - 1));
            services.extend(serve(mesh.host(VICTIM)));
            mesh.start_agent(VICTIM);
        }
    }
    let service = &services[2 * (VICTIM - 1)];
    let before = served(service);
    wait_until(PATIENCE, "the host serves again", || served(service) > before);
    let back_in_service = returned.elapsed();

    let report = load.report();
    let last_failure = report.failures.last().map(|failure| {
        let fault = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_secs_f64(report.unix_ms(failure.at_ms) / 1000.0).saturating_sub(fault)
    });
    Met {
        sent: report.sent,
        failed: report.failed,
        longest: Duration::from_secs_f64(report.max_ms / 1000.0),
        last_failure,
        listed_down,
        back_in_service,
        report,
    }
}

/// Five hosts; all but the first one offer `orders`, a plain HTTP server, and `echo`, plain TCP.
fn start(name: &str, captured: bool) -> (MeshOfHosts, Vec<Process>, Instant) {
    let mut plan = MeshPlan::new(name, HOSTS);
    if captured {
        plan = plan.unprivileged().captured();
    }
    let mesh = plan.start(|number, node| {
        if !captured {
            // What `capture install` would have led to the node: the host's resolver asks it directly.
            node.set("dns.listen", "127.0.0.1:53");
        }
        if number > 0 {
            node.service("orders", "127.0.0.1:8080").protocol("http").port(80);
            node.service("echo", "127.0.0.1:7007").protocol("tcp").port(7);
        }
    });
    let started = Instant::now();
    if !captured {
        let resolv_conf = mesh.host(0).resolv_conf();
        std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").expect("a host's resolv.conf can be written");
    }
    let services = (1..HOSTS).flat_map(|number| serve(mesh.host(number))).collect();
    (mesh, services, started)
}

/// The plain programs of one host: they know nothing of the mesh.
fn serve(host: &Host) -> [Process; 2] {
    let echo = "while :; do nc.traditional -l -s 127.0.0.1 -p 7007 -e /bin/cat; done";
    [
        host.spawn(Program::new("python3").args(["-u", "-m", "http.server", "8080", "--bind", "127.0.0.1"])),
        host.spawn(Program::new("sh").args(["-c", echo])),
    ]
}

/// How many requests a service has logged.
fn served(service: &Process) -> usize {
    service.log().matches("\"GET ").count()
}

fn served_by_all(services: &[Process]) -> usize {
    services.iter().step_by(2).map(served).sum()
}

fn http_answers(host: &Host) -> bool {
    let output = host.run("curl", ["-s", "--max-time", "1", "http://orders.mesh/"]);
    output.stdout.contains("Directory listing")
}

fn echo_answers(host: &Host) -> bool {
    let output = host.run("sh", ["-c", "echo through the mesh | timeout 1 nc.traditional -q 1 echo.mesh 7"]);
    output.stdout.contains("through the mesh")
}

/// On a host of `mesh` a program holds port 80 on all addresses. It goes on serving its own callers. After the install
/// `orders.mesh:80` works all the same; without it the agent's log names the program.
///
/// # Panics
/// If that does not come about.
#[track_caller]
pub fn port_taken(mesh: &mut MeshOfHosts, captured: bool) {
    let program = |port: &str, says: &str| {
        let script = "import sys,http.server\n\
            class Says(http.server.BaseHTTPRequestHandler):\n    \
            def do_GET(self):\n        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[2].encode())\n\
            http.server.HTTPServer((sys.argv[3], int(sys.argv[1])), Says).serve_forever()";
        let address = if port == "80" { "0.0.0.0" } else { "127.0.0.1" };
        Program::new("python3").args(["-c", script, port, says, address]).clone()
    };
    // The agent is to start while the port is taken: without the install it would have taken the port itself.
    mesh.agent(0).terminate();
    mesh.agent(0).wait(PATIENCE);
    let _own = mesh.host(0).spawn(&program("80", "my own"));
    let _orders = mesh.host(1).spawn(&program("8080", "orders"));
    let get = |mesh: &MeshOfHosts, url: &str| mesh.host(0).run("curl", ["-s", "--max-time", "1", url]).stdout;
    wait_until(PATIENCE, "the program serves its own callers", || get(mesh, "http://127.0.0.1/") == "my own");
    mesh.start_agent(0);
    if captured {
        wait_until(PATIENCE, "orders answers by name", || get(mesh, "http://orders.mesh/") == "orders");
    } else {
        wait_until(PATIENCE, "the program is named", || {
            let log = mesh.agent(0).log();
            log.contains(":80 is not open to callers") && log.contains("python3")
        });
    }
    assert_eq!(get(mesh, "http://127.0.0.1/"), "my own", "the program is disturbed");
}
