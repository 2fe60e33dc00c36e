//! The harness itself, on real namespaces of this machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use starling_chaos::{Host, Net, OpenLoop, Process, Program, binary, wait_until};

const SOON: Duration = Duration::from_secs(40);

/// Answers every connection on port 8000 with the host's number.
fn serve(host: &Host) -> Process {
    let script = format!(
        "import socket\ns = socket.create_server(('0.0.0.0', 8000), backlog=512)\nwhile True:\n  c, _ = s.accept()\n  c.recv(4096)\n  \
         c.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 1\\r\\n\\r\\n{}')\n  c.close()\n  print('served', flush=True)",
        host.number()
    );
    let server = host.spawn(Program::new("python3").args(["-c", &script]));
    wait_until(SOON, "the server answers on its own host", || fetch(host, host).is_some());
    server
}

/// How many requests it has answered.
fn served(server: &Process) -> usize {
    server.log().matches("served").count()
}

fn fetch(from: &Host, to: &Host) -> Option<String> {
    let url = format!("http://{}:8000/", to.address());
    let output = from.run("curl", ["-s", "--connect-timeout", "1", "--max-time", "10", &url]);
    output.status.success().then_some(output.stdout)
}

fn exists(pid: u32) -> bool {
    // A zombie runs no more; it only waits to be counted.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn hosts_reach_each_other_until_a_cable_is_pulled() {
    let net = Net::new("cable", 2);
    let _server = serve(net.host(1));
    assert_eq!(fetch(net.host(0), net.host(1)).as_deref(), Some("1"));
    net.host(1).link_down();
    assert_eq!(fetch(net.host(0), net.host(1)), None);
    assert_eq!(fetch(net.host(1), net.host(1)).as_deref(), Some("1"), "the host itself lives on");
    net.host(1).link_up();
    wait_until(SOON, "the host is back", || fetch(net.host(0), net.host(1)).is_some());
}

#[test]
fn a_partition_parts_only_its_sides_and_heals_when_dropped() {
    let net = Net::new("cut", 3);
    let _servers: Vec<Process> = net.hosts().iter().map(serve).collect();
    let reach = |from: usize, to: usize| fetch(net.host(from), net.host(to)).is_some();
    let cut = net.partition(&[0], &[1]);
    let other = net.one_way_cut(&[2], &[0]);
    assert!(!reach(0, 1) && !reach(1, 0));
    assert!(reach(1, 2) && reach(2, 1));
    drop(other);
    assert!(reach(2, 0) && !reach(1, 0), "one cut healed, the other stands");
    drop(cut);
    assert!(reach(0, 1) && reach(1, 0));
}

#[test]
fn kill9_ends_all_that_runs_on_a_host_and_nothing_else() {
    let net = Net::new("kill", 2);
    let mut other = net.host(0).spawn(Program::new("sleep").arg("1000"));
    // A child that leaves its parent's process group must go, too.
    let mut program = net.host(1).spawn(Program::new("sh").args(["-c", "setsid sleep 1000 & exec sleep 1000"]));
    wait_until(SOON, "both run", || net.host(1).process_count() == 2);
    net.host(1).kill9();
    wait_until(SOON, "the host is empty", || net.host(1).process_count() == 0);
    assert!(!program.wait(SOON).success());
    assert!(other.is_running());
    let _again = serve(net.host(1));
}

#[test]
fn a_stopped_process_stands_still_and_goes_on() {
    let net = Net::new("stop", 1);
    let mut server = serve(net.host(0));
    server.stop();
    assert_eq!(fetch(net.host(0), net.host(0)), None);
    assert!(server.is_running());
    server.cont();
    wait_until(SOON, "it goes on", || fetch(net.host(0), net.host(0)).is_some());
}

#[test]
fn each_host_has_a_loopback_and_a_resolv_conf_of_its_own() {
    let net = Net::new("own", 2);
    let outside = fs::read("/etc/resolv.conf").unwrap();
    fs::write(net.host(0).resolv_conf(), "nameserver 127.0.0.9\n").unwrap();
    assert_eq!(net.host(0).run("cat", ["/etc/resolv.conf"]).stdout, "nameserver 127.0.0.9\n");
    assert!(!net.host(1).run("cat", ["/etc/resolv.conf"]).stdout.contains("127.0.0.9"));
    assert_eq!(fs::read("/etc/resolv.conf").unwrap(), outside);
    assert!(net.host(0).run("ip", ["-br", "link", "show", "lo"]).stdout.contains("LOOPBACK,UP"));
}

#[test]
fn an_unprivileged_program_can_not_take_a_low_port_and_root_of_a_host_can() {
    let net = Net::new("user", 1);
    let mut bind = Program::new("/usr/bin/python3");
    bind.args(["-c", "import socket; socket.create_server(('127.0.0.1', 80))"]);
    net.host(0).run_program(&bind).expect_success("root binds port 80");
    let refused = net.host(0).run_program(bind.unprivileged());
    assert!(refused.stderr.contains("PermissionError"), "{refused:?}");
}

#[test]
fn the_load_finds_the_requests_that_a_dead_server_fails() {
    let net = Net::new("load", 2);
    let server = serve(net.host(1));
    let url = format!("http://{}:8000/", net.host(1).address());
    let good = OpenLoop::new(&url, 100, Duration::from_secs(1)).start_on(net.host(0)).report();
    assert_eq!((good.sent, good.failed), (100, 0), "{good}");
    let load = OpenLoop::new(&url, 100, Duration::from_secs(4)).start_on(net.host(0));
    wait_until(SOON, "requests of the second load are answered", || served(&server) > 110);
    drop(server);
    let report = load.report();
    assert_eq!(report.sent, 400);
    assert!(report.failed > 100 && report.failed < 400, "{report}");
    assert!(report.failures[0].error.contains("onnection"), "{report}");
    assert!(report.requests[0].2 == 200 && report.requests[399].2 == 0);
}

#[test]
fn latency_counts_from_when_a_request_was_due() {
    let net = Net::new("stall", 1);
    let mut server = serve(net.host(0));
    let load = OpenLoop::new("http://127.0.0.1:8000/", 50, Duration::from_secs(3)).start_on(net.host(0));
    wait_until(SOON, "requests are answered", || served(&server) > 10);
    server.stop();
    let paused = std::time::Instant::now();
    wait_until(SOON, "half a second of standstill", || paused.elapsed() > Duration::from_millis(500));
    server.cont();
    let report = load.report();
    assert_eq!(report.failed, 0, "{report}");
    assert!(report.max_ms > 400.0, "{report}");
    let late = report.requests.iter().filter(|(_, latency, _)| *latency > 50.0).count();
    assert!(late > 15, "a stall of half a second at 50 requests a second delays some 25, not {late}");
}

#[test]
fn nothing_stays_behind_even_after_a_panic() {
    let mut pids = Vec::new();
    let mut directory = Path::new("").to_owned();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let net = Net::new("panic", 2);
        directory = net.directory().to_owned();
        let stray = net.host(0).run("sh", ["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"]);
        let child = net.host(1).spawn(Program::new("sleep").arg("1000"));
        pids = vec![child.pid(), stray.stdout.trim().parse().unwrap()];
        assert!(pids.iter().all(|pid| exists(*pid)));
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    wait_until(SOON, "all processes are gone", || !pids.iter().any(|pid| exists(*pid)));
    assert!(!directory.exists());
}

#[test]
fn the_hosts_of_a_killed_process_end_with_it() {
    let mut owner = Command::new(binary::starling_chaos())
        .args(["hosts", "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().take(2);
    let pids: Vec<u32> = lines.map(|line| line.unwrap().parse().unwrap()).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| exists(*pid)));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let is_its_directory = |name: &str| name.starts_with(&format!("starling-hold-{}-", owner.id()));
    wait_until(SOON, "its files are gone", || {
        let names = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        !names.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| is_its_directory(&name))
    });
    wait_until(SOON, "its hosts are gone", || !pids.iter().any(|pid| exists(*pid)));
}

#[test]
fn an_ordinary_user_can_have_hosts_too() {
    let checked = Command::new("setpriv")
        .args(if nix::unistd::geteuid().is_root() {
            &["--reuid=65534", "--regid=65534", "--clear-groups", "--"][..]
        } else {
            &["--"]
        })
        .arg(binary::starling_chaos())
        .args(["hosts"])
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("in a user namespace"), "{said}");
}

#[test]
fn many_nets_stand_side_by_side() {
    let nets: Vec<Net> = (0..3).map(|number| Net::new(&format!("side-{number}"), 2)).collect();
    let _servers: Vec<Process> = nets.iter().map(|net| serve(net.host(1))).collect();
    assert_eq!(nets[0].host(1).address(), nets[1].host(1).address());
    assert!(nets.iter().all(|net| fetch(net.host(0), net.host(1)).is_some()));
}
