//! What those who look after a mesh see and do.

use std::sync::Arc;
use std::time::Instant;

use starling::mesh::{Heartbeat, TroubleKind};
use starling::watchdog::Watchdog;
use starling_gossip::{HeldKey, State};
use starling_proto::mesh::v1;

use crate::fleet::{self, Fleet, Node, address, alive, eventually, meet, offers, seed, state_of};

fn epochs(keys: &[HeldKey]) -> Vec<u32> {
    keys.iter().filter(|key| key.print.is_some()).map(|key| key.epoch).collect()
}

#[tokio::test]
async fn a_survey_of_nodes_that_are_well_finds_every_path_open_and_the_keys_and_clocks_alike() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    meet(&[&a, &b, &c]).await;
    let survey = a.mesh.survey(10).await.unwrap();
    assert_eq!((epochs(&survey.keys), survey.up), (vec![1], 2));
    let names: Vec<_> = survey.looks.iter().map(|look| look.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    for look in &survey.looks {
        let answer = look.answer.as_ref().unwrap();
        assert_eq!((look.heard, answer.hears, epochs(&answer.keys)), (true, Some(true), vec![1]), "{look:?}");
        let skew = answer.skew.unwrap();
        assert!(skew.ahead_ms.abs() <= skew.give_or_take_ms, "{look:?}");
    }
    assert_eq!(a.mesh.survey(1).await.unwrap().looks.len(), 1);
}

#[tokio::test]
async fn a_survey_names_a_node_whose_gossip_port_is_blocked_and_one_that_is_gone() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    // It gossips from another address than it is known by: what it sends is refused, and nothing reaches it.
    let (known, real) = (address(), address());
    let mut config = fleet.config("b", known, vec![seed(a.address)]);
    config.bind = real.ip;
    let b = Node::start(config).unwrap();
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    a.sees("all", |view| view.members.len() == 3).await;
    a.sees("c alive", |view| state_of(view, "c") == Some(State::Alive)).await;
    c.kill();
    let survey = a.mesh.survey(10).await.unwrap();
    let look = |name: &str| survey.looks.iter().find(|look| look.name == name).unwrap();
    let answer = look("b").answer.as_ref().unwrap();
    assert_eq!((look("b").heard, answer.hears), (false, Some(false)));
    assert!(look("c").answer.is_err() && !look("c").heard, "{:?}", look("c"));
    drop(b);
}

#[tokio::test]
async fn a_node_that_is_down_can_be_dismissed_and_comes_back_when_it_starts() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b_address = address();
    let b = fleet.start("b", b_address, vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    for node in [&a, &c] {
        node.sees("all", |view| alive(view) == 3).await;
    }
    let id = b.mesh.id();
    a.mesh.dismiss(id, true, "test").await.unwrap();
    assert_eq!(alive(&a.mesh.view().load()), 3, "one that is up stays");
    b.kill();
    for node in [&a, &c] {
        node.sees("b down", |view| state_of(view, "b") == Some(State::Down)).await;
    }
    a.mesh.dismiss(id, false, "test").await.unwrap();
    for node in [&a, &c] {
        node.sees("b left", |view| state_of(view, "b") == Some(State::Left)).await;
    }
    a.mesh.dismiss(id, true, "test").await.unwrap();
    for node in [&a, &c] {
        node.sees("b gone", |view| state_of(view, "b").is_none()).await;
    }
    let b = fleet.start("b", b_address, vec![seed(a.address)]);
    for node in [&a, &b, &c] {
        node.sees("all again", |view| alive(view) == 3).await;
    }
}

#[tokio::test]
async fn a_failing_instance_is_known_to_all_and_stays_so_when_its_node_registers_it_anew() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let labels = [("note".to_owned(), "x".repeat(2_000))].into();
    b.mesh.register(v1::ServiceRecord { labels, ..fleet::record("web") }).await.unwrap();
    a.sees("web", |view| offers(view, "web") == 1).await;
    let service = "web".parse().unwrap();
    let healthy = |view: &starling_gossip::View| view.services.get(&service).map(|endpoints| endpoints[0].healthy);
    for well in [false, true, false] {
        b.mesh.health(&service, 0, well).await.unwrap();
        for node in [&a, &b] {
            node.sees("its health", |view| healthy(view) == Some(well)).await;
        }
    }
    // It drains: its record is written anew.
    b.mesh.go_away("test").await.unwrap();
    a.sees("draining and unhealthy", |view| {
        view.services.get(&service).is_some_and(|endpoints| endpoints[0].draining && !endpoints[0].healthy)
    })
    .await;
}

#[tokio::test]
async fn both_nodes_that_share_a_name_know_of_it() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let out = fleet.path("a-again");
    let request = starling_transport::ca::IssueRequest {
        dir: fleet.path("ca"),
        name: "a".into(),
        services: vec![],
        ttl: fleet::DEADLINE,
        out: out.clone(),
        force: false,
    };
    starling_transport::ca::issue(&request).unwrap();
    let identity = starling_transport::Identity::load(&out).unwrap();
    let twin =
        Node::start(fleet::config(identity, address(), vec![seed(a.address)], &fleet.path("twin-data"))).unwrap();
    let knows = |node: &Node| {
        node.mesh
            .troubles()
            .iter()
            .any(|trouble| trouble.kind == TroubleKind::NameTaken && trouble.text.contains("two nodes with one name"))
    };
    eventually("both know", || knows(&a) && knows(&twin)).await;
}

#[tokio::test]
async fn a_blocked_gossip_loop_is_noticed_and_so_is_its_return() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let other = Arc::new(Heartbeat::new(Instant::now()));
    other.end();
    let watchdog = Watchdog::start(a.mesh.heartbeat(), other, None).unwrap();
    let before = watchdog.turns();
    eventually("it turns", || watchdog.turns() > before + 1).await;
    assert_eq!((watchdog.stalled(), watchdog.counts().stalls), (None, 0));
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    a.runtime.spawn(async move { blocked.recv().ok() });
    eventually("it stands still", || watchdog.counts().stalls == 1).await;
    assert!(watchdog.stalled().is_some());
    unblock.send(()).unwrap();
    eventually("it turns again", || watchdog.stalled().is_none()).await;
    assert_eq!(watchdog.counts().stalls, 1);
    let stalled = watchdog.counts().stalled_ms;
    assert!(stalled >= 2_000, "{stalled}");
}
