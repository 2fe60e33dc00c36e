//! Rotation of the group key in a running mesh.

use std::os::unix::fs::PermissionsExt as _;

use starling::keyring::{Standing, Step};
use starling::mesh::ChangeKeysError;
use starling_gossip::StatementError;
use starling_proto::mesh::v1;
use starling_transport::ca::Administrator;
use starling_transport::{Alpn, Dialer, Limits};

use crate::fleet::{DEADLINE, Fleet, Node, address, alive, eventually, meet, refused, seed};

/// The three steps of a rotation, each signed on what the one before left.
fn rotation(fleet: &Fleet) -> [v1::KeyringState; 3] {
    let administrator = Administrator::open(&fleet.path("ca")).unwrap();
    let mut standing = Standing::find(&administrator, None).unwrap();
    [Step::Install, Step::Use(None), Step::Remove(None)].map(|step| {
        standing = standing.step(&administrator, step).unwrap();
        standing.state(&administrator).unwrap()
    })
}

async fn revision(node: &Node) -> u64 {
    node.mesh.keys().await.unwrap().revision
}

/// Waits until a node, and as far as it knows all others, have a revision.
async fn all_have(nodes: &[&Node], wanted: u64) {
    let has = async |node: &Node| {
        let keys = node.mesh.keys().await.unwrap();
        keys.revision == wanted && keys.peers.len() + 1 == nodes.len() && keys.peers.values().all(|p| p.current)
    };
    let all = async {
        // Packets tell: there is nothing to wait on but the next one.
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
        for node in nodes {
            while !has(node).await {
                tick.tick().await;
            }
        }
    };
    assert!(tokio::time::timeout(DEADLINE, all).await.is_ok(), "not all have revision {wanted}");
}

/// Datagrams that a node could not open.
fn unopened(node: &Node) -> u64 {
    refused(&node.mesh, "datagram", "epoch") + refused(&node.mesh, "datagram", "unsealed")
}

#[tokio::test]
async fn a_rotation_loses_no_packet_and_restarts_nobody() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let b = fleet.start("b", address(), vec![seed(a.address)]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    let nodes = [&a, &b, &c];
    meet(&nodes).await;
    // Each at another node, and none waits for the last one to be known.
    for (node, state) in nodes.into_iter().zip(rotation(&fleet)) {
        node.mesh.change_keys(state.clone()).await.unwrap();
        node.mesh.change_keys(state).await.unwrap();
    }
    all_have(&nodes, 3).await;
    for node in nodes {
        let keys = node.mesh.keys().await.unwrap();
        assert_eq!((keys.in_use, keys.keys.len()), (2, 1));
        let received = node.mesh.counts().datagrams_received;
        eventually("packets go on", || node.mesh.counts().datagrams_received > received + 10).await;
        assert_eq!(unopened(node), 0);
        assert_eq!(alive(&node.mesh.view().load()), 3);
    }
}

#[tokio::test]
async fn keys_outlive_a_kill_and_who_was_away_gets_them_when_it_joins() {
    let fleet = Fleet::new();
    let (at_a, at_b, at_c) = (address(), address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    // Its files are of before the rotation.
    fleet.identity("c");
    a.sees("b", |view| alive(view) == 2).await;
    for state in rotation(&fleet) {
        b.mesh.change_keys(state).await.unwrap();
    }
    all_have(&[&a, &b], 3).await;
    let c = fleet.start("c", at_c, vec![seed(at_b)]);
    all_have(&[&a, &b, &c], 3).await;
    let nodes = [("a", a), ("b", b), ("c", c)];
    for (name, _) in &nodes {
        let file = fleet.path(&format!("{name}-data/keyring"));
        eventually("written", || std::fs::metadata(&file).is_ok_and(|about| about.len() > 100)).await;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let members = fleet.path(&format!("{name}-data/members"));
        eventually("members", || std::fs::read_to_string(&members).is_ok_and(|text| text.lines().count() >= 2)).await;
    }
    for (_, node) in nodes {
        node.kill();
    }
    // All at once, and no seed: each starts with what its disk holds.
    let (a, b, c) = (fleet.start("a", at_a, vec![]), fleet.start("b", at_b, vec![]), fleet.start("c", at_c, vec![]));
    for node in [&a, &b, &c] {
        assert_eq!(revision(node).await, 3);
        node.sees("all again", |view| alive(view) == 3).await;
        assert_eq!(unopened(node), 0);
    }
}

#[tokio::test]
async fn what_no_administrator_signed_changes_nothing_and_its_bearer_is_named() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    b.sees("both", |view| alive(view) == 2).await;
    a.sees("both", |view| alive(view) == 2).await;
    let [forged, ..] = rotation(&other);
    let told = a.mesh.change_keys(forged.clone()).await;
    assert!(matches!(told, Err(ChangeKeysError::Refused(StatementError::UnknownAdministrator))));
    // b's certificate in other hands.
    let dialer = Dialer::bind(at_b.ip, &b.tls, &Limits::default()).unwrap();
    let connection = dialer.connect(at_a.quic(), None, Alpn::Control, DEADLINE).await.unwrap();
    let (mut send, mut recv) = connection.open().await.unwrap();
    let kind = Some(v1::control_request::Kind::Keyring(forged));
    send.send_head(&v1::ControlRequest { kind }).await.unwrap();
    send.finish().unwrap();
    let answer = recv.recv_head::<v1::ControlResponse>(1 << 16).await.unwrap().kind;
    assert_eq!(answer, Some(v1::control_response::Kind::Keyring(v1::KeyringState::default())));
    assert_eq!(refused(&a.mesh, "keys", "unknown-administrator"), 1);
    assert_eq!((revision(&a).await, revision(&b).await), (0, 0));
    // An older one than what counts is no error of its bearer, and tells the operator so.
    let [installed, used, _] = rotation(&fleet);
    a.mesh.change_keys(used).await.unwrap();
    assert!(matches!(a.mesh.change_keys(installed).await, Err(ChangeKeysError::Stale(2))));
}

#[tokio::test]
async fn what_others_offer_is_on_disk_and_back_as_soon_as_they_are() {
    let fleet = Fleet::new();
    let (at_a, at_b) = (address(), address());
    let a = fleet.start("a", at_a, vec![]);
    a.offer("web").await;
    let b = fleet.start("b", at_b, vec![seed(at_a)]);
    b.sees("a", |view| alive(view) == 2).await;
    let file = fleet.path("b-data/records");
    let holds = || std::fs::read(&file).unwrap_or_default().windows(17).any(|window| window == b"svc/default/web/0");
    eventually("written", holds).await;
    b.kill();
    let b = fleet.start("b", at_b, vec![]);
    b.sees("a, without a seed", |view| alive(view) == 2 && crate::fleet::offers(view, "web") == 1).await;
}
