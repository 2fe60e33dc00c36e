//! Meshes of whole nodes, in process, over real sockets on loopback.

mod fleet;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fleet::{DEADLINE, Fleet, Node, address, alive, eventually, offers, refused, seed, state_of, take_over};
use starling::mesh::{MeshError, Seed};
use starling_gossip::State;
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, NodeAddress};
use starling_transport::{Alpn, Dialer, Limits};

#[tokio::test]
async fn two_nodes_join_by_address_and_know_what_each_offers() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    a.offer("web").await;
    b.offer("orders").await;
    for node in [&a, &b] {
        node.sees("both alive, both services", |view| {
            alive(view) == 2 && offers(view, "web") == 1 && offers(view, "orders") == 1
        })
        .await;
    }
    let view = a.mesh.view().load_full();
    let orders = &view.services[&"orders".parse().unwrap()][0];
    assert_eq!((orders.address, orders.spiffe.node(), &*orders.zone), (b.address.quic(), "b", "here"));
    let names: BTreeSet<_> = view.members.values().map(|member| member.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
}

#[tokio::test]
async fn a_seed_given_by_name_is_resolved_and_joined() {
    let fleet = Fleet::new();
    // The one test on 127.0.0.1, which is what the name stands for; ports are free ones.
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let sockets = [free(), free(), free(), free()];
    let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port());
    drop(sockets);
    let at = |n: usize| NodeAddress { ip: [127, 0, 0, 1].into(), gossip_port: ports[n], quic_port: ports[n + 1] };
    let a = fleet.start("a", at(0), vec![]);
    let name = Seed::Dns { name: "localhost".into(), port: a.address.quic_port };
    let b = fleet.start("b", at(2), vec![name]);
    b.sees("the other", |view| alive(view) == 2).await;
    a.sees("the other", |view| alive(view) == 2).await;
}

#[tokio::test]
async fn five_nodes_started_together_know_each_other_within_two_seconds() {
    let fleet = Fleet::new();
    let names = ["a", "b", "c", "d", "e"];
    let addresses = names.map(|_| address());
    for name in names {
        fleet.identity(name);
    }
    let seeds: Vec<Seed> = addresses.iter().map(|address| seed(*address)).collect();
    let nodes: Vec<Node> =
        names.iter().zip(addresses).map(|(name, address)| fleet.start(name, address, seeds.clone())).collect();
    let started = Instant::now();
    for (node, name) in nodes.iter().zip(names) {
        node.offer(&format!("svc-{name}")).await;
    }
    for node in &nodes {
        node.sees("all five and all services", |view| {
            alive(view) == 5 && names.iter().all(|name| offers(view, &format!("svc-{name}")) == 1)
        })
        .await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
    let hashes = async {
        loop {
            let mut hashes = BTreeSet::new();
            for node in &nodes {
                hashes.insert(node.mesh.status().await.unwrap().catalog_hash);
            }
            if hashes.len() == 1 {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, hashes).await.is_ok(), "the catalogs do not agree");
    for node in &nodes {
        let counts = node.mesh.counts();
        assert!(!counts.refused.contains_key("chitchat"), "{counts:?}");
        assert_eq!((counts.inputs_dropped, counts.unwritten), (0, 0));
    }
}

#[tokio::test]
async fn a_record_that_changes_or_is_withdrawn_is_known_within_a_second() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    a.offer("web").await;
    for node in [&b, &c] {
        node.sees("all", |view| alive(view) == 3 && offers(view, "web") == 1).await;
    }
    let draining = |view: &starling_gossip::View| {
        view.services.get(&"web".parse().unwrap()).is_some_and(|endpoints| endpoints[0].draining)
    };
    let started = Instant::now();
    a.mesh.go_away("test").await.unwrap();
    for node in [&b, &c] {
        node.sees("web drains", draining).await;
    }
    a.mesh.withdraw(&"web".parse().unwrap(), 0).await.unwrap();
    for node in [&b, &c] {
        node.sees("web gone", |view| offers(view, "web") == 0).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_record_too_large_for_gossip_travels_by_chitchat() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    for node in [&a, &b, &c] {
        node.sees("all", |view| alive(view) == 3).await;
    }
    let label = "x".repeat(3_000);
    let labels = [("note".to_owned(), label.clone())].into();
    let started = Instant::now();
    a.mesh.register(v1::ServiceRecord { labels, ..fleet::record("web") }).await.unwrap();
    for node in [&b, &c] {
        node.sees("the label", |view| {
            let web = view.services.get(&"web".parse().unwrap());
            web.is_some_and(|endpoints| endpoints[0].labels.get("note") == Some(&label))
        })
        .await;
        assert!(node.mesh.counts().values > 0);
    }
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
}

#[tokio::test]
async fn a_node_that_leaves_is_listed_as_left_and_offers_nothing() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    b.offer("web").await;
    a.sees("web", |view| offers(view, "web") == 1).await;
    b.mesh.leave("test").await.unwrap();
    a.sees("b left", |view| state_of(view, "b") == Some(State::Left) && offers(view, "web") == 0).await;
    assert!(matches!(b.mesh.leave("again").await, Err(MeshError::Stopped)));
}

#[tokio::test]
async fn a_killed_node_is_down_within_seven_seconds_and_back_soon_after_its_return() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b_address = address();
    let b = fleet.start("b", b_address, vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    b.offer("web").await;
    for node in [&a, &c] {
        node.sees("web", |view| alive(view) == 3 && offers(view, "web") == 1).await;
    }
    let before = a.mesh.view().load().members[&b.mesh.id()].generation;
    b.kill();
    let killed = Instant::now();
    for node in [&a, &c] {
        node.sees("b down", |view| state_of(view, "b") == Some(State::Down) && offers(view, "web") == 0).await;
    }
    assert!(killed.elapsed() < Duration::from_secs(7), "took {:?}", killed.elapsed());
    let b = fleet.start("b", b_address, vec![]);
    let back = Instant::now();
    b.offer("web").await;
    for node in [&a, &c] {
        node.sees("b is back", |view| {
            let b = view.members.values().find(|member| member.name == "b").unwrap();
            b.state == State::Alive && b.generation > before && offers(view, "web") == 1
        })
        .await;
    }
    assert!(back.elapsed() < Duration::from_secs(3), "took {:?}", back.elapsed());
}

#[tokio::test]
async fn nodes_without_seeds_find_each_other_again_by_what_they_remember() {
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    for node in [&a, &b] {
        node.sees("both", |view| alive(view) == 2).await;
    }
    let names = |name: &str| std::fs::read_to_string(fleet.path(&format!("{name}-data/members"))).unwrap_or_default();
    eventually("both remember", || names("a").contains(" b .") && names("b").contains(" a .")).await;
    a.kill();
    b.kill();
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![]);
    for node in [&a, &b] {
        node.sees("both again", |view| alive(view) == 2).await;
    }
}

#[tokio::test]
async fn a_node_whose_clock_and_disk_were_reset_starts_above_what_the_mesh_remembers() {
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    // As if its clock had been far ahead.
    let disk = fleet.path("b-data");
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::write(disk.join("generation"), "1 4000000000 0\n").unwrap();
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    b.offer("web").await;
    a.sees("web", |view| alive(view) == 2 && offers(view, "web") == 1).await;
    b.kill();
    std::fs::remove_dir_all(&disk).unwrap();
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    b.offer("orders").await;
    a.sees("b in a generation of its own", |view| {
        let b = view.members.values().find(|member| member.name == "b").unwrap();
        b.generation.0 > 4_000_000_001 && b.state == State::Alive
    })
    .await;
    // What it offers now counts, and travels by chitchat too; what it offered once does not.
    let labels = [("note".to_owned(), "x".repeat(3_000))].into();
    b.mesh.register(v1::ServiceRecord { labels, ..fleet::record("large") }).await.unwrap();
    a.sees("its services", |view| {
        offers(view, "orders") == 1 && offers(view, "large") == 1 && offers(view, "web") == 0
    })
    .await;
    let generation = std::fs::read_to_string(disk.join("generation")).unwrap();
    assert!(generation.starts_with("1 4000000002 "), "{generation}");
}

#[tokio::test]
async fn garbage_on_the_gossip_port_is_counted_and_changes_nothing() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let outsider = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = a.mesh.view().load_full();
    for len in [0, 1, 60, 600, 1_232, 1_233, 4_000] {
        outsider.send_to(&vec![0xa5; len], a.address.gossip()).await.unwrap();
    }
    let total = || a.mesh.counts().refused.get("datagram").map_or(0, |reasons| reasons.values().sum::<u64>());
    eventually("all refused", || total() == 7).await;
    assert_eq!(a.mesh.view().load_full().members.len(), before.members.len());
    assert_eq!(a.mesh.counts().datagrams_received, 7);
}

#[tokio::test]
async fn packets_replayed_to_a_node_that_restarted_are_refused() {
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    b.sees("both", |view| alive(view) == 2).await;
    // Packets of b to a, caught in a's place.
    a.kill();
    let spy = take_over(at_a.gossip()).await;
    let mut caught = Vec::new();
    let mut buffer = [0; 2_048];
    while caught.len() < 3 {
        let (len, from) = tokio::time::timeout(DEADLINE, spy.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(from, at_b.gossip());
        caught.push(buffer[..len].to_vec());
    }
    drop(spy);
    let a = fleet.start("a", at_a, vec![seed(at_b)]);
    a.sees("b again", |view| alive(view) == 2).await;
    b.kill();
    let thief = take_over(at_b.gossip()).await;
    for packet in &caught {
        thief.send_to(packet, at_a.gossip()).await.unwrap();
    }
    eventually("replays refused", || refused(&a.mesh, "datagram", "replay") >= 3).await;
    // And to another node than the one they were for.
    let c = fleet.start("c", address(), vec![seed(at_a)]);
    c.sees("a", |view| alive(view) >= 2).await;
    thief.send_to(&caught[0], c.address.gossip()).await.unwrap();
    eventually("refused", || refused(&c.mesh, "datagram", "wrong-destination") >= 1).await;
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_and_both_sides_say_so() {
    let (ours, theirs) = (Fleet::new(), Fleet::new());
    let a = ours.start("a", address(), vec![]);
    let stranger = theirs.start("x", address(), vec![seed(a.address)]);
    eventually("the stranger sees why", || refused(&stranger.mesh, "seed", "untrusted") >= 1).await;
    assert_eq!(a.mesh.view().load().members.len(), 1);
    assert_eq!(stranger.mesh.view().load().members.len(), 1);
}

#[tokio::test]
async fn two_nodes_with_one_name_are_refused_with_a_reason() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    b.sees("a", |view| alive(view) == 2).await;
    // The same name with keys of its own: issued again into another directory.
    let out = fleet.path("b-again");
    let request = starling_transport::ca::IssueRequest {
        dir: fleet.path("ca"),
        name: "b".into(),
        services: vec![],
        ttl: Duration::from_hours(1),
        out: out.clone(),
        force: false,
    };
    starling_transport::ca::issue(&request).unwrap();
    let identity = starling_transport::Identity::load(&out).unwrap();
    let config = fleet::config(identity, address(), vec![seed(a.address)], &fleet.path("b-again-data"));
    let double = Node::start(config).unwrap();
    eventually("refused", || refused(&double.mesh, "seed", "refused") >= 1).await;
    assert!(refused(&a.mesh, "join", "name-taken") >= 1);
    assert_eq!(alive(&a.mesh.view().load()), 2);
}

#[tokio::test]
async fn a_second_node_on_one_data_directory_is_refused() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let refused = Node::start(fleet.config("a", address(), vec![])).err().unwrap();
    assert!(refused.to_string().contains("in use by another node"), "{refused}");
    a.kill();
    fleet.start("a", address(), vec![]);
}

#[tokio::test]
async fn a_gossip_port_that_is_taken_is_named() {
    let fleet = Fleet::new();
    let at = address();
    let _holder = take_over(at.gossip()).await;
    let refused = Node::start(fleet.config("a", at, vec![])).err().unwrap().to_string();
    assert!(refused.contains("mesh.gossip_port") && refused.contains(&at.gossip().to_string()), "{refused}");
}

#[tokio::test]
async fn only_members_are_answered_on_control_streams() {
    use v1::control_request::Kind as Ask;
    use v1::control_response::Kind as Answer;
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    a.offer("web").await;
    b.sees("a and web", |view| alive(view) == 2 && offers(view, "web") == 1).await;
    a.sees("b", |view| alive(view) == 2).await;
    let ask = async |tls, kind| {
        let dialer = Dialer::bind(at_b.ip, tls, &Limits::default()).unwrap();
        let connection = dialer.connect(at_a.quic(), None, Alpn::Control, DEADLINE).await.unwrap();
        let (mut send, mut recv) = connection.open().await.unwrap();
        send.send_head(&v1::ControlRequest { kind }).await.unwrap();
        send.finish().unwrap();
        recv.recv_head::<v1::ControlResponse>(1 << 20).await.unwrap().kind
    };
    let owner = a.mesh.id().to_bytes();
    let pull = || Some(Ask::Pull(v1::Pull { keys: vec![], owner: owner.clone() }));
    let Some(Answer::Pulled(pulled)) = ask(&b.tls, pull()).await else { panic!("no values") };
    let keys: Vec<_> = pulled.values.iter().map(|value| &*value.key).collect();
    assert_eq!(keys, ["node", "svc/default/web/0"]);
    let ids = vec![b.mesh.id().to_bytes()];
    let resolve = Some(Ask::Resolve(v1::Resolve { node_ids: ids }));
    let Some(Answer::Resolved(resolved)) = ask(&b.tls, resolve).await else { panic!("no members") };
    assert!(!resolved.members[0].credential.is_empty());
    let Some(Answer::Pong(pong)) = ask(&b.tls, Some(Ask::Ping(v1::Ping { target: owner.clone() }))).await else {
        panic!("no pong")
    };
    assert_eq!(pong.identity.unwrap().node_id, owner);
    let outsider = starling_transport::Tls::try_new(&fleet.identity("outsider")).unwrap();
    for kind in [pull(), Some(Ask::Ping(v1::Ping::default()))] {
        let Some(Answer::Error(error)) = ask(&outsider, kind).await else { panic!("answered") };
        assert_eq!(error.code, "not-admitted");
    }
    let Some(Answer::Error(error)) = ask(&b.tls, None).await else { panic!("answered") };
    assert_eq!(error.code, "unknown-request");
    let Some(Answer::Error(error)) = ask(&b.tls, Some(Ask::Join(v1::JoinState::default()))).await else {
        panic!("answered")
    };
    assert_eq!(error.code, "version");
}

#[tokio::test]
async fn what_a_member_forges_on_control_streams_is_refused_and_named() {
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    for node in [&a, &b] {
        node.sees("both", |view| alive(view) == 2).await;
    }
    // b's certificate in other hands, and that of one who never joined.
    let push = async |tls, bytes: &'static [u8]| {
        let dialer = Dialer::bind(at_b.ip, tls, &Limits::default()).unwrap();
        let connection = dialer.connect(at_a.quic(), None, Alpn::Control, DEADLINE).await.unwrap();
        let mut send = connection.open_uni().await.unwrap();
        let kind = v1::control_push::Kind::Chitchat(bytes.into());
        send.send_head(&v1::ControlPush { kind: Some(kind) }).await.unwrap();
        send.finish().unwrap();
        send.stopped().await.unwrap();
        let mut garbage = connection.open_uni().await.unwrap();
        garbage.write_raw(vec![0xff; 64].into()).await.unwrap();
        garbage.finish().unwrap();
        let stopped = garbage.stopped().await;
        assert!(stopped.is_ok() || stopped == Err(starling_transport::StreamError::Reset(ErrorCode::Cancelled)));
    };
    push(&b.tls, b"not chitchat").await;
    eventually("refused", || refused(&a.mesh, "chitchat", "not-chitchat") == 1).await;
    let outsider = fleet.identity("outsider");
    push(&starling_transport::Tls::try_new(&outsider).unwrap(), b"anything").await;
    eventually("refused", || refused(&a.mesh, "chitchat", "not-admitted") == 1).await;
    eventually("refused", || refused(&a.mesh, "control", "malformed") == 2).await;
    assert_eq!(alive(&a.mesh.view().load()), 2);
}

#[tokio::test]
#[ignore = "forty nodes need more than the two cores of a small machine; run by hand"]
async fn forty_nodes_started_together_agree() {
    let fleet = Fleet::new();
    let addresses: Vec<_> = (0..40).map(|_| address()).collect();
    let seeds: Vec<Seed> = addresses[..3].iter().map(|address| seed(*address)).collect();
    let start = |(n, address): (usize, &NodeAddress)| fleet.start(&format!("n{n}"), *address, seeds.clone());
    let nodes: Vec<Node> = addresses.iter().enumerate().map(start).collect();
    let started = Instant::now();
    for (n, node) in nodes.iter().enumerate() {
        node.offer(&format!("svc-{n}")).await;
    }
    let complete = |node: &&Node| {
        let view = node.mesh.view().load_full();
        alive(&view) == nodes.len() && view.services.len() == nodes.len()
    };
    for second in 0..60 {
        let count = nodes.iter().filter(complete).count();
        println!("{second}: {count} of {} nodes know everything; {:?}", nodes.len(), started.elapsed());
        if count == nodes.len() { break; }
        let v = nodes[20].mesh.view().load_full();
        println!("   n20: alive {} members {} services {}", alive(&v), v.members.len(), v.services.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("{:#?}", nodes[20].mesh.counts());
}
