//! What is refused, counted and named, and changes nothing.

use std::time::Duration;

use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{Alpn, Dialer, Limits};

use crate::fleet::{self, DEADLINE, Fleet, Node, address, alive, eventually, offers, refused, seed, take_over};

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
    let Some(Answer::Pong(pong)) =
        ask(&b.tls, Some(Ask::Ping(v1::Ping { target: owner.clone(), ..v1::Ping::default() }))).await
    else {
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
