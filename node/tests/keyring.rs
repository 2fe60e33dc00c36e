//! `starling keyring` against agents that run: the built program, from outside.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow and busy machine.
const DEADLINE: Duration = Duration::from_mins(1);

fn starling(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STARLING_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// A mesh's directory, and a network of its own in 127/8.
struct Mesh {
    dir: tempfile::TempDir,
    net: [u8; 3],
}

/// A running agent.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn done(arguments: &[&str]) -> String {
    let output = starling(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Mesh {
    fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(200);
        let process = u8::try_from(std::process::id() % 250).unwrap();
        let net = [127, NEXT.fetch_add(1, Ordering::Relaxed), process];
        let mesh = Self { dir: tempfile::tempdir().unwrap(), net };
        done(&["ca", "init", "--dir", &mesh.path("ca"), "--trust-domain", "demo.example"]);
        mesh
    }

    fn ip(&self, n: u8) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, n)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn issue(&self, name: &str) {
        let (ca, out) = (self.path("ca"), self.path(name));
        done(&["ca", "issue", "--dir", &ca, "--name", name, "--out", &out]);
    }

    /// Starts node `n` with a seed at node 1.
    fn start(&self, n: u8) -> Agent {
        let name = format!("node-{n}");
        if !Path::new(&self.path(&name)).exists() {
            self.issue(&name);
        }
        let socket = self.dir.path().join(format!("{name}.sock"));
        let log = std::fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let mut command = starling(&["agent"]);
        for (key, value) in [
            ("identity.dir", self.path(&name)),
            ("node.data_dir", self.path(&format!("{name}-data"))),
            ("node.shards", "1".to_owned()),
            ("mesh.advertise", self.ip(n).to_string()),
            ("mesh.seeds", format!("{}:7947", self.ip(1))),
            ("admin.socket", socket.to_str().unwrap().to_owned()),
            ("admin.listen", "off".to_owned()),
            ("dns.listen", "off".to_owned()),
            ("proxy.http", "off".to_owned()),
            ("capture.listen", "off".to_owned()),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        Agent { process: command.stdin(Stdio::null()).stderr(log).spawn().unwrap(), socket }
    }
}

impl Agent {
    fn ask(&self, arguments: &[&str]) -> Output {
        starling(arguments).arg("--admin").arg(&self.socket).output().unwrap()
    }

    fn keys(&self) -> serde_json::Value {
        serde_json::from_slice(&self.ask(&["keyring", "list", "-o", "json"]).stdout).unwrap_or_default()
    }

    /// Revision, epoch in use, epochs, members that know it.
    fn standing(&self) -> (u64, u64, Vec<u64>, usize) {
        let keys = self.keys();
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        let list = |name: &str| keys[name].as_array().cloned().unwrap_or_default();
        let accepted = list("keys").into_iter().filter(|key| key["state"] != "removed");
        let current = list("members").iter().filter(|member| member["current"] == true).count();
        (
            number(&keys["revision"]),
            number(&keys["in_use"]),
            accepted.map(|key| number(&key["epoch"])).collect(),
            current,
        )
    }

    fn stands(&self, wanted: (u64, u64, &[u64], usize)) {
        let end = Instant::now() + DEADLINE;
        let wanted = (wanted.0, wanted.1, wanted.2.to_vec(), wanted.3);
        while self.standing() != wanted {
            assert!(Instant::now() < end, "wanted {wanted:?}: {:#}", self.keys());
        }
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and stderr.
    fn failed(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.ask(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn an_administrator_rotates_the_key_of_running_agents() {
    let mesh = Mesh::new();
    let ca = mesh.path("ca");
    let (one, two) = (mesh.start(1), mesh.start(2));
    one.stands((0, 1, &[1], 2));
    // Step by step.
    let told = one.done(&["keyring", "install", "--dir", &ca]);
    assert_eq!(
        told,
        "done      epoch 2 installed\nrevision  1\nin use    epoch 1\naccepted  1, 2\nknown to  2 of 2 members\n"
    );
    let (code, error) = one.failed(&["keyring", "install", "--dir", &ca]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("error: two epochs are accepted already, 1 and 2: remove one first"), "{error}");
    let (code, error) = two.failed(&["keyring", "remove", "1", "--dir", &ca]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("error: epoch 1 is in use: use another one first"), "{error}");
    two.done(&["keyring", "use", "--dir", &ca]);
    two.done(&["keyring", "remove", "--dir", &ca]);
    one.stands((3, 2, &[2], 2));
    // All at once, and the rest of one that was begun.
    one.done(&["keyring", "rotate", "--dir", &ca]);
    two.stands((6, 3, &[3], 2));
    two.done(&["keyring", "install", "--dir", &ca]);
    one.done(&["keyring", "rotate", "--dir", &ca]);
    two.stands((9, 4, &[4], 2));
    // A node made after it has the key from its files, one that was made before from whom it joins.
    let three = mesh.start(3);
    three.stands((9, 4, &[4], 3));
    let files = std::fs::read_to_string(mesh.path("node-3/group.keys")).unwrap();
    assert!(files.lines().nth(1).unwrap().starts_with("4 ") && files.lines().count() == 2, "{files}");
    for agent in [&one, &two, &three] {
        let status: serde_json::Value = serde_json::from_slice(&agent.ask(&["status", "-o", "json"]).stdout).unwrap();
        let unread = |name: &str| status["rejected"][name].as_u64().unwrap_or(0);
        assert_eq!((unread("datagram/epoch"), unread("datagram/unsealed")), (0, 0), "{status:#}");
        assert_eq!(status["members"]["alive"], 3);
    }
}

#[test]
fn a_change_signed_elsewhere_is_brought_by_any_node_and_a_strangers_is_denied() {
    let mesh = Mesh::new();
    let (ca, change) = (mesh.path("ca"), mesh.path("change"));
    let one = mesh.start(1);
    one.stands((0, 1, &[1], 1));
    let told = done(&["keyring", "install", "--dir", &ca, "--out", &change]);
    assert!(told.starts_with("revision  1\nwrote "), "{told}");
    assert_eq!(one.standing().0, 0);
    one.done(&["keyring", "apply", &change]);
    one.stands((1, 1, &[1, 2], 1));
    // The next change of the directory brings with it what was not applied.
    let used = mesh.path("used");
    done(&["keyring", "use", "--dir", &ca, "--out", &used]);
    one.done(&["keyring", "remove", "--dir", &ca]);
    one.stands((3, 2, &[2], 1));
    let (code, error) = one.failed(&["keyring", "apply", &used]);
    assert_eq!(code, Some(5));
    assert!(error.contains("revision 3 already"), "{error}");
    let stranger = mesh.path("stranger");
    done(&["ca", "init", "--dir", &stranger, "--trust-domain", "demo.example"]);
    let (code, error) = one.failed(&["keyring", "install", "--dir", &stranger]);
    assert_eq!(code, Some(1));
    assert!(error.contains("the mesh: signed by a key that is not in admin.pub"), "{error}");
    done(&["keyring", "install", "--dir", &stranger, "--out", &mesh.path("forged")]);
    let (code, error) = one.failed(&["keyring", "apply", &mesh.path("forged")]);
    assert_eq!(code, Some(5), "{error}");
    assert_eq!(one.standing(), (3, 2, vec![2], 1));
}
