//! The admin interface over real sockets, and the command line against it. The node behind it is made up: [`Source`] is the
//! seam between the two.

mod made;

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use made::{Made, at};
use starling::admin::{AdminError, Server, Source};
use starling::config::{Admin, Listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

fn config(dir: &tempfile::TempDir, address: SocketAddr) -> Admin {
    Admin { socket: dir.path().join("run/admin.sock"), listen: Some(Listen { address, given: true }) }
}

/// A served admin interface in a directory of its own.
struct Served {
    dir: tempfile::TempDir,
    tcp: SocketAddr,
    node: Arc<Made>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    fn start() -> Self {
        Self::start_at(at("127.0.0.1:0"))
    }

    fn start_at(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::bind(&config(&dir, address)).unwrap();
        let tcp = server.tcp_address().unwrap();
        let (node, stop) = (Arc::new(Made::default()), CancellationToken::new());
        let source: Arc<dyn Source> = node.clone();
        let task = tokio::spawn(server.serve(source, stop.clone()));
        Self { dir, tcp, node, stop, task }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/admin.sock")
    }

    /// What `starling` says to these arguments.
    async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = starling();
        command.args(arguments).arg("--admin").arg(self.socket());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What TCP answers to a request, whole.
    async fn tcp(&self, request: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str, host: &str) -> String {
        self.tcp(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
    }
}

fn starling() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    command.env_remove("STARLING_ADMIN").env_remove("STARLING_CONFIG");
    command
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn json_has_the_fields_that_scripts_hold_on_to() {
    let served = Served::start();
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    assert_eq!(
        json(served.stdout(&["members", "-o", "json"]).await)[0],
        serde_json::json!({
            "name": "web-1", "id": "07".repeat(16), "address": "10.0.0.1:7947", "zone": "eu-1a", "state": "alive",
            "generation": 9, "since": "2026-01-02T03:04:06Z", "version": "0.1.0", "this": true, "flaky": false,
            "load": { "in_flight": 3, "cpu_permille": 250, "overload": 0, "unhealthy": 0 },
        })
    );
    assert_eq!(
        json(served.stdout(&["endpoints", "orders", "-o", "json"]).await),
        serde_json::json!([{
            "node": "web-2", "zone": "eu-1a", "address": "10.0.0.2:7947", "state": "ready", "load": 3, "chosen": true,
            "why": "least loaded of two", "latency": 0.0042, "labels": { "version": "v1" },
        }])
    );
    assert_eq!(
        json(served.stdout(&["services", "-o", "json"]).await),
        serde_json::json!([{
            "name": "orders", "vip": "127.77.0.4", "port": 80, "protocol": "http", "endpoints": 3, "usable": 2,
        }])
    );
    assert_eq!(
        json(served.stdout(&["stat", "-o", "json"]).await),
        serde_json::json!([{
            "direction": "outbound", "src": "web", "dst": "orders", "requests": 200, "success": 0.995, "rps": 20.0, "p50": 0.0011, "p99": 0.0123,
            "retries": 2,
        }])
    );
    let status = json(served.stdout(&["status", "-o", "json"]).await);
    assert_eq!(status["node"]["name"], "web-1");
    assert_eq!(status["members"], serde_json::json!({ "alive": 2, "down": 1 }));
    assert_eq!(status["certificate_expires"], "2100-01-01T00:00:01Z");
    assert_eq!(status.get("not_ready"), None);
}

#[tokio::test]
async fn tables_names_and_yaml_are_for_reading() {
    let served = Served::start();
    assert_eq!(served.stdout(&["members", "-o", "name"]).await, "web-1\nweb-2\n");
    assert_eq!(
        served.stdout(&["stat"]).await,
        "DIRECTION  SRC  DST     REQUESTS  SUCCESS  RPS   P50    P99     RETRIES\noutbound   web  orders  200       99.50%   \
         20.0  1.1ms  12.3ms  2\n"
    );
    assert_eq!(
        served.stdout(&["services"]).await,
        "NAME    PROTOCOL  PORT  USABLE  VIP\norders  http      80    2/3     127.77.0.4\n"
    );
    assert!(served.stdout(&["endpoints", "orders", "-o", "wide"]).await.contains("version=v1"));
    assert!(served.stdout(&["members", "-o", "yaml"]).await.contains("name: web-2"));
    let status = served.stdout(&["status"]).await;
    for part in ["node         web-1 (", "2 alive, 1 down", "5m12s", "3 replay", "dns 127.0.0.1:5391: bound", "11 sent"]
    {
        assert!(status.contains(part), "{part}\n{status}");
    }
    assert!(!status.contains("0 signature"), "{status}");
    served.node.unready.store(true, Ordering::Relaxed);
    assert!(served.stdout(&["status"]).await.contains("ready        no: no seed has answered yet"));
}

#[tokio::test]
async fn what_is_not_known_is_not_found() {
    let served = Served::start();
    let (code, error) = said(&served.cli(&["endpoints", "nowhere"]).await);
    assert_eq!(code, Some(4));
    assert_eq!(error, "error: nobody offers 'nowhere'\n  hint: `starling services` lists what is offered\n");
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_fails_if_anything_is() {
    let served = Served::start();
    assert_eq!(served.stdout(&["check"]).await, "ok       loop   turns\nok       ready  yes\n");
    served.node.unready.store(true, Ordering::Relaxed);
    let output = served.cli(&["check"]).await;
    assert_eq!(said(&output), (Some(1), "error: 1 check failed\n".to_owned()));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.ends_with("failed   ready  no seed has answered yet\n                hint: is one of them up?\n"),
        "{told}"
    );
    let json: serde_json::Value = serde_json::from_slice(&served.cli(&["check", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(json[0], serde_json::json!({ "check": "loop", "state": "ok", "found": "turns" }));
    assert_eq!(json[1]["state"], "failed");
    assert_eq!(String::from_utf8(served.cli(&["check", "-o", "name"]).await.stdout).unwrap(), "ready\n");
}

#[tokio::test]
async fn a_check_can_wait_until_all_is_well() {
    let served = Served::start();
    served.node.unready.store(true, Ordering::Relaxed);
    let (code, _) = said(&served.cli(&["check", "--wait", "--timeout", "600ms"]).await);
    assert_eq!(code, Some(124));
    let node = served.node.clone();
    let before = node.checks.load(Ordering::Relaxed);
    let soon = async {
        while node.checks.load(Ordering::Relaxed) < before + 2 {
            tokio::task::yield_now().await;
        }
        node.unready.store(false, Ordering::Relaxed);
    };
    let (output, ()) = tokio::join!(served.cli(&["check", "--wait", "--timeout", "60s"]), soon);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_member_that_is_down_can_be_dismissed_and_no_other() {
    let served = Served::start();
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
    assert_eq!(
        json(served.stdout(&["force-leave", "web-2", "-o", "json"]).await),
        serde_json::json!({ "name": "web-2", "id": "08".repeat(16), "state": "left", "pruned": false })
    );
    assert!(served.stdout(&["force-leave", "web-2", "--prune"]).await.contains("not listed any more"));
    assert_eq!(*served.node.dismissed.lock().unwrap(), [("web-2".to_owned(), false), ("web-2".to_owned(), true)]);
    let (code, error) = said(&served.cli(&["force-leave", "web-1"]).await);
    assert_eq!(code, Some(5), "as docs/cli.md says of an agent that refuses");
    assert!(error.contains("web-1 is alive: only members that are down can be dismissed"), "{error}");
    for unknown in ["nobody", "../members", "a b"] {
        let (code, error) = said(&served.cli(&["force-leave", unknown]).await);
        assert_eq!(code, Some(4), "{error}");
    }
    // Over TCP nothing is done.
    let post = served.tcp("POST /v1/force-leave/web-2 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 404"), "{post}");
    assert_eq!(served.node.dismissed.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn while_nobody_serves_a_stand_in_tells_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::bind(&config(&dir, at("127.0.0.1:0"))).unwrap();
    let (stand_in, tcp) = (server.stand_in().unwrap(), server.tcp_address().unwrap());
    // Nobody waits: nothing to do.
    stand_in.answer("it sleeps", "");
    let socket = dir.path().join("run/admin.sock");
    let mut members = starling();
    members.args(["members", "--admin"]).arg(&socket).stderr(std::process::Stdio::piped());
    let members = members.spawn().unwrap();
    let mut live = tokio::net::TcpStream::connect(tcp).await.unwrap();
    live.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let output = tokio::task::spawn_blocking(move || members.wait_with_output().unwrap());
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let thread = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            stand_in.answer("it sleeps", "");
            std::thread::yield_now();
        }
    });
    let mut answer = String::new();
    live.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not live: it sleeps\n"), "{answer}");
    let (code, error) = said(&output.await.unwrap());
    assert_eq!(code, Some(1));
    assert!(error.contains("the node is not live: it sleeps"), "{error}");
    done.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    drop(server);
}

#[tokio::test]
async fn watching_writes_members_line_by_line_until_the_agent_goes() {
    let served = Served::start();
    let mut watch = tokio::process::Command::from(starling());
    watch.args(["members", "-w", "-o", "json", "--admin"]).arg(served.socket());
    watch.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut watch = watch.kill_on_drop(true).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(watch.stdout.take().unwrap());
    for (name, state) in [("web-1", "alive"), ("web-2", "down"), ("web-2", "alive")] {
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line).await.unwrap();
        let member: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&member["name"], &member["state"]), (&name.into(), &state.into()));
        served.node.changed.notify_one();
        // While somebody watches, others are answered.
        assert!(served.get("/live", "localhost").await.starts_with("HTTP/1.1 200"));
    }
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
    let output = watch.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn monitoring_reads_health_and_metrics_over_tcp() {
    let served = Served::start();
    let metrics = served.get("/metrics", "10.0.0.1").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.ends_with("starling_members{state=\"alive\"} 2\n"), "{metrics}");
    assert!(served.get("/live", "any.name").await.starts_with("HTTP/1.1 200"));
    assert!(served.get("/ready", "any.name").await.ends_with("ready\n"));
    served.node.unready.store(true, Ordering::Relaxed);
    let unready = served.get("/ready", "any.name").await;
    assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
    assert!(unready.ends_with("not ready: no seed has answered yet\n"), "{unready}");
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_told_in_json() {
    let served = Served::start();
    let missing = served.get("/v1/nothing", "localhost").await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains("{\"error\":\"nothing is at /v1/nothing\",\"hint\":\"known: /metrics"), "{missing}");
    let post = served.tcp("POST /v1/members HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    assert!(post.contains("{\"error\":\"this can only be read\",\"hint\":\"use GET\"}"), "{post}");
}

#[tokio::test]
async fn a_web_page_cannot_read_the_mesh_through_a_name_of_its_own() {
    let served = Served::start();
    for host in ["localhost", "127.0.0.1", &served.tcp.to_string(), "[::1]:4191"] {
        assert!(served.get("/v1/members", host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    assert!(served.get("/v1/members", "evil.example").await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn beyond_loopback_only_monitoring_is_served() {
    let served = Served::start_at(at("0.0.0.0:0"));
    let served = Served { tcp: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), served.tcp.port()), ..served };
    assert!(served.get("/metrics", "web-1").await.starts_with("HTTP/1.1 200"));
    assert!(served.get("/v1/members", "127.0.0.1").await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn the_socket_is_the_owners_and_goes_with_the_agent() {
    let served = Served::start();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(served.socket()), 0o600);
    assert_eq!(mode(served.dir.path().join("run")), 0o700);
    served.stop.cancel();
    served.task.await.unwrap().unwrap();
    assert!(!served.dir.path().join("run/admin.sock").exists());
}

#[tokio::test]
async fn a_dead_nodes_socket_is_replaced_and_a_live_ones_respected() {
    let dir = tempfile::tempdir().unwrap();
    let config = Admin { listen: None, ..config(&dir, at("127.0.0.1:0")) };
    std::fs::create_dir(dir.path().join("run")).unwrap();
    // Dropped, a listener of the standard library leaves its file behind, as a killed process does.
    drop(UnixListener::bind(&config.socket).unwrap());
    let first = Server::bind(&config).unwrap();
    let error = Server::bind(&config).unwrap_err();
    assert!(matches!(error, AdminError::Taken { .. }), "{error}");
    assert_eq!(error.key(), "admin.socket");
    drop(first);
    assert!(!config.socket.exists());
    std::fs::write(&config.socket, "precious").unwrap();
    assert!(matches!(Server::bind(&config), Err(AdminError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&config.socket).unwrap(), "precious");
}

#[tokio::test]
async fn a_taken_tcp_address_is_fatal_only_if_somebody_wrote_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let given = config(&dir, taken.local_addr().unwrap());
    assert!(matches!(Server::bind(&given), Err(AdminError::Listen { .. })));
    let listen = given.listen.map(|listen| Listen { given: false, ..listen });
    assert_eq!(Server::bind(&Admin { listen, ..given }).unwrap().tcp_address(), None);
}

#[tokio::test]
async fn group_keys_may_be_looked_at_over_tcp_and_are_changed_over_the_socket_only() {
    let served = Served::start();
    assert_eq!(
        served.stdout(&["keyring", "list"]).await,
        "EPOCH  STATE     MISSING\n1      in-use    -\n2      accepted  web-2\n\
         revision 4, known to 1 of 2 members, not to web-2\n"
    );
    assert_eq!(served.stdout(&["keyring", "list", "-o", "name"]).await, "1\n2\n");
    let listed = served.get("/v1/keyring", "localhost").await;
    assert!(listed.starts_with("HTTP/1.1 200") && listed.contains("\"revision\":4"), "{listed}");
    let post = "POST /v1/keyring HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\nconnection: close\r\n\r\nkeys";
    let refused = served.tcp(post).await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    let file = served.dir.path().join("change");
    std::fs::write(&file, "no change").unwrap();
    let (code, error) = said(&served.cli(&["keyring", "apply", file.to_str().unwrap()]).await);
    assert_eq!(code, Some(1));
    assert!(error.contains("no change of group keys"), "{error}");
}
