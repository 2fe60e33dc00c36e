//! The built program from outside: its exit codes, its streams, and what `validate` and `ca` do.

use std::path::Path;
use std::process::{Command, Output};

fn starling(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STARLING_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, stdout, stderr.
fn told(arguments: &[&str]) -> (i32, String, String) {
    let output = starling(arguments);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A mesh's root and the identity of `web-1`, which may run `web`.
fn identity(dir: &Path) {
    let (ca, out) = (dir.join("CA"), dir.join("identity"));
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    let (code, _, error) = told(&["ca", "init", "--dir", ca, "--trust-domain", "demo.example"]);
    assert_eq!((code, error.as_str()), (0, ""));
    let (code, data, error) = told(&["ca", "issue", "--dir", ca, "--name", "web-1", "--service", "web", "--out", out]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(data.starts_with("node   spiffe://demo.example/node/web-1\n"), "{data}");
}

#[test]
fn wrong_usage_exits_with_2_and_says_so_on_stderr() {
    for arguments in [&["flock"][..], &["endpoints"], &["members", "-o", "xml"], &["ca", "issue"], &["endpoints", "A"]]
    {
        let (code, data, error) = told(arguments);
        assert_eq!((code, data.as_str()), (2, ""), "{arguments:?}");
        assert!(error.starts_with("error: "), "{error}");
    }
    let (code, data, error) = told(&["--help"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(data.contains("Exit codes: 0 ok, 1 failed"), "{data}");
}

#[test]
fn without_an_agent_the_exit_code_is_3_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let socket = socket.to_str().unwrap();
    let hint = "\n  hint: is the agent running? name its admin.socket with --admin PATH or STARLING_ADMIN\n";
    for verb in [&["status"][..], &["members", "-w"], &["services"], &["endpoints", "a"], &["stat"]] {
        let (code, data, error) = told(&[verb, &["--admin", socket]].concat());
        assert_eq!((code, data.as_str()), (3, ""));
        assert_eq!(error, format!("error: no agent answers at {socket}: there is no such socket{hint}"));
    }
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    let (code, _, error) = told(&["status", "--admin", socket]);
    assert_eq!(code, 3);
    assert!(error.contains("the socket is a leftover: nobody listens"), "{error}");
    for no_socket in [dir.path().to_str().unwrap(), &write(dir.path(), "plain", "")] {
        let (code, _, error) = told(&["status", "--admin", no_socket]);
        assert_eq!(code, 3);
        assert!(error.contains(&format!("no agent answers at {no_socket}: it is no socket")), "{error}");
    }
}

#[test]
fn an_agent_that_says_nothing_is_given_up_with_124() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (code, _, error) = told(&["status", "--timeout", "50ms", "--admin", socket.to_str().unwrap()]);
    assert_eq!(code, 124);
    assert_eq!(error, "error: the agent did not answer within 0.05 s\n  hint: give it longer with --timeout\n");
}

#[test]
fn version_completion_and_manual_are_data() {
    assert_eq!(told(&["version"]), (0, format!("starling {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    assert!(told(&["completion", "bash"]).1.contains("_starling"));
    let manual = told(&["man"]).1;
    assert!(manual.contains(".TH starling") && manual.contains("endpoints"), "{manual}");
}

#[test]
fn a_good_configuration_with_its_identity_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    let file = write(
        dir.path(),
        "starling.toml",
        "[mesh]\nadvertise = '127.0.0.1'\n[identity]\ndir = 'identity'\n[[service]]\nname = 'web'\naddress = '127.0.0.1:80'\n",
    );
    let good = (0, "ok: node web-1, 1 service, 0 listeners\n".to_owned(), String::new());
    assert_eq!(told(&["validate", "-c", &file]), good);
    let json: serde_json::Value = serde_json::from_str(&told(&["validate", "-c", &file, "-o", "json"]).1).unwrap();
    assert_eq!((&json["valid"], &json["node"]), (&true.into(), &"web-1".into()));
}

#[test]
fn a_bad_configuration_starts_nothing_and_tells_all_its_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "starling.toml", "[node]\nnmae = 'a'\n[dns]\nlisten = 'x'\n");
    let expected = format!(
        "error: the configuration has 2 errors\n{file}:2: node.nmae: unknown key\n  hint: did you mean 'name'?\n{file}:4: \
         dns.listen: 'x' is not an address\n  hint: write IP:PORT, such as \"127.0.0.1:8080\" or \"[::1]:8080\" (\"off\" \
         for none)\n"
    );
    for verb in ["validate", "agent"] {
        assert_eq!(told(&[verb, "-c", &file]), (1, String::new(), expected.clone()), "{verb}");
    }
    let output = starling(&["validate", "-c", &file, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["problems"][0]["key"], "node.nmae");
}

#[test]
fn an_identity_that_is_missing_or_does_not_fit_is_told_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[mesh]\nadvertise = '127.0.0.1'\n[identity]\ndir = 'identity'\n[[service]]\nname = 'orders'\naddress = \
                '127.0.0.1:80'\n";
    let file = write(dir.path(), "starling.toml", text);
    for verb in ["validate", "agent"] {
        let (code, _, error) = told(&[verb, "-c", &file]);
        assert_eq!(code, 1);
        assert!(error.contains(&format!("{file}:4: identity.dir: ")), "{error}");
        assert!(error.contains("`starling ca issue --out DIR`"), "{error}");
    }
    assert_eq!(told(&["validate", "-c", &file, "--no-files"]).0, 0);
    identity(dir.path());
    for verb in ["validate", "agent"] {
        let (code, _, error) = told(&[verb, "-c", &file]);
        assert_eq!(code, 1);
        assert_eq!(
            error,
            format!(
                "error: the configuration has 1 error\n{file}:6: service[0].name: the certificate does not let this node \
                 run 'orders'; it names ns/default/svc/web\n  hint: issue it anew with all its services: starling ca issue --name web-1 --service orders (and one \
                 --service for each other) --dir CA --out {} --force\n",
                dir.path().join("identity").display()
            )
        );
    }
}

#[test]
fn files_of_an_ingress_that_cannot_be_used_are_told_with_their_key() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    let text = "[mesh]\nadvertise = '127.0.0.1'\n[identity]\ndir = 'identity'\n[[ingress]]\naddress = '127.0.0.1:8443'\nservice = 'web'\n\
                tls = [{ cert = 'missing.pem', key = 'missing.key' }]\n";
    let file = write(dir.path(), "starling.toml", text);
    for verb in ["validate", "agent"] {
        let (code, _, error) = told(&[verb, "-c", &file]);
        assert_eq!(code, 1);
        assert!(error.contains("ingress[0].tls: ") && error.contains("missing.pem"), "{error}");
    }
}

#[test]
fn flags_win_over_variables_and_variables_over_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "starling.toml", "[node]\nname = 'file'\n[mesh]\nadvertise = '127.0.0.1'\n");
    let name = |env: Option<&str>, set: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_starling"));
        command.args(["validate", "--no-files", "-o", "json"]).args(set).env("STARLING_CONFIG", &file);
        command.envs(env.map(|value| ("STARLING_NODE_NAME", value)));
        let output = command.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["node"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(None, &[]), "file");
    assert_eq!(name(Some("env"), &[]), "env");
    assert_eq!(name(Some("env"), &["--set", "node.name=flag"]), "flag");
}

#[test]
fn an_identity_is_never_overwritten_unasked() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    let (ca, out) = (dir.path().join("CA"), dir.path().join("identity"));
    let issue = ["ca", "issue", "--dir", ca.to_str().unwrap(), "--name", "web-1", "--out", out.to_str().unwrap()];
    let (code, data, error) = told(&issue);
    assert_eq!((code, data.as_str()), (1, ""));
    assert!(error.starts_with("error: ") && error.contains("--force"), "{error}");
    assert_eq!(told(&[&issue[..], &["--force"]].concat()).0, 0);
}

#[test]
fn a_certificate_lasts_over_0_and_at_most_as_long_as_a_root() {
    let dir = tempfile::tempdir().unwrap();
    identity(dir.path());
    let (ca, out) = (dir.path().join("CA"), dir.path().join("other"));
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    for (ttl, expected, words) in [
        ("0d", 2, "it must be over 0"),
        ("soon", 2, "write a number and a unit"),
        ("3651d", 1, "at most ten years (3650d)"),
        ("99999999999999999d", 1, "at most ten years (3650d)"),
        ("3650d", 0, ""),
    ] {
        let (code, _, error) = told(&["ca", "issue", "--dir", ca, "--name", "b", "--out", out, "--ttl", ttl]);
        assert_eq!(code, expected, "{ttl}: {error}");
        assert!(error.contains(words), "{ttl}: {error}");
    }
}

#[test]
fn a_missing_authority_is_told_with_the_verb_that_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, out) = (dir.path().join("NOCA"), dir.path().join("out"));
    let (ca, out) = (ca.to_str().unwrap(), out.to_str().unwrap());
    let (code, _, error) = told(&["ca", "issue", "--dir", ca, "--name", "b", "--out", out]);
    assert_eq!(code, 1);
    assert!(error.contains("`starling ca init --dir DIR`") && !error.contains("ca issue"), "{error}");
}

/// Processes that `parent` has started and that run.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
    while !condition() {
        assert!(std::time::Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_demo_that_is_ended_by_a_signal_leaves_no_process_and_no_file() {
    for (signal, expected) in [("-TERM", 143), ("-INT", 130)] {
        let dir = tempfile::tempdir().unwrap();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_starling"));
        let mut demo = demo.arg("demo").env("TMPDIR", dir.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap().count();
        // Three nodes and five services.
        wait_for("the demo's hosts", || children(demo.id()).len() >= 8);
        let started = children(demo.id());
        assert_eq!(files(), 1);
        assert!(Command::new("kill").args([signal, &demo.id().to_string()]).status().unwrap().success());
        assert_eq!(demo.wait().unwrap().code(), Some(expected));
        assert_eq!(files(), 0);
        for pid in started {
            let path = format!("/proc/{pid}");
            wait_for("a process to be gone", || !Path::new(&path).exists());
        }
    }
}
