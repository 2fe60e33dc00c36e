//! What is captured beside VIPs, on real hosts: ports, users, whole hosts and namespaces; who is taken for whom; what is shut; and that a
//! host whose agent is gone gets its connections through.
//!
//! Host 0 calls, host 1 offers `orders`, and host 2 has no agent: it is beyond the mesh.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use starling_chaos::{Host, MeshOfHosts, MeshPlan, NodeConfig, Output, Process, Program, binary, wait_until};

/// Longer than anything here takes on a slow machine.
const SOON: Duration = Duration::from_mins(1);

/// Says who called, where from and what was asked. `$1` is where it listens.
const SERVER: &str = r"
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        source = self.headers.get('starling-source', 'nobody')
        body = f'{sys.argv[2]} source={source} peer={self.client_address[0]} path={self.path}\n'.encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
address, port = sys.argv[1].rsplit(':', 1)
address = address.strip('[]')
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ':' in address else socket.AF_INET
Server((address, int(port)), Handler).serve_forever()
";

fn serve(host: &Host, address: &str, name: &str) -> Process {
    let server = host.spawn(Program::new("python3").args(["-c", SERVER, address, name]));
    let near = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    wait_until(SOON, "the server answers", || host.run("curl", ["-s", &format!("http://{near}/")]).status.success());
    server
}

/// Agents on hosts 0 and 1, which know `orders`; nothing is installed.
fn mesh(name: &str, mut complete: impl FnMut(usize, &mut NodeConfig)) -> (MeshOfHosts, Process) {
    let mut mesh = MeshPlan::new(name, 3).seeds(2).lay_out(|number, config| {
        if number == 1 {
            config.service("orders", "127.0.0.1:8080").port(80);
        }
        complete(number, config);
    });
    let orders = serve(mesh.host(1), "127.0.0.1:8080", "orders");
    (0..2).for_each(|number| mesh.start_agent(number));
    wait_until(SOON, "node-0 knows orders", || knows_orders(&mesh));
    (mesh, orders)
}

fn knows_orders(mesh: &MeshOfHosts) -> bool {
    mesh.starling(0, &["endpoints", "orders"]).stdout.contains("ready")
}

fn install(mesh: &MeshOfHosts, number: usize, arguments: &[&str]) -> Output {
    let config = mesh.node(number).config().display().to_string();
    mesh.starling(number, &[&["capture", "install", "-c", &config], arguments].concat())
}

/// A program of that user asks; what it gets, or nothing.
fn get_as(host: &Host, user: u32, url: &str) -> Option<String> {
    let user = user.to_string();
    let curl = ["--reuid", &user, "--clear-groups", "curl", "-s", "--noproxy", "*", "--max-time", "5", url];
    let output = host.run("setpriv", curl);
    output.status.success().then_some(output.stdout)
}

fn says(answer: Option<String>, words: &str) -> bool {
    answer.is_some_and(|answer| answer.contains(words))
}

/// How many connections beyond the mesh ended so.
fn passed(host: &Host, result: &str) -> u64 {
    let metrics = host.run("curl", ["-s", "http://127.0.0.1:4191/metrics"]).stdout;
    let series = format!("starling_passed_connections_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

fn rules(host: &Host) -> String {
    // Without the elements that expire.
    let all = host.run("nft", ["-s", "list", "ruleset"]).stdout;
    all.lines().filter(|line| !line.contains("elements = { ipv")).collect::<Vec<_>>().join("\n")
}

const WEB: u32 = 4001;
const ORDERS: &str = "http://10.78.0.2/";
const BEYOND: &str = "http://10.78.0.3/";

#[test]
fn a_chosen_port_of_a_chosen_user_is_captured_as_long_as_the_agent_runs_and_after_a_crash_again() {
    let (mut mesh, _orders) = mesh("choice", |_, _| {});
    let beyond = serve(mesh.host(2), "0.0.0.0:80", "beyond");
    let chosen = ["--port", "80", "--user", "4001"];
    install(&mesh, 0, &chosen).expect_success("install");
    let once = rules(mesh.host(0));
    install(&mesh, 0, &chosen).expect_success("install again");
    assert_eq!(rules(mesh.host(0)), once, "twice is once");
    let captured = |mesh: &MeshOfHosts| says(get_as(mesh.host(0), WEB, ORDERS), "orders source=");
    wait_until(SOON, "an address and port of the mesh lead to the service", || captured(&mesh));
    assert_eq!(get_as(mesh.host(0), 4002, ORDERS), None, "nobody listens there itself, and others are not captured");
    assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond source=nobody peer=10.78.0.1"), "passed on, as it was");
    assert_eq!((passed(mesh.host(0), "passed"), passed(mesh.host(0), "looped")), (1, 0));
    assert!(says(get_as(mesh.host(0), 4002, BEYOND), "beyond"));
    assert_eq!(passed(mesh.host(0), "passed"), 1, "the other user went there by itself");
    for (number, address) in [(0, "fd00::1/64"), (2, "fd00::3/64")] {
        mesh.host(number).run("ip", ["addr", "add", address, "dev", "eth0", "nodad"]).expect_success("an address");
    }
    // It takes both families on one port.
    drop(beyond);
    let _beyond = serve(mesh.host(2), "[::]:80", "beyond");
    assert!(says(get_as(mesh.host(0), WEB, "http://[fd00::3]/"), "beyond source=nobody peer=fd00::1"), "IPv6 too");
    assert_eq!(passed(mesh.host(0), "passed"), 2);
    let status = mesh.starling(0, &["capture", "status", "-o", "json"]);
    assert!(status.expect_success("status").contains("\"active\": true"), "{status:?}");

    mesh.agent(0).terminate();
    assert!(mesh.agent(0).wait(SOON).success());
    assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond"), "at once after a drain");
    mesh.start_agent(0);
    wait_until(SOON, "it is captured again", || captured(&mesh));

    mesh.agent(0).kill9();
    wait_until(SOON, "the flag has expired", || says(get_as(mesh.host(0), WEB, BEYOND), "beyond"));
    mesh.start_agent(0);
    wait_until(SOON, "the next start mends it", || captured(&mesh));

    mesh.starling(0, &["capture", "uninstall"]).expect_success("uninstall");
    mesh.starling(0, &["capture", "uninstall"]).expect_success("uninstall again");
    assert_eq!(rules(mesh.host(0)), "");
    assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond"));
}

#[test]
fn of_a_host_that_is_captured_whole_the_agents_own_traffic_is_not_and_what_is_unknown_is_refused() {
    let (mesh, _orders) = mesh("whole", |number, config| {
        if number == 1 {
            // The program behind it is on a third host: the agent dials it by the network.
            config.service("far", "10.78.0.3:80").port(81);
        }
        config.set("capture.unknown", "refuse");
    });
    let _beyond = serve(mesh.host(2), "0.0.0.0:80", "far");
    for number in 0..2 {
        install(&mesh, number, &["--all", "--exclude-port", "4444", "--exclude-cidr", "10.78.0.77"])
            .expect_success("install");
    }
    let far = || says(get_as(mesh.host(0), 0, "http://10.78.0.2:81/"), "far source=");
    wait_until(SOON, "a service behind the far agent answers", far);
    assert_eq!(get_as(mesh.host(0), 0, BEYOND), None, "the configuration refuses it");
    assert!(passed(mesh.host(0), "refused") >= 1);
    assert_eq!((passed(mesh.host(0), "looped"), passed(mesh.host(1), "looped")), (0, 0));
    assert!(passed(mesh.host(1), "refused") == 0, "what the agent of host 1 dials is not captured");
    let _excluded = serve(mesh.host(2), "0.0.0.0:4444", "excluded");
    assert!(says(get_as(mesh.host(0), 0, "http://10.78.0.3:4444/"), "excluded"), "not captured, so not refused");
    assert!(says(get_as(mesh.host(1), 0, "http://127.0.0.1:8080/"), "orders"), "loopback never is");
}

#[test]
fn an_agent_without_privilege_is_let_through_by_its_user_and_its_redirects_are_kept_by_another() {
    let mut mesh = MeshPlan::new("keep", 3).seeds(1).unprivileged().lay_out(|_, _| {});
    let _beyond = serve(mesh.host(2), "0.0.0.0:80", "beyond");
    mesh.start_agent(0);
    let ready = || mesh.starling(0, &["status"]).status.success();
    wait_until(SOON, "the agent runs", ready);
    install(&mesh, 0, &["--port", "80"]).expect_success("install");
    assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond"), "nobody holds it in force");
    assert_eq!(passed(mesh.host(0), "passed"), 0);
    let starling = mesh.net().within_reach(&binary::starling());
    let config = mesh.node(0).config().display().to_string();
    let mut keep = mesh.host(0).spawn(Program::new(&starling).args(["capture", "keep", "-c", &config]));
    wait_until(SOON, "its own connections are caught, and go no further", || {
        get_as(mesh.host(0), WEB, BEYOND).is_none() && passed(mesh.host(0), "looped") > 0
    });
    let check = mesh.starling(0, &["check"]);
    assert!(check.stdout.contains("own connections back to it"), "{check:?}");
    install(&mesh, 0, &["--port", "80", "--agent-user", "65534"]).expect_success("install with the agent's user");
    wait_until(SOON, "it is passed on", || says(get_as(mesh.host(0), WEB, BEYOND), "beyond"));
    wait_until(SOON, "by the agent", || {
        assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond"));
        passed(mesh.host(0), "passed") > 0
    });
    keep.terminate();
    assert!(keep.wait(SOON).success());
    let before = passed(mesh.host(0), "passed");
    assert!(says(get_as(mesh.host(0), WEB, BEYOND), "beyond"));
    assert_eq!(passed(mesh.host(0), "passed"), before, "no longer by the agent");
}

#[test]
fn a_shut_port_is_closed_to_other_hosts_and_open_to_this_one_and_the_mesh() {
    let (mesh, _orders) = mesh("shut", |number, config| {
        if number == 1 {
            config.service("plain", "127.0.0.1:9000").port(90);
        }
    });
    let _plain = serve(mesh.host(1), "0.0.0.0:9000", "plain");
    let bypass = "http://10.78.0.2:9000/";
    assert!(says(get_as(mesh.host(2), 0, bypass), "plain"));
    install(&mesh, 1, &["--shut", "9000"]).expect_success("install");
    let refused = mesh.host(2).run("curl", ["-s", "-S", "--max-time", "5", bypass]);
    assert!(refused.status.code() == Some(7) && !refused.stderr.contains("timed out"), "reset at once: {refused:?}");
    assert!(says(get_as(mesh.host(1), 0, "http://127.0.0.1:9000/"), "plain"));
    assert!(says(get_as(mesh.host(1), 0, bypass), "plain"), "by its own address too");
    let through = ["-s", "-x", "http://127.0.0.1:4140", "http://plain.mesh:90/"];
    wait_until(SOON, "the mesh still leads there", || {
        mesh.host(0).run("curl", through).stdout.contains("plain source=")
    });
    mesh.starling(1, &["capture", "uninstall"]).expect_success("uninstall");
    assert!(says(get_as(mesh.host(2), 0, bypass), "plain"));
}

/// Where control groups of version 2 are mounted on this machine.
fn control_groups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| line.split(' ').nth(1).filter(|_| line.contains(" cgroup2 ")));
    mount.expect("control groups of version 2").into()
}

/// A group of this test's own, gone with it.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Self {
        let path = control_groups().join(format!("starling-{}", std::process::id())).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What is not empty yet stays: no test can wait for it here.
        for group in self.0.ancestors().take(3) {
            let _ = fs::remove_dir(group);
        }
    }
}

#[test]
fn a_caller_is_known_by_listener_user_and_control_group_and_a_stranger_is_no_service() {
    let inner = Group::new("jobs/inner");
    let group = format!("/starling-{}/jobs", std::process::id());
    let (mesh, _orders) = mesh("attest", |number, config| {
        if number == 0 {
            config.service("web", "127.0.0.1:7001").set("user", "4001");
            config.service("api", "127.0.0.1:7002").set("user", 4002);
            config.service("jobs", "127.0.0.1:7003").set("cgroup", group.as_str());
            config.listener("127.0.0.1:9001", "orders").listener_of("127.0.0.1:9002", "orders", "batch");
        }
    });
    let host = mesh.host(0);
    let source = |user, url: &str| get_as(host, user, url).unwrap_or_default();
    let any = "http://127.0.0.1:9001/";
    let web = source(WEB, any);
    assert!(web.contains("svc/web"), "{web}");
    assert!(source(4002, any).contains("svc/api"));
    let stranger = source(4003, any);
    assert!(stranger.starts_with("orders") && !stranger.contains("svc/"), "{stranger}");
    assert!(!source(0, any).contains("svc/"), "root is nobody's service either");
    assert!(source(4003, "http://127.0.0.1:9002/").contains("svc/batch"), "the listener says so");
    let script = format!("echo $$ > {}/cgroup.procs && exec curl -s {any}", inner.0.display());
    let job = host.run("sh", ["-c", &script]).stdout;
    assert!(job.contains("svc/jobs"), "{job}");
    let through = host.run(
        "setpriv",
        ["--reuid=4001", "--clear-groups", "curl", "-s", "-x", "socks5h://127.0.0.1:4141", "http://orders.mesh/"],
    );
    assert!(through.stdout.contains("svc/web"), "{through:?}");
    // What a redirect brought is the caller's own just the same.
    install(&mesh, 0, &["--port", "80"]).expect_success("install");
    let vip = host.run("dig", ["@127.0.0.1", "-p", "5391", "+short", "orders.mesh"]).stdout;
    for url in [format!("http://{}/", vip.trim()), ORDERS.to_owned()] {
        wait_until(SOON, &url, || source(WEB, &url).contains("svc/web"));
        let stranger = source(4003, &url);
        assert!(stranger.starts_with("orders") && !stranger.contains("svc/"), "{stranger}");
    }
}

#[test]
fn the_programs_of_a_namespace_are_one_service_and_reach_what_they_reached() {
    let mut mesh = MeshPlan::new("netns", 2).seeds(2).lay_out(|number, config| {
        if number == 1 {
            config.service("orders", "127.0.0.1:8080").port(80);
        } else {
            config.service("api", "127.0.0.1:7002").set("user", 4002);
        }
    });
    let _orders = serve(mesh.host(1), "127.0.0.1:8080", "orders");
    let _beyond = serve(mesh.host(0), "0.0.0.0:80", "beyond");
    let host = mesh.host(0);
    let inside = host.spawn(Program::new("unshare").args(["--net", "sleep", "1000"]));
    let path = format!("/proc/{}/ns/net", inside.pid());
    let ours = host.run("readlink", ["/proc/self/ns/net"]).stdout;
    wait_until(SOON, "the namespace is there", || {
        host.run("readlink", [&path]).stdout != ours
            && host.run("cat", [format!("/proc/{}/comm", inside.pid())]).stdout == "sleep\n"
    });
    let pid = inside.pid().to_string();
    let within = |arguments: &[&str]| {
        let netns = format!("--net={path}");
        host.run("nsenter", [&[netns.as_str(), "--"], arguments].concat())
    };
    host.run("ip", ["link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", &pid])
        .expect_success("a cable");
    host.run("sh", ["-c", "ip addr add 10.99.0.1/24 dev v0 && ip link set v0 up"]).expect_success("its end here");
    let setup = "ip link set lo up && ip addr add 10.99.0.2/24 dev v1 && ip link set v1 up && ip route add default via 10.99.0.1";
    within(&["sh", "-c", setup]).expect_success("its end there");
    fs::write(host.resolv_conf(), "nameserver 127.77.0.53\n").unwrap();
    let config = mesh.node(0).config().to_owned();
    let text = fs::read_to_string(&config).unwrap()
        + &format!("\n[[capture.namespace]]\npath = \"{path}\"\nsource = \"api\"\n");
    fs::write(&config, &text).unwrap();
    (0..2).for_each(|number| mesh.start_agent(number));
    wait_until(SOON, "node-0 knows orders", || knows_orders(&mesh));
    install(&mesh, 0, &["--netns", &path]).expect_success("install");
    let host = mesh.host(0);
    let get = |url: &str| {
        let netns = format!("--net={path}");
        host.run("nsenter", [&netns, "--", "curl", "-s", "--max-time", "5", url]).stdout
    };
    for url in ["http://orders.mesh/", ORDERS] {
        wait_until(SOON, url, || get(url).starts_with("orders"));
        assert!(get(url).contains("svc/api"), "by the namespace, whatever its user: {}", get(url));
    }
    let beyond = get("http://10.99.0.1/");
    assert!(beyond.contains("peer=10.99.0.2"), "it leaves from the namespace: {beyond}");
    assert_eq!((passed(host, "passed"), passed(host, "looped")), (1, 0));
    assert_eq!(rules(host), "", "nothing is installed outside");

    mesh.agent(0).terminate();
    assert!(mesh.agent(0).wait(SOON).success());
    let host = mesh.host(0);
    let netns = format!("--net={path}");
    let direct = host.run("nsenter", [&netns, "--", "curl", "-s", "--max-time", "5", "http://10.99.0.1/"]).stdout;
    assert!(direct.contains("peer=10.99.0.2"), "after a drain: {direct}");
    mesh.starling(0, &["capture", "uninstall", "--netns", &path]).expect_success("uninstall");
    drop(inside);
    wait_until(SOON, "a namespace that is gone needs no uninstall", || {
        mesh.starling(0, &["capture", "uninstall", "--netns", &path]).status.success()
    });
    let missing = mesh.starling(0, &["validate", "-c", &config.display().to_string()]);
    assert!(
        missing.stderr.contains("capture.namespace[0].path") && missing.stderr.contains("cannot be opened"),
        "{missing:?}"
    );
}
