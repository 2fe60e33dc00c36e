//! Real agents beside a member that holds a good certificate and the group key, and means harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;
use starling_chaos::{MeshOfHosts, MeshPlan, Process, Program, binary, wait_until};

/// Far more than anything here takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long it has its way.
const SECONDS: u64 = 40;
/// What an agent may grow by meanwhile.
const MAY_GROW: u64 = 12 << 20;
const HONEST: usize = 3;
/// Whose host was taken over.
const TAKEN: usize = HONEST;
/// Identities that it makes up and greets with, at least.
const MINTED: u64 = 2_000;
/// What it does, how often at least, and what each honest node counts of it: refused (`place/reason`), a rule that was
/// broken (`offence/rule`), or another count of `starling status`.
const KINDS: [(&str, u64, &[&str]); 12] = [
    ("lies about members", 10, &["downs_unfounded"]),
    // It said that they are where it is.
    ("asked for others", 1, &[]),
    ("told that it is down", 3, &["refutations"]),
    ("accusations", 900, &["offence/notice-flood"]),
    (
        "in the name of others",
        18,
        &[
            "datagram/forged-notice",
            "datagram/bad-notice",
            "datagram/bad-signature",
            "datagram/bad-swim",
            "offence/forged-notice",
            "offence/notice",
            "offence/datagram",
        ],
    ),
    ("replays", 30, &["datagram/replay", "datagram/wrong-destination"]),
    // Looked for at all nodes together: the socket of one that hardly runs is full before it has counted that many.
    ("floods", 10_000, &[]),
    ("minted identities", MINTED, &["datagram/unknown-sender"]),
    ("minted identities named", 60, &["record/rejected"]),
    ("false states", 3, &["offence/record-flood"]),
    ("great questions", 3, &["control_requests"]),
    (
        "messages of chitchat",
        30,
        &[
            "chitchat/unsigned",
            "chitchat/tombstone",
            "chitchat/max-version",
            "chitchat/collected",
            "chitchat/duplicate",
            "chitchat/not-chitchat",
            "chitchat/about-ourselves",
        ],
    ),
];

/// What a node says. It is asked again where other programs of the machine did not let its loop run.
fn json(mesh: &MeshOfHosts, number: usize, arguments: &[&str]) -> Value {
    let mut said = None;
    wait_until(PATIENCE, "the loop runs", || {
        let output = mesh.starling(number, &[arguments, &["-o", "json"]].concat());
        let runs = !output.stderr.contains("the gossip loop has stood still");
        said = Some(output);
        runs
    });
    serde_json::from_str(said.unwrap().expect_success("starling")).unwrap()
}

/// What an honest node believes of the honest: who, where, in which boot, there or not; and what is offered.
fn beliefs(mesh: &MeshOfHosts, number: usize) -> Value {
    let taken = mesh.node(TAKEN).name();
    let members = json(mesh, number, &["members"]);
    let members = members.as_array().unwrap();
    assert!(members.len() <= HONEST + 1, "node {number} lists more than there are: {members:?}");
    let honest = members.iter().filter(|member| member["name"] != taken);
    let honest: Vec<Value> = honest
        .map(|member| {
            let state = member["state"].as_str().unwrap().to_ascii_lowercase();
            // Who is suspected counts as there.
            let there = state == "alive" || state == "suspect";
            serde_json::json!([member["name"], member["id"], member["address"], member["generation"], there])
        })
        .collect();
    serde_json::json!([honest, json(mesh, number, &["services"])])
}

/// Resident bytes of an agent.
fn resident(mesh: &mut MeshOfHosts, number: usize) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mesh.agent(number).pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// What a node counted so far, by the names of [`KINDS`].
fn counts(mesh: &MeshOfHosts, number: usize) -> BTreeMap<String, u64> {
    let status = json(mesh, number, &["status"]);
    let named = |of: &str| status[of].as_object().unwrap().clone().into_iter();
    let counts = named("rejected").chain(named("gossip"));
    let mut counts: BTreeMap<_, _> = counts.filter_map(|(name, count)| Some((name, count.as_u64()?))).collect();
    let metrics = mesh.host(number).run("curl", ["-sf", "http://127.0.0.1:4191/metrics"]);
    for line in metrics.expect_success("curl").lines() {
        let offence = line.strip_prefix("starling_gossip_offences_total{offence=\"");
        if let Some((offence, count)) = offence.and_then(|line| line.split_once("\"} ")) {
            counts.insert(format!("offence/{offence}"), count.parse().unwrap());
        }
    }
    counts
}

/// Once it is a member.
fn start_hostile(mesh: &MeshOfHosts) -> Process {
    let program = mesh.net().within_reach(&binary::example("starling-chaos", "hostile_member"));
    let victims: Vec<String> = (0..HONEST).map(|number| mesh.host(number).address().to_string()).collect();
    let mut hostile = Program::new(program);
    hostile.arg(mesh.host(TAKEN).directory().join("identity"));
    hostile.arg(mesh.host(TAKEN).address().to_string()).arg(SECONDS.to_string()).args(&victims);
    let mut hostile = mesh.host(TAKEN).spawn(&hostile);
    wait_until(PATIENCE, "it is a member", || hostile.log().contains("joined") || !hostile.is_running());
    assert!(hostile.is_running(), "{}", hostile.log());
    hostile
}

/// Did each kind of attack take place?
fn check_did(log: &str) {
    let did: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error}: {log}"));
    println!("it did: {did}");
    for (kind, least, _) in KINDS {
        assert!(did[kind].as_u64().is_some_and(|times| times >= least), "{kind}, {least} times at least: {did}");
    }
    let known: BTreeSet<&str> = KINDS.iter().map(|(kind, ..)| *kind).collect();
    assert!(did.as_object().unwrap().keys().all(|kind| known.contains(&**kind)), "nobody looks for all of {did}");
}

/// Was each kind of attack noticed by a node, and for what it is? Gives how many identities greeted it in vain, and
/// how much of the floods it left unread.
fn check_counted(mesh: &MeshOfHosts, number: usize, before: &BTreeMap<String, u64>) -> [u64; 2] {
    let after = counts(mesh, number);
    let more = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    let risen: BTreeMap<&str, u64> =
        after.keys().map(|name| (&**name, more(name))).filter(|(_, more)| *more > 0).collect();
    println!("node {number} counted {risen:?}");
    for (kind, _, names) in KINDS {
        for name in names {
            assert!(more(name) > 0, "{kind}: no {name} at node {number}: {risen:?}");
        }
    }
    // Messages that had to be read to the end were.
    assert_eq!(more("chitchat/other-cluster"), 0, "{risen:?}");
    assert_eq!(more("swim_errors"), 0, "{risen:?}");
    ["datagram/unknown-sender", "datagram/flood"].map(more)
}

/// Does a node name it, and nobody else?
fn check_named(mesh: &mut MeshOfHosts, number: usize) {
    let taken = format!("{}\"", mesh.node(TAKEN).name());
    let honest: Vec<String> = (0..HONEST).map(|number| format!("{}\"", mesh.node(number).name())).collect();
    let log = mesh.agent(number).log();
    let named: Vec<&str> = log.lines().filter(|line| line.contains("a member breaks the rules")).collect();
    assert!(named.iter().any(|line| line.contains(&taken)), "it is not named:\n{log}");
    for other in &honest {
        assert!(!named.iter().any(|line| line.contains(other)), "{other} is blamed:\n{log}");
    }
    assert!(named.iter().all(|line| line.contains(&taken)), "somebody else is blamed:\n{log}");
    assert!(log.lines().count() < 400, "it fills the log:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
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

    let before: Vec<Value> = (0..HONEST).map(|number| beliefs(&mesh, number)).collect();
    let counted: Vec<BTreeMap<String, u64>> = (0..HONEST).map(|number| counts(&mesh, number)).collect();
    // Its agent goes; its files stay with whoever took the host.
    mesh.kill9(TAKEN);
    let mut hostile = start_hostile(&mesh);
    let memory: Vec<u64> = (0..HONEST).map(|number| resident(&mut mesh, number)).collect();
    let (mut looks, end) = (0, Instant::now() + Duration::from_secs(SECONDS) + PATIENCE);
    while hostile.is_running() {
        for (number, before) in before.iter().enumerate() {
            assert_eq!(beliefs(&mesh, number), *before, "node {number}, look {looks}");
        }
        looks += 1;
        assert!(Instant::now() < end, "it does not end: {}", hostile.log());
    }
    let log = hostile.log();
    assert!(hostile.wait(PATIENCE).success(), "{log}");
    check_did(&log);
    println!("looked at {looks} times");
    assert!(looks > 5, "{looks}");

    let (mut greeted, mut unread) = (0, 0);
    for (number, memory) in memory.iter().enumerate() {
        assert_eq!(beliefs(&mesh, number), before[number], "node {number} at the end");
        let grown = resident(&mut mesh, number).saturating_sub(*memory);
        println!("node {number} grew by {} KiB", grown >> 10);
        let [strangers, flood] = check_counted(&mesh, number, &counted[number]);
        greeted += strangers;
        unread += flood;
        check_named(&mut mesh, number);
        assert!(grown <= MAY_GROW, "{grown} bytes more");
    }
    assert!(greeted >= MINTED, "of the identities it made up only {greeted} arrived");
    assert!(unread > 0, "all of the floods was read");
}
