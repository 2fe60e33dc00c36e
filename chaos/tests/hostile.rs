//! Real agents among strangers who mean no good, and beside programs that treat them badly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use starling_chaos::{Host, MeshOfHosts, MeshPlan, Process, Program, binary, wait_until};

/// Far more than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);
/// What an agent may grow by while strangers knock.
const MAY_GROW: u64 = 4 << 20;

const PACKETS: &str = include_str!("hostile/packets.py");
const STREAMS: &str = include_str!("hostile/streams.py");
const REQUESTS: &str = include_str!("hostile/requests.py");

/// Host 0 calls `orders`, which host 1 offers; host 2 is a member that does neither. `orders` answers.
fn mesh(name: &str) -> (MeshOfHosts, Process) {
    let mesh = MeshPlan::new(name, 3).unprivileged().captured().start(|number, node| {
        if number == 1 {
            node.service("orders", "127.0.0.1:8080").protocol("http").port(80);
        }
    });
    let answer = "import http.server as h\n\
        class Orders(h.BaseHTTPRequestHandler):\n    \
        def do_GET(self):\n        self.send_response(200); self.send_header('content-length', '2'); self.end_headers(); \
        self.wfile.write(b'ok')\n\
        h.ThreadingHTTPServer(('127.0.0.1', 8080), Orders).serve_forever()";
    let orders = mesh.host(1).spawn(Program::new("python3").args(["-c", answer]));
    mesh.wait_until_whole(PATIENCE);
    wait_until(PATIENCE, "orders answers", || {
        mesh.host(0).run("curl", ["-s", "--max-time", "5", "http://orders.mesh/"]).stdout == "ok"
    });
    (mesh, orders)
}

fn python(script: &str, arguments: &[&str]) -> Program {
    let mut program = Program::new("python3");
    program.args(["-u", "-c", script]).args(arguments);
    program
}

/// Runs a program to its end and gives what it said last, in JSON.
fn said(host: &Host, program: &Program) -> Value {
    let mut process = host.spawn(program);
    let status = process.wait(PATIENCE);
    let log = process.log();
    assert!(status.success(), "{status}\n{log}");
    log.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_else(|| panic!("no figures: {log}"))
}

/// Requests without an end, one after the other.
struct Requests {
    process: Process,
    stop: PathBuf,
}

impl Requests {
    fn start(mesh: &MeshOfHosts) -> Self {
        let stop = mesh.host(0).directory().join("stop");
        let process = mesh.host(0).spawn(&python(REQUESTS, &["orders.mesh", "80", text(&stop)]));
        wait_until(PATIENCE, "requests are answered", || process.log().contains("serving"));
        Self { process, stop }
    }

    /// Ends them: none failed.
    fn end(mut self) {
        fs::write(&self.stop, "").unwrap();
        assert!(self.process.wait(PATIENCE).success(), "{}", self.process.log());
        let log = self.process.log();
        let end: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        println!("requests: {end}");
        assert_eq!(end["failed"], Value::Array(Vec::new()), "{end}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(mesh: &MeshOfHosts, number: usize, arguments: &[&str]) -> Value {
    let output = mesh.starling(number, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(output.expect_success("starling")).unwrap()
}

/// What `starling status` counts under a name.
fn counts(mesh: &MeshOfHosts, number: usize, name: &str) -> BTreeMap<String, u64> {
    serde_json::from_value(json(mesh, number, &["status"])[name].clone()).unwrap()
}

/// Datagrams that were refused on the gossip port.
fn refused(mesh: &MeshOfHosts, number: usize) -> u64 {
    counts(mesh, number, "rejected")
        .iter()
        .filter(|(name, _)| name.starts_with("datagram/"))
        .map(|(_, count)| count)
        .sum()
}

/// All that is not to change: who is there, in which boot, and what is offered.
fn beliefs(mesh: &MeshOfHosts) -> Vec<Value> {
    let members = |number| {
        let mut members = json(mesh, number, &["members"]);
        for member in members.as_array_mut().unwrap() {
            let member = member.as_object_mut().unwrap();
            // Told from how long ago it was: it may round either way.
            member.remove("since");
            // How busy its host is, and how often it said that it lives, are its own affair.
            member.remove("load");
            member.remove("incarnation");
        }
        members
    };
    (0..3).flat_map(|number| [members(number), json(mesh, number, &["services"])]).collect()
}

/// Resident bytes of an agent.
fn resident(mesh: &mut MeshOfHosts, number: usize) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mesh.agent(number).pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Files and sockets that an agent has open.
fn descriptors(mesh: &mut MeshOfHosts, number: usize) -> usize {
    fs::read_dir(format!("/proc/{}/fd", mesh.agent(number).pid())).unwrap().count()
}

/// One round of all that strangers send. Gives how many datagrams went to the ports of host 1.
fn strangers(mesh: &MeshOfHosts, caught: &Path, stranger: &Path, garbage: &str) -> (u64, u64) {
    let victim = mesh.host(1).address().to_string();
    let attacker = mesh.host(2);
    let rounds = [
        said(attacker, &python(PACKETS, &["garbage", &victim, garbage])),
        said(attacker, &python(PACKETS, &["altered", text(caught), &victim])),
    ];
    let elsewhere = mesh.host(0).address().to_string();
    said(attacker, &python(PACKETS, &["elsewhere", text(caught), &elsewhere]));
    let other = mesh.net().directory().join("other-ca");
    let address = format!("{victim}:7947");
    let mut knocks = attacker.spawn(Program::new(stranger).args([address.as_str(), text(&other), "5"]));
    assert!(knocks.wait(PATIENCE).success(), "{}", knocks.log());
    let sum = |port: &str| rounds.iter().map(|round| round[port].as_u64().unwrap()).sum();
    (sum("gossip"), sum("quic"))
}

#[test]
fn what_strangers_send_to_both_udp_ports_is_refused_and_counted_and_changes_nothing() {
    let (mut mesh, _orders) = mesh("udp");
    let other = mesh.net().directory().join("other-ca");
    let starling = binary::starling();
    let init = ["ca", "init", "--trust-domain", "chaos.example", "--dir", text(&other)];
    mesh.host(2).run(&starling, init).expect_success("ca init");
    let stranger = mesh.net().within_reach(&binary::example("starling-transport", "stranger"));
    let requests = Requests::start(&mesh);

    let caught = mesh.host(1).directory().join("caught");
    let victim = mesh.host(1).address().to_string();
    let mut catch = mesh.host(1).spawn(&python(PACKETS, &["catch", text(&caught), &victim, "24", "40"]));
    assert!(catch.wait(PATIENCE).success(), "{}", catch.log());

    // A first round, so that what is set up once is there before memory is looked at.
    strangers(&mesh, &caught, &stranger, "50");
    let (before, memory) = (beliefs(&mesh), resident(&mut mesh, 1));
    let (gossip_before, quic_before) = (refused(&mesh, 1), counts(&mesh, 1, "quic"));
    let (gossip, quic) = strangers(&mesh, &caught, &stranger, "1500");
    wait_until(PATIENCE, "every datagram to the gossip port is counted", || {
        refused(&mesh, 1) >= gossip_before + gossip
    });

    let rejected = counts(&mesh, 1, "rejected");
    println!("sent: {gossip} and {quic}\nrejected: {rejected:?}\nquic: {:?}", counts(&mesh, 1, "quic"));
    for reason in ["size", "version", "epoch", "unsealed", "replay"] {
        assert!(rejected.get(&format!("datagram/{reason}")).is_some_and(|count| *count > 0), "{reason}: {rejected:?}");
    }
    let elsewhere = counts(&mesh, 0, "rejected");
    assert!(elsewhere["datagram/wrong-destination"] > 0, "{elsewhere:?}");
    let more = |reason: &str| counts(&mesh, 1, "quic")[reason] - quic_before[reason];
    for (reason, times) in [("no-certificate", 10), ("unknown-issuer", 10), ("no-protocol", 5)] {
        wait_until(PATIENCE, reason, || more(reason) >= times);
    }
    // Of garbage nearly all; the rest, and what was altered, passes for QUIC by its header.
    wait_until(PATIENCE, "noise is counted", || more("noise") >= quic / 3);
    let metrics = mesh.host(1).run("curl", ["-s", "http://127.0.0.1:4191/metrics"]).stdout;
    for line in [
        "starling_gossip_rejected_total{reason=\"datagram/unsealed\"} ",
        "starling_gossip_rejected_total{reason=\"datagram/replay\"} ",
        "starling_quic_refused_total{reason=\"no-certificate\"} ",
        "starling_quic_refused_total{reason=\"noise\"} ",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let log = mesh.agent(1).log();
    assert!(log.lines().count() < 200, "a stranger fills the log:\n{log}");
    wait_until(PATIENCE, "all is as it was", || beliefs(&mesh) == before);
    let grown = resident(&mut mesh, 1).saturating_sub(memory);
    println!("grown by {} KiB", grown >> 10);
    assert!(grown <= MAY_GROW, "{grown} bytes more");
    requests.end();
}

#[test]
fn a_node_of_another_authority_gets_nowhere_and_its_log_says_why() {
    let (mesh, _orders) = mesh("other");
    let net = mesh.net();
    let other = net.directory().join("other-ca");
    let starling = net.within_reach(&binary::starling());
    let run = |arguments: &[&str]| mesh.host(2).run(&starling, arguments).expect_success("starling").to_owned();
    run(&["ca", "init", "--trust-domain", "chaos.example", "--dir", text(&other)]);
    let identity = net.directory().join("other-identity");
    run(&["ca", "issue", "--dir", text(&other), "--name", "node-9", "--out", text(&identity)]);
    let (before, quic) = (beliefs(&mesh), counts(&mesh, 1, "quic"));
    let data = net.directory().join("other-data");
    let address = mesh.host(2).address();
    let seed = format!("{}:7947", mesh.host(1).address());
    let settings = [
        format!("node.data_dir={}", text(&data)),
        format!("identity.dir={}", text(&identity)),
        format!("admin.socket={}", text(&data.join("admin.sock"))),
        format!("mesh.advertise={address}"),
        format!("mesh.seeds={seed}"),
        "mesh.gossip_port=8946".to_owned(),
        "mesh.quic_port=8947".to_owned(),
    ];
    let mut program = Program::new(&starling);
    program.arg("agent").args(settings.iter().flat_map(|setting| ["--set", setting]));
    let stranger = mesh.host(2).spawn(&program);
    wait_until(PATIENCE, "it says why", || stranger.log().contains("another certificate authority"));
    let refused = |quic: &BTreeMap<String, u64>| quic.values().sum::<u64>();
    wait_until(PATIENCE, "the mesh counts it", || refused(&counts(&mesh, 1, "quic")) > refused(&quic));
    wait_until(PATIENCE, "all is as it was", || beliefs(&mesh) == before);
}

#[test]
fn programs_that_treat_their_node_badly_are_refused_and_the_others_served() {
    let (mut mesh, _orders) = mesh("tcp");
    let requests = Requests::start(&mesh);
    let before = descriptors(&mut mesh, 0);

    let answers = said(mesh.host(0), &python(STREAMS, &["abuse", "4140", "4191", "5391"]));
    println!("{answers:#}");
    for (kind, answer) in answers.as_object().unwrap() {
        let answer = answer.as_str().unwrap();
        // Whoever goes on sending after the answer may lose it: that is TCP.
        let word = |status: &str| answer.starts_with(&format!("HTTP/1.1 {status} ")) || answer.is_empty();
        assert!(["400", "404", "414", "431"].into_iter().any(word), "{kind}: {answer}");
    }

    // As slow as can be: heads that never end, silence, lengths without what they announce.
    let [held, release] = ["held", "release"].map(|name| mesh.host(0).directory().join(name));
    let kinds = [
        r"4191:300:GET /metr",
        r"4140:1500:GET http://orders.mesh/ HTTP/1.1\r\nhost: ord",
        r"4140:500:",
        r"4150:500:",
        r"5391:200:\x00\x40\x01",
    ];
    let hold = python(STREAMS, &[&["hold", text(&held), text(&release)][..], &kinds].concat());
    let mut hold = mesh.host(0).spawn(&hold);
    wait_until(PATIENCE, "thousands of connections are held", || held.exists() || !hold.is_running());
    assert!(hold.is_running(), "{}", hold.log());
    println!("descriptors: {before}, then {}", descriptors(&mut mesh, 0));
    let get = |url: &str| mesh.host(0).run("curl", ["-s", "--max-time", "25", url]).stdout;
    assert_eq!(get("http://orders.mesh/"), "ok");
    assert_eq!(json(&mesh, 0, &["status"])["node"]["name"], "node-0");
    wait_until(PATIENCE, "health is told all the same", || get("http://127.0.0.1:4191/live").contains("live"));
    fs::write(&release, "").unwrap();
    assert!(hold.wait(PATIENCE).success(), "{}", hold.log());
    wait_until(PATIENCE, "all of them are let go", || descriptors(&mut mesh, 0) <= before + 16);
    assert!(mesh.agent(0).is_running());
    requests.end();
}

#[test]
fn connections_that_programs_hold_do_not_keep_their_node_from_serving_others() {
    let (mut mesh, _orders) = mesh("few");
    mesh.agent(1).terminate();
    mesh.agent(1).wait(PATIENCE);
    // A host that grants few descriptors.
    let agent =
        format!("ulimit -n 300; exec {} agent -c {}", binary::starling().display(), text(mesh.node(1).config()));
    let agent = mesh.host(1).spawn(Program::new("sh").args(["-c", &agent]).unprivileged());
    wait_until(PATIENCE, "it is back", || mesh.state(0, 1).as_deref() == Some("alive"));
    let get = || mesh.host(0).run("curl", ["-s", "--max-time", "25", "http://orders.mesh/"]).stdout;
    wait_until(PATIENCE, "it serves", || get() == "ok");
    let [held, release] = ["held", "release"].map(|name| mesh.host(1).directory().join(name));
    let hold = python(STREAMS, &["hold", text(&held), text(&release), "4140:600:"]);
    let _hold = mesh.host(1).spawn(&hold);
    wait_until(PATIENCE, "hundreds are held", || held.exists());
    for _ in 0..20 {
        assert_eq!(get(), "ok", "{}", agent.log());
    }
    assert!(!agent.log().contains("Too many open files"), "{}", agent.log());
    fs::write(&release, "").unwrap();
}

#[test]
fn health_is_told_while_others_ask_and_never_read() {
    let (mut mesh, _orders) = mesh("deaf");
    let ask = r"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2_000);
    let [held, release] = ["held", "release"].map(|name| mesh.host(0).directory().join(name));
    let kind = format!("4191:80:{ask}");
    let _hold = mesh.host(0).spawn(&python(STREAMS, &["hold", text(&held), text(&release), &kind]));
    let live = || mesh.host(0).run("curl", ["-s", "--max-time", "25", "http://127.0.0.1:4191/live"]).stdout;
    wait_until(PATIENCE, "somebody asks", || {
        mesh.host(0).run("ss", ["-Htn", "sport", "=", ":4191"]).stdout.lines().count() > 60
    });
    wait_until(PATIENCE, "health is told", || live().contains("live"));
    let log = mesh.agent(0).log();
    assert!(!log.contains("taken for dead"), "what is asked of the node keeps it from gossip:\n{log}");
    fs::write(&release, "").unwrap();
}

#[test]
fn a_second_agent_on_one_data_directory_is_refused_and_a_bad_file_starts_nothing() {
    let (mut mesh, _orders) = mesh("double");
    let before = beliefs(&mesh);
    let config = mesh.node(1).config().to_owned();
    let second = |settings: &[&str]| {
        let mut program = Program::new(binary::starling());
        program.args(["agent", "-c", text(&config)]).args(settings.iter().flat_map(|setting| ["--set", setting]));
        let output = mesh.host(1).run_program(&program);
        (output.status.code(), output.stdout, output.stderr)
    };
    let (code, _, error) = second(&[]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("mesh.quic_port: ") && error.contains("hint: "), "{error}");
    let socket = format!("admin.socket={}", text(&mesh.host(1).directory().join("second.sock")));
    let elsewhere = [
        "mesh.quic_port=8947",
        "mesh.gossip_port=8946",
        "admin.listen=off",
        "dns.listen=off",
        "proxy.http=off",
        "capture.listen=off",
        &socket,
    ];
    let (code, _, error) = second(&elsewhere);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("is in use by another node") && error.contains("node.data_dir"), "{error}");

    let untouched = mesh.host(1).directory().join("untouched");
    let data = format!("node.data_dir={}", text(&untouched));
    let bad = [&elsewhere[..], &[&data, "defaults.timeout=soon"]].concat();
    let (code, _, error) = second(&bad);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("defaults.timeout: ") && error.contains("hint: "), "{error}");
    assert!(!untouched.exists(), "a bad file started something");
    let taken =
        [&elsewhere[..3], &["proxy.http=off", "capture.listen=off", &socket, &data, "dns.listen=127.0.0.1:5391"]]
            .concat();
    let (code, _, error) = second(&taken);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("dns.listen: ") && error.contains("hint: "), "{error}");
    assert!(!untouched.exists(), "half a node was started");
    assert!(mesh.agent(1).is_running());
    wait_until(PATIENCE, "all is as it was", || beliefs(&mesh) == before);
}
