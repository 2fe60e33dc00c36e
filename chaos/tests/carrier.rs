//! UDP is blocked between two hosts: TCP stands in for QUIC by itself, and goes when UDP is back. Each test prints its
//! figure.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use starling_chaos::{Host, MeshOfHosts, MeshPlan, OpenLoop, Process, Program, Report, wait_until};

/// Longer than anything here takes on a slow machine.
const SOON: Duration = Duration::from_secs(90);
/// What the mesh promises of the first request, and of those after UDP went.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
const GOES_ON: Duration = Duration::from_secs(2);
/// Requests a second.
const RATE: u32 = 100;

/// Two hosts: the first one calls `orders` on the second.
fn lay_out(name: &str) -> MeshOfHosts {
    MeshPlan::new(name, 2).lay_out(|number, node| {
        if number == 0 {
            node.listener("127.0.0.1:9001", "orders");
            node.listener("127.0.0.1:9002", "echo");
        } else {
            node.service("orders", "127.0.0.1:8080").protocol("http");
            node.service("echo", "127.0.0.1:8081").protocol("tcp");
        }
    })
}

fn serve(host: &Host) -> Process {
    let script = "import http.server\n\
        class Says(http.server.BaseHTTPRequestHandler):\n    \
        protocol_version = 'HTTP/1.1'\n    \
        log_message = lambda *a: None\n    \
        def do_GET(self):\n        self.send_response(200); self.send_header('content-length', '2'); self.end_headers(); \
        self.wfile.write(b'ok')\n\
        class Server(http.server.ThreadingHTTPServer):\n    request_queue_size = 512\n\
        Server(('127.0.0.1', 8080), Says).serve_forever()";
    let server = host.spawn(Program::new("python3").args(["-c", script]));
    wait_until(SOON, "the service answers on its own host", || get(host, "8080"));
    server
}

fn get(host: &Host, port: &str) -> bool {
    let url = format!("http://127.0.0.1:{port}/");
    host.run("curl", ["-sf", "--max-time", "5", &url]).stdout == "ok"
}

/// No datagram comes in on this host but those of its own, or `ports` alone are shut.
fn block_udp(host: &Host, only: &str) {
    let rules = format!(
        "add table inet fw; add chain inet fw in {{ type filter hook input priority 0; }}; \
         add rule inet fw in iifname eth0 meta l4proto udp {only} drop"
    );
    host.run("nft", [&rules]).expect_success("the firewall stands");
}

fn open_udp(host: &Host) {
    host.run("nft", ["delete table inet fw"]).expect_success("the firewall is gone");
}

fn status(mesh: &MeshOfHosts, number: usize) -> Value {
    serde_json::from_str(&mesh.starling(number, &["status", "-o", "json"]).stdout).unwrap_or_default()
}

fn is_by_tcp(mesh: &MeshOfHosts, number: usize, other: &str) -> bool {
    status(mesh, number)["hop"]["by_tcp"].as_array().is_some_and(|names| names.iter().any(|name| name == other))
}

/// How long after `moment` all requests were answered in time again: from when on none failed, or took longer than half a
/// second.
fn disturbed_for(report: &Report, moment: SystemTime) -> Duration {
    let moment = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0;
    let ended = report.requests.iter().filter(|(_, latency, status)| *status == 0 || *latency > 500.0);
    let ends = ended.map(|(at, latency, _)| report.unix_ms(at + latency) - moment);
    Duration::from_secs_f64(ends.fold(0.0, f64::max) / 1000.0)
}

#[test]
fn where_udp_is_blocked_from_the_start_nodes_admit_each_other_and_the_first_request_is_answered_in_a_second() {
    let mut mesh = lay_out("notudp");
    block_udp(mesh.host(1), "");
    let _server = serve(mesh.host(1));
    (0..2).for_each(|number| mesh.start_agent(number));
    mesh.wait_until_whole(SOON);
    wait_until(SOON, "the service is known", || mesh.starling(0, &["endpoints", "orders"]).stdout.contains("node-1"));
    let began = Instant::now();
    assert!(get(mesh.host(0), "9001"), "{}", mesh.agent(0).log());
    let took = began.elapsed();
    println!("UDP blocked at the start: first request after {took:?}");
    assert!(took <= FIRST_REQUEST, "{took:?}");
    wait_until(SOON, "status names the peer", || is_by_tcp(&mesh, 0, "node-1"));
    assert!(mesh.agent(0).log().contains("peer is reached over TCP only"));
    let report = OpenLoop::new("http://127.0.0.1:9001/", RATE, Duration::from_secs(20)).start_on(mesh.host(0)).report();
    assert_eq!(report.failed, 0, "{report}");
    assert!(
        [(0, 1), (1, 0)].iter().all(|(by, of)| mesh.state(*by, *of).as_deref() == Some("alive")),
        "they keep each other alive without any datagram"
    );
    let found = mesh.starling(0, &["check"]).stdout;
    assert!(found.contains("reached over TCP only: node-1"), "{found}");
}

#[test]
fn where_udp_is_blocked_under_load_traffic_goes_on_within_two_seconds_and_moves_back_without_losing_a_request() {
    let mut mesh = lay_out("midudp");
    let _server = serve(mesh.host(1));
    (0..2).for_each(|number| mesh.start_agent(number));
    mesh.wait_until_whole(SOON);
    wait_until(SOON, "the first request is answered", || get(mesh.host(0), "9001"));
    assert!(!is_by_tcp(&mesh, 0, "node-1"));

    let load = OpenLoop::new("http://127.0.0.1:9001/", RATE, Duration::from_secs(10)).start_on(mesh.host(0));
    let began = Instant::now();
    wait_until(SOON, "some seconds of calm", || began.elapsed() > Duration::from_secs(3));
    let blocked = SystemTime::now();
    block_udp(mesh.host(1), "");
    let report = load.report();
    let disturbed = disturbed_for(&report, blocked);
    println!("UDP blocked under load: disturbed for {disturbed:?}, {} of {} failed", report.failed, report.sent);
    assert!(disturbed <= GOES_ON, "{disturbed:?}: {report}");
    assert_eq!(report.failed, 0, "what may be repeated is repeated: {report}");
    assert!(is_by_tcp(&mesh, 0, "node-1"), "{}", status(&mesh, 0));

    let load = OpenLoop::new("http://127.0.0.1:9001/", RATE, Duration::from_secs(30)).start_on(mesh.host(0));
    open_udp(mesh.host(1));
    let opened = Instant::now();
    wait_until(SOON, "QUIC is back", || !is_by_tcp(&mesh, 0, "node-1"));
    let back = opened.elapsed();
    wait_until(SOON, "nothing runs over TCP", || status(&mesh, 0)["hop"]["connections"]["tcp"] == 0);
    println!("UDP open again: QUIC is back after {back:?}, the last TCP connection gone after {:?}", opened.elapsed());
    assert!(mesh.agent(0).log().contains("peer is reached over QUIC again"));
    let report = load.report();
    println!("while it moved back: {report}");
    assert_eq!(report.failed, 0, "{report}");
}

/// An echo of TCP.
const ECHO: &str = "import socketserver\n\
    class Echo(socketserver.BaseRequestHandler):\n    \
    def handle(self):\n        while data := self.request.recv(4096): self.request.sendall(data)\n\
    class Server(socketserver.ThreadingTCPServer):\n    allow_reuse_address = daemon_threads = True\n\
    Server(('127.0.0.1', 8081), Echo).serve_forever()";

/// Says something every 20 ms on one connection, on another when that breaks; says at the end the longest time between two answers, in
/// seconds, and how many connections it took.
const TALK: &str = "import socket, sys, time\n\
    end, last, longest, count, line = time.time() + float(sys.argv[1]), None, 0.0, 0, None\n\
    while time.time() < end:\n    try:\n        if line is None:\n            \
    line = socket.create_connection(('127.0.0.1', 9002), 20); count += 1\n        \
    line.sendall(b'hello')\n        if not line.recv(5): raise OSError('ended')\n        \
    now = time.time(); longest = max(longest, now - (last or now)); last = now\n    \
    except OSError:\n        line = None\n    time.sleep(0.02)\n\
    print(longest, count)";

#[test]
fn a_connection_of_opaque_tcp_that_is_in_use_when_udp_goes_breaks_in_time_and_the_next_one_works() {
    let mut mesh = lay_out("midtcp");
    let (_server, _echo) = (serve(mesh.host(1)), mesh.host(1).spawn(Program::new("python3").args(["-c", ECHO])));
    (0..2).for_each(|number| mesh.start_agent(number));
    mesh.wait_until_whole(SOON);
    let talks = |seconds: &str| {
        let said = mesh.host(0).run("python3", ["-c", TALK, seconds]).stdout;
        let mut words = said.split_whitespace().map(|word| word.parse::<f64>().unwrap_or_default());
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    };
    wait_until(SOON, "the echo answers", || talks("0.5").0 > 0.0);
    let (longest, connections) = std::thread::scope(|scope| {
        let talking = scope.spawn(|| talks("8"));
        let began = Instant::now();
        wait_until(SOON, "some seconds of calm", || began.elapsed() > Duration::from_secs(3));
        block_udp(mesh.host(1), "");
        talking.join().unwrap()
    });
    println!("UDP blocked under a connection of opaque TCP: no answer for {longest} s, {connections} connections");
    assert!(connections > 1.0, "it moved without breaking?");
    assert!(longest > 0.0 && longest <= GOES_ON.as_secs_f64(), "{longest} s");
}

#[test]
fn where_only_the_quic_port_is_blocked_the_mesh_is_whole_and_says_so() {
    let mut mesh = lay_out("quicport");
    (0..2).for_each(|number| block_udp(mesh.host(number), "udp dport 7947"));
    let _server = serve(mesh.host(1));
    (0..2).for_each(|number| mesh.start_agent(number));
    mesh.wait_until_whole(SOON);
    wait_until(SOON, "requests are answered", || get(mesh.host(0), "9001"));
    mesh.starling(0, &["check", "--wait", "--timeout", "60s"]).expect_success("nothing fails");
    assert!(mesh.starling(0, &["check"]).stdout.contains("reached over TCP only: node-1"));
}

#[test]
fn what_is_no_mesh_on_the_tcp_port_is_refused_and_counted() {
    let mut mesh = lay_out("tcpnoise");
    (0..2).for_each(|number| mesh.start_agent(number));
    mesh.wait_until_whole(SOON);
    let address = mesh.host(1).address();
    let plain = mesh.host(0).run("curl", ["-s", "--max-time", "5", &format!("http://{address}:7947/")]);
    assert!(!plain.status.success(), "{plain:?}");
    let stranger = mesh.host(0).run("curl", ["-sk", "--max-time", "5", &format!("https://{address}:7947/")]);
    assert!(!stranger.status.success(), "{stranger:?}");
    let refused = |reason: &str| status(&mesh, 1)["quic"][reason].as_u64().unwrap_or(0);
    wait_until(SOON, "plaintext is counted", || refused("noise") == 1);
    wait_until(SOON, "a stranger is counted", || refused("no-protocol") == 1);
    wait_until(SOON, "nothing else is wrong", || mesh.starling(0, &["check"]).status.success());
}
