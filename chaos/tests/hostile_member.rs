//! Real agents beside a member that holds a good certificate and the group key, and means harm.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use starling_chaos::{MeshOfHosts, MeshPlan, Program, binary, wait_until};

/// Far more than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long it has its way.
const SECONDS: u64 = 40;
/// What an agent may grow by meanwhile.
const MAY_GROW: u64 = 12 << 20;
const HONEST: usize = 3;
/// Whose host was taken over.
const TAKEN: usize = HONEST;

fn json(mesh: &MeshOfHosts, number: usize, arguments: &[&str]) -> Value {
    let output = mesh.starling(number, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(output.expect_success("starling")).unwrap()
}

/// What an honest node believes of the honest: who, where, in which boot, there or not; and what is offered.
fn beliefs(mesh: &MeshOfHosts, number: usize) -> Value {
    let taken = mesh.node(TAKEN).name();
    let members = json(mesh, number, &["members"]);
    let members = members.as_array().unwrap().iter().filter(|member| member["name"] != taken);
    let members: Vec<Value> = members
        .map(|member| {
            let state = member["state"].as_str().unwrap().to_ascii_lowercase();
            // Who is suspected counts as there.
            let there = state == "alive" || state == "suspect";
            serde_json::json!([member["name"], member["id"], member["address"], member["generation"], there])
        })
        .collect();
    serde_json::json!([members, json(mesh, number, &["services"])])
}

/// Resident bytes of an agent.
fn resident(mesh: &mut MeshOfHosts, number: usize) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mesh.agent(number).pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_mesh_keeps_its_members_and_its_catalog_beside_a_hostile_member_and_names_it() {
    let mut mesh = MeshPlan::new("member", HONEST + 1).unprivileged().start(|number, node| {
        if number < HONEST {
            node.service(&format!("orders-{number}"), "127.0.0.1:8080").protocol("http").port(80);
        }
    });
    mesh.wait_until_whole(PATIENCE);
    let offered = |mesh: &MeshOfHosts, number: usize| json(mesh, number, &["services"]).as_array().unwrap().len();
    wait_until(PATIENCE, "all is offered", || (0..HONEST).all(|number| offered(&mesh, number) == HONEST));

    // Its agent goes; its files stay with whoever took the host.
    mesh.kill9(TAKEN);
    let program = mesh.net().within_reach(&binary::example("starling-chaos", "hostile_member"));
    let victims: Vec<String> = (0..HONEST).map(|number| mesh.host(number).address().to_string()).collect();
    let mut hostile = Program::new(program);
    hostile.arg(mesh.host(TAKEN).directory().join("identity"));
    hostile.arg(mesh.host(TAKEN).address().to_string()).arg(SECONDS.to_string()).args(&victims);
    let mut hostile = mesh.host(TAKEN).spawn(&hostile);
    wait_until(PATIENCE, "it is a member", || hostile.log().contains("joined") || !hostile.is_running());
    assert!(hostile.is_running(), "{}", hostile.log());

    let before: Vec<Value> = (0..HONEST).map(|number| beliefs(&mesh, number)).collect();
    let memory: Vec<u64> = (0..HONEST).map(|number| resident(&mut mesh, number)).collect();
    let mut looks = 0;
    while hostile.is_running() {
        for (number, before) in before.iter().enumerate() {
            assert_eq!(beliefs(&mesh, number), *before, "node {number}, look {looks}");
        }
        looks += 1;
    }
    let log = hostile.log();
    assert!(hostile.wait(PATIENCE).success(), "{log}");
    let did: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error}: {log}"));
    println!("it did: {did}\nlooked at {looks} times");
    for kind in ["lies about members", "accusations", "in the name of others", "replays", "floods", "false states"] {
        assert!(did[kind].as_u64().is_some_and(|times| times > 0), "{kind}: {did}");
    }
    assert!(looks > 5, "{looks}");

    let taken = mesh.node(TAKEN).name().to_owned();
    for (number, before) in memory.iter().enumerate() {
        let grown = resident(&mut mesh, number).saturating_sub(*before);
        let rejected = json(&mesh, number, &["status"])["rejected"].clone();
        println!("node {number} grew by {} KiB, rejected {rejected}", grown >> 10);
        assert!(grown <= MAY_GROW, "{grown} bytes more");
        for reason in ["datagram/bad-swim", "datagram/forged-notice", "chitchat/unsigned", "chitchat/tombstone"] {
            assert!(rejected[reason].as_u64().is_some_and(|count| count > 0), "{reason}: {rejected}");
        }
        let log = mesh.agent(number).log();
        let named: Vec<&str> = log.lines().filter(|line| line.contains("a member breaks the rules")).collect();
        assert!(named.iter().any(|line| line.contains(&taken)), "it is not named:\n{log}");
        let honest = (0..HONEST).map(|number| mesh.node(number).name());
        for other in honest {
            assert!(!named.iter().any(|line| line.contains(&format!("{other}\""))), "{other} is blamed:\n{log}");
        }
        assert!(log.lines().count() < 400, "it fills the log:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}
