//! What an operator finds with `starling check`, and does with `starling force-leave`, on real hosts.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use starling_chaos::{MeshOfHosts, MeshPlan, Program, binary, wait_until};

/// Longer than anything here takes on a slow machine.
const SOON: Duration = Duration::from_secs(90);

/// What fails on a node: the check and what was found.
fn failing(mesh: &MeshOfHosts, number: usize) -> Vec<(String, String)> {
    let output = mesh.starling(number, &["check", "-o", "json"]);
    let reports: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
    let word = |report: &Value, key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let failed = |report: &&Value| report["state"] == "failed" && !word(report, "hint").is_empty();
    let failing: Vec<_> =
        reports.iter().filter(failed).map(|report| (word(report, "check"), word(report, "found"))).collect();
    assert_eq!(output.status.success(), failing.is_empty() && !reports.is_empty(), "{output:?}");
    failing
}

fn finds(mesh: &MeshOfHosts, number: usize, check: &str, words: &str) -> bool {
    failing(mesh, number).iter().any(|(name, found)| name == check && found.contains(words))
}

fn mesh(name: &str, hosts: usize) -> MeshOfHosts {
    let mesh = MeshPlan::new(name, hosts).start(|_, _| {});
    mesh.wait_until_whole(SOON);
    mesh.starling(0, &["check", "--wait", "--timeout", "60s"]).expect_success("all is well at first");
    mesh
}

#[test]
fn a_blocked_gossip_port_is_named_by_both_sides_and_the_member_stays() {
    let mesh = mesh("blocked", 3);
    let rules = "add table inet fw; add chain inet fw in { type filter hook input priority 0; }; \
                 add rule inet fw in udp dport 7946 drop";
    mesh.host(2).run("nft", [rules]).expect_success("the firewall stands");
    wait_until(SOON, "node-0 finds that its gossip does not reach node-2", || {
        finds(&mesh, 0, "gossip", "this node's gossip does not arrive at 1 of 2 members")
            && finds(&mesh, 0, "gossip", "node-2 (10.78.0.3:7946)")
    });
    wait_until(SOON, "node-2 finds that nothing arrives", || {
        finds(&mesh, 2, "gossip", "nothing arrives at this node's gossip port, UDP 10.78.0.3:7946")
    });
    assert_eq!(mesh.state(0, 2).as_deref(), Some("alive"), "QUIC works, so it is not dead");
    mesh.host(2).run("nft", ["delete table inet fw"]).expect_success("the firewall is gone");
    wait_until(SOON, "all is well again", || failing(&mesh, 0).is_empty() && failing(&mesh, 2).is_empty());
}

#[test]
fn a_dead_member_is_dismissed_and_a_second_node_with_its_name_is_told_of() {
    let mut mesh = mesh("dismiss", 3);
    let refused = mesh.starling(0, &["force-leave", "node-2"]);
    assert!(refused.status.code() == Some(5) && refused.stderr.contains("only members that are down"), "{refused:?}");
    mesh.kill9(2);
    wait_until(SOON, "node-2 is down", || [0, 1].iter().all(|by| mesh.state(*by, 2).as_deref() == Some("down")));
    assert!(mesh.starling(0, &["check"]).stdout.contains("1 of 3 down: node-2"));
    mesh.starling(0, &["force-leave", "node-2"]).expect_success("dismissed");
    wait_until(SOON, "node-2 has left", || [0, 1].iter().all(|by| mesh.state(*by, 2).as_deref() == Some("left")));
    mesh.starling(1, &["force-leave", "node-2", "--prune"]).expect_success("pruned");
    wait_until(SOON, "node-2 is not listed", || [0, 1].iter().all(|by| mesh.state(*by, 2).is_none()));
    mesh.start_agent(2);
    mesh.wait_until_whole(SOON);

    // Its host gets another identity of node-0's name.
    mesh.kill9(2);
    let (starling, host) = (mesh.net().within_reach(&binary::starling()), mesh.host(2));
    let (ca, twin) = (mesh.net().directory().join("ca"), host.directory().join("twin"));
    let (ca, out) = (ca.display().to_string(), twin.display().to_string());
    let issue = ["ca", "issue", "--dir", &ca, "--name", "node-0", "--out", &out];
    host.run(&starling, issue).expect_success("the twin's identity");
    let text = fs::read_to_string(mesh.node(2).config()).unwrap();
    let text = text.replace("node-2", "node-0").replace(&host.directory().join("identity").display().to_string(), &out);
    let config = host.directory().join("twin.toml");
    fs::write(&config, text.replace("/data\"", "/twin-data\"")).unwrap();
    let _twin = host.spawn(Program::new(&starling).arg("agent").arg("-c").arg(&config));
    for number in [0, 2] {
        wait_until(SOON, "both nodes of one name find it", || finds(&mesh, number, "names", "two nodes with one name"));
    }
    assert!(finds(&mesh, 0, "names", &format!("at {}:7947", mesh.host(2).address())), "it says where the other one is");
}

#[test]
fn another_group_key_of_the_same_epoch_is_named_and_no_port_is_blamed() {
    let mut mesh = MeshPlan::new("otherkey", 3).lay_out(|_, _| {});
    let (starling, other) = (mesh.net().within_reach(&binary::starling()), mesh.net().directory().join("other"));
    let directory = other.display().to_string();
    let init = ["ca", "init", "--dir", &directory, "--trust-domain", "other.example"];
    mesh.host(2).run(&starling, init).expect_success("another authority");
    fs::copy(other.join("group.keys"), mesh.host(2).directory().join("identity/group.keys")).unwrap();
    (0..3).for_each(|number| mesh.start_agent(number));
    wait_until(SOON, "node-0 names node-2", || finds(&mesh, 0, "keys", "node-2 has another key of epoch 1"));
    wait_until(SOON, "node-2 names both", || {
        ["node-0", "node-1"].iter().all(|name| finds(&mesh, 2, "keys", &format!("{name} has another key of epoch 1")))
    });
    assert!([0, 2].iter().all(|number| !failing(&mesh, *number).iter().any(|(check, _)| check == "gossip")));
    let listed = mesh.starling(0, &["keyring", "list", "-o", "json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["keys"][0]["missing"].to_string().contains("node-2"), "{listed}");
}

#[test]
fn a_node_that_reaches_no_seed_says_that_it_is_alone() {
    let mut mesh = MeshPlan::new("alone", 2).lay_out(|_, _| {});
    mesh.start_agent(1);
    wait_until(SOON, "it serves all the same", || mesh.starling(1, &["check"]).stdout.contains("ready        yes"));
    assert!(finds(&mesh, 1, "seeds", "this node is alone"));
    mesh.start_agent(0);
    wait_until(SOON, "it has found its seed", || failing(&mesh, 1).is_empty());
}

#[test]
fn a_node_whose_identity_was_copied_to_another_host_says_so() {
    let mut mesh = mesh("copied", 3);
    // The image of host 1 is started once more, on host 2: in a later second, since generations are seconds, and of two in one neither is
    // the later one.
    mesh.kill9(2);
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = second();
    wait_until(SOON, "the next second", || second() > first);
    let host = mesh.host(2);
    let text = fs::read_to_string(mesh.node(1).config()).unwrap();
    let text = text.replace(&mesh.host(1).address().to_string(), &host.address().to_string());
    let text = text.replace("/data\"", "/copied-data\"").replace("admin.sock", "copied.sock");
    let config = host.directory().join("copied.toml");
    fs::write(&config, text).unwrap();
    let starling = mesh.net().within_reach(&binary::starling());
    let _copy = host.spawn(Program::new(&starling).arg("agent").arg("-c").arg(&config));
    let words = format!("another node at {}:7947 runs with this node's, and started later", host.address());
    wait_until(SOON, "the first one finds it", || finds(&mesh, 1, "names", &words));
    assert!(!failing(&mesh, 1).iter().any(|(check, _)| check == "gossip"), "no port is blamed");
    wait_until(SOON, "its log says so without being asked", || {
        mesh.agent(1).log().contains("was its identity copied?")
    });
}

#[test]
fn a_node_that_was_stopped_knows_that_it_did_not_run() {
    let mut mesh = mesh("stopped", 2);
    mesh.agent(1).stop();
    wait_until(SOON, "node-1 is missed", || mesh.state(0, 1).as_deref() == Some("down"));
    mesh.agent(1).cont();
    mesh.wait_until_whole(SOON);
    let found = mesh.starling(1, &["check"]).stdout;
    assert!(found.contains("the process did not run 1 times for over a second"), "{found}");
    assert!(!found.contains("stood still"), "{found}");
}
