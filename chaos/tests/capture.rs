//! `capture::install` on real hosts: an ordinary user's node behind it, and programs that know nothing.
//!
//! What must run inside a host is this test binary once more, with [`ROLE`] saying which part it plays.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use starling::capture::{
    CaptureConfig, VipListeners, answer_probe, install, is_probe, original_destination, redirect_works, status,
    uninstall,
};
use starling::dns::{DnsServer, Upstreams, VipRange, VipTable, Zone};
use starling_chaos::{Host, Net, Output, Process, Program, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const ROLE: &str = "STARLING_TEST_ROLE";
const SOON: Duration = Duration::from_secs(40);

/// This binary as a program that plays a part.
fn role(net: &Net, role: &str) -> Program {
    let mut program = Program::new(net.within_reach(&env::current_exe().unwrap()));
    program.args(["--exact", "plays_its_role", "--ignored", "--nocapture"]).env(ROLE, role);
    program
}

fn play(net: &Net, part: &str) -> Output {
    net.host(0).run_program(&role(net, part))
}

#[test]
#[ignore = "the other tests run this inside their hosts"]
fn plays_its_role() {
    let role = env::var(ROLE).expect("a role to play");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = CaptureConfig::default();
    match &role[..] {
        "install" => println!("{:?}", install(&config).unwrap_or_else(|error| panic!("{error}"))),
        "uninstall" => uninstall(&config).unwrap_or_else(|error| panic!("{error}")),
        "status" => {
            let status = status(&config);
            println!("redirect={} resolver={}", status.redirect.unwrap(), status.resolver.unwrap().unwrap());
        }
        "probe" => println!("works={}", runtime.block_on(redirect_works(VipRange::default()))),
        "node" => runtime.block_on(node()),
        "resolver" => runtime.block_on(resolver()),
        "listen" => {
            let address = SocketAddrV4::new(vips().vip_of(&"orders".parse().unwrap()).unwrap(), 80);
            let failed = VipListeners::new().update(&BTreeSet::from([address])).failed;
            for error in failed {
                println!("{error}");
            }
        }
        other => panic!("no role {other}"),
    }
}

fn vips() -> VipTable {
    let vips = VipTable::in_memory(VipRange::default());
    vips.observe(&["orders".parse().unwrap()], SystemTime::now());
    vips
}

/// The part of a node that matters here: names, and an answer that tells where a captured connection wanted to go.
async fn node() {
    let vips = Arc::new(vips());
    let zone = Zone::try_new("mesh", Arc::clone(&vips)).unwrap();
    let upstreams = Upstreams::system(Path::new("/etc/resolv.conf"), vips.range());
    let dns = DnsServer::bind("127.0.0.1:5391".parse().unwrap(), zone, upstreams).await.unwrap();
    tokio::spawn(dns.run(CancellationToken::new()));
    let listener = TcpListener::bind("127.0.0.1:4150").await.unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let SocketAddr::V4(destination) = original_destination(&stream).unwrap() else { continue };
        if is_probe(vips.range(), destination) {
            answer_probe(stream).await.unwrap();
            continue;
        }
        let body = format!("{:?} {}", vips.service_of(*destination.ip()), destination.port());
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

/// The host's own resolver: it knows `orders.example` and nothing else.
async fn resolver() {
    let zone = Zone::try_new("example", Arc::new(vips())).unwrap();
    let dns = DnsServer::bind("127.0.0.9:53".parse().unwrap(), zone, Upstreams::Refuse).await.unwrap();
    dns.run(CancellationToken::new()).await;
}

fn get(host: &Host, url: &str) -> Option<String> {
    let output = host.run("curl", ["-s", "--max-time", "5", url]);
    output.status.success().then_some(output.stdout)
}

fn web_server(host: &Host) -> Process {
    let server = host.spawn(Program::new("python3").args(["-m", "http.server", "80", "--bind", "0.0.0.0"]));
    wait_until(SOON, "the web server answers", || get(host, "http://127.0.0.1/").is_some());
    server
}

const ORIGINAL: &str = "# the host's own\nnameserver 127.0.0.9\noptions timeout:2";

#[test]
fn after_the_install_an_unprivileged_node_gets_what_goes_to_a_vip_and_a_program_on_port_80_is_left_alone() {
    let net = Net::new("redirect", 1);
    let host = net.host(0);
    let _bystander = web_server(host);
    fs::write(host.resolv_conf(), ORIGINAL).unwrap();
    let _resolver = host.spawn(&role(&net, "resolver"));
    play(&net, "install").expect_success("install");
    play(&net, "install").expect_success("install again");
    assert!(play(&net, "status").stdout.contains("redirect=true resolver=true"));
    assert!(play(&net, "probe").stdout.contains("works=false"), "no node is there yet");
    assert_eq!(get(host, "http://127.77.9.9/"), None, "and without one, nobody else answers for it");

    let _node = host.spawn(role(&net, "node").unprivileged());
    wait_until(SOON, "the node is found", || play(&net, "probe").stdout.contains("works=true"));
    assert_eq!(get(host, "http://orders.mesh/").as_deref(), Some("Some(ServiceName(orders)) 80"));
    assert_eq!(get(host, "http://ORDERS.default.mesh:9999/").as_deref(), Some("Some(ServiceName(orders)) 9999"));
    assert!(
        get(host, "http://127.0.0.1/").unwrap().contains("Directory listing"),
        "the program on port 80 has its port"
    );

    let vip = vips().vip_of(&"orders".parse().unwrap()).unwrap().to_string();
    let resolve = |name: &str| host.run("getent", ["ahostsv4", name]).stdout;
    assert!(resolve("orders.mesh").starts_with(&vip));
    assert!(resolve("orders.example").starts_with(&vip), "other names go to the host's own resolver");
    assert_eq!(resolve("nobody.mesh"), "");

    play(&net, "uninstall").expect_success("uninstall");
    play(&net, "uninstall").expect_success("uninstall again");
    assert_eq!(fs::read_to_string(host.resolv_conf()).unwrap(), ORIGINAL);
    assert_eq!(host.run("cat", ["/etc/resolv.conf"]).stdout, ORIGINAL);
    assert_eq!(host.run("nft", ["list", "ruleset"]).stdout, "");
    assert!(get(host, &format!("http://{vip}/")).unwrap().contains("Directory listing"), "as before the install");
}

#[test]
fn names_still_resolve_by_the_originals_when_the_node_is_gone() {
    let net = Net::new("gone", 1);
    let host = net.host(0);
    fs::write(host.resolv_conf(), ORIGINAL).unwrap();
    let _resolver = host.spawn(&role(&net, "resolver"));
    play(&net, "install").expect_success("install");
    let resolve = || host.run("getent", ["ahostsv4", "orders.example"]);
    wait_until(SOON, "the host's resolver answers", || resolve().status.success());
}

#[test]
fn without_the_install_a_program_on_port_80_is_named_and_a_low_port_gets_a_hint() {
    let net = Net::new("collision", 1);
    let refused = net.host(0).run_program(role(&net, "listen").unprivileged()).stdout;
    assert!(refused.contains("starling capture install") && refused.contains("CAP_NET_BIND_SERVICE"), "{refused}");
    let bystander = web_server(net.host(0));
    let named = play(&net, "listen").stdout;
    let pid = format!("process {}", bystander.pid());
    assert!(named.contains(&pid) && named.contains("python") && named.contains("0.0.0.0:80"), "{named}");
}

#[test]
fn an_install_without_privilege_changes_nothing_and_says_what_is_missing() {
    let net = Net::new("refused", 1);
    fs::write(net.host(0).resolv_conf(), ORIGINAL).unwrap();
    let refused = net.host(0).run_program(role(&net, "install").unprivileged());
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("run this as root"), "{refused:?}");
    assert_eq!(fs::read_to_string(net.host(0).resolv_conf()).unwrap(), ORIGINAL);
}
