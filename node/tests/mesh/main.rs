//! Meshes of whole nodes, in process, over real sockets on loopback. That things happen is tested here; how soon they must, on
//! the virtual time of the gossip simulator and by `starling-chaos reach`.

mod blocked;
mod fleet;
mod keys;
mod operation;
mod refusals;

use std::collections::BTreeSet;

use fleet::{DEADLINE, Fleet, Node, address, alive, eventually, offers, seed, state_of};
use starling::mesh::{MeshError, Seed};
use starling_gossip::State;
use starling_proto::NodeAddress;
use starling_proto::mesh::v1;

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
    let free = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpListener::bind(socket.local_addr().unwrap()).ok()?;
        Some((socket, tcp))
    };
    let free = || std::iter::repeat_with(free).flatten().next().unwrap();
    let sockets = [free(), free(), free(), free()];
    let ports = sockets.each_ref().map(|(socket, _)| socket.local_addr().unwrap().port());
    drop(sockets);
    let at = |n: usize| NodeAddress { ip: [127, 0, 0, 1].into(), gossip_port: ports[n], quic_port: ports[n + 1] };
    let a = fleet.start("a", at(0), vec![]);
    let name = Seed::Dns { name: "localhost".into(), port: a.address.quic_port };
    let b = fleet.start("b", at(2), vec![name]);
    b.sees("the other", |view| alive(view) == 2).await;
    a.sees("the other", |view| alive(view) == 2).await;
}

#[tokio::test]
async fn five_nodes_started_together_know_each_other() {
    let fleet = Fleet::new();
    let names = ["a", "b", "c", "d", "e"];
    let addresses = names.map(|_| address());
    for name in names {
        fleet.identity(name);
    }
    let seeds: Vec<Seed> = addresses.iter().map(|address| seed(*address)).collect();
    let nodes: Vec<Node> =
        names.iter().zip(addresses).map(|(name, address)| fleet.start(name, address, seeds.clone())).collect();
    for (node, name) in nodes.iter().zip(names) {
        node.offer(&format!("svc-{name}")).await;
    }
    for node in &nodes {
        node.sees("all five and all services", |view| {
            alive(view) == 5 && names.iter().all(|name| offers(view, &format!("svc-{name}")) == 1)
        })
        .await;
    }
    let hashes = async {
        loop {
            let mut hashes = BTreeSet::new();
            for node in &nodes {
                hashes.insert(node.mesh.status().await.unwrap().catalog_hash);
            }
            if hashes.len() == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, hashes).await.is_ok(), "the catalogs do not agree");
    for node in &nodes {
        let counts = node.mesh.counts();
        let refused: Vec<_> = counts.refused.values().flat_map(|reasons| reasons.keys()).collect();
        // A datagram that an exchange of states overtakes lies below the floor which that names: it counts as a replay.
        let early = ["not-admitted", "unknown-sender", "unknown-author", "unknown-generation", "replay"];
        assert!(refused.iter().all(|reason| early.contains(reason)), "{counts:?}");
        assert_eq!((counts.inputs_dropped, counts.unwritten), (0, 0));
    }
}

#[tokio::test]
async fn a_record_that_changes_or_is_withdrawn_is_known_to_all() {
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
    a.mesh.go_away("test").await.unwrap();
    for node in [&b, &c] {
        node.sees("web drains", draining).await;
    }
    a.mesh.withdraw(&"web".parse().unwrap(), 0).await.unwrap();
    for node in [&b, &c] {
        node.sees("web gone", |view| offers(view, "web") == 0).await;
    }
}

#[tokio::test]
async fn a_record_too_large_for_gossip_travels_by_chitchat() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    fleet::meet(&[&a, &b, &c]).await;
    let label = "x".repeat(3_000);
    let labels = [("note".to_owned(), label.clone())].into();
    a.mesh.register(v1::ServiceRecord { labels, ..fleet::record("web") }).await.unwrap();
    for node in [&b, &c] {
        node.sees("the label", |view| {
            let web = view.services.get(&"web".parse().unwrap());
            web.is_some_and(|endpoints| endpoints[0].labels.get("note") == Some(&label))
        })
        .await;
        // Whoever hears that there is something new asks for it, too, and may have it by that way first.
        eventually("chitchat brings it", || node.mesh.counts().values > 0).await;
    }
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
    let again = tokio::time::timeout(DEADLINE, b.mesh.leave("again")).await;
    assert!(matches!(again, Ok(Err(MeshError::Stopped))));
}

#[tokio::test]
async fn a_killed_node_is_listed_down_and_back_after_its_return() {
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
    for node in [&a, &c] {
        node.sees("b down", |view| state_of(view, "b") == Some(State::Down) && offers(view, "web") == 0).await;
    }
    let b = fleet.start("b", b_address, vec![]);
    b.offer("web").await;
    for node in [&a, &c] {
        node.sees("b is back", |view| {
            let b = view.members.values().find(|member| member.name == "b").unwrap();
            b.state == State::Alive && b.generation > before && offers(view, "web") == 1
        })
        .await;
    }
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
async fn twelve_nodes_agree_though_none_tells_all_others_itself() {
    let fleet = Fleet::new();
    let addresses: Vec<_> = (0..12).map(|_| address()).collect();
    let seeds: Vec<Seed> = addresses[..3].iter().map(|address| seed(*address)).collect();
    let start = |(n, address): (usize, &NodeAddress)| fleet.start(&format!("n{n}"), *address, seeds.clone());
    let nodes: Vec<Node> = addresses.iter().enumerate().map(start).collect();
    for node in &nodes {
        node.sees("all", |view| alive(view) == 12).await;
    }
    let labels = [("note".to_owned(), "x".repeat(3_000))].into();
    nodes[7].mesh.register(v1::ServiceRecord { labels, ..fleet::record("large") }).await.unwrap();
    for node in &nodes {
        node.sees("the record", |view| offers(view, "large") == 1).await;
    }
}
