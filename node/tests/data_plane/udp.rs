//! Datagrams through the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::hosts::{Plan, Running, World, eventually, soon};

/// A service that sends each datagram back with the number of its caller's socket.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = vec![0; 65_536];
        while let Ok((len, peer)) = socket.recv_from(&mut room).await {
            let _ = socket.send_to(&room[..len], peer).await;
        }
    });
    address
}

/// The same, but that each answer waits until it is told to go.
async fn slow_echo() -> (SocketAddr, Arc<Notify>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, go) = (socket.local_addr().unwrap(), Arc::new(Notify::new()));
    let gate = Arc::clone(&go);
    tokio::spawn(async move {
        let mut room = vec![0; 65_536];
        while let Ok((len, peer)) = socket.recv_from(&mut room).await {
            gate.notified().await;
            let _ = socket.send_to(&room[..len], peer).await;
        }
    });
    (address, go)
}

const WAY: u16 = 5300;

fn names(world: &World, service: SocketAddr) -> Running {
    world.node("names-1").offers_speaking("names", service, "udp").start()
}

fn web(world: &World) -> Plan<'_> {
    let listener = format!("[[listener]]\naddress = \"IP:{WAY}\"\nservice = \"names\"\nprotocol = \"udp\"\n");
    world.node("web-1").with(&listener)
}

async fn socket(web: &Running) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect((web.place().ip, WAY)).await.unwrap();
    socket
}

async fn ask(socket: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    let mut room = vec![0; 65_536];
    socket.send(datagram).await.unwrap();
    let len = soon("an answer", socket.recv(&mut room)).await.unwrap();
    room.truncate(len);
    room
}

#[tokio::test]
async fn datagrams_of_every_size_come_back_to_whoever_sent_them() {
    let world = World::new();
    let (_names, web) = (names(&world, echo().await), web(&world).start());
    web.finds("names", 1).await;
    let sockets = [Arc::new(socket(&web).await), Arc::new(socket(&web).await)];
    for size in [0, 1, 512, 1_200, 1_500, 9_000, 60_000] {
        for (n, socket) in sockets.iter().enumerate() {
            let datagram = vec![u8::try_from(n).unwrap() + 1; size];
            assert_eq!(ask(socket, &datagram).await, datagram, "{size}");
        }
    }
}

/// How many a node sent to others, by what carried them.
fn sent(node: &Running, by: &str) -> u64 {
    node.metric("starling_udp_sent_total", &[by])
}

#[tokio::test]
async fn those_that_a_packet_holds_are_datagrams_on_the_hop_too() {
    let world = World::new();
    let (names, web) = (names(&world, echo().await), web(&world).start());
    web.finds("names", 1).await;
    let socket = socket(&web).await;
    for size in [0, 1_000, 60_000] {
        ask(&socket, &vec![7; size]).await;
    }
    for node in [&names, &web] {
        assert_eq!((sent(node, "\"datagram\""), sent(node, "\"stream\"")), (2, 1));
    }
}

#[tokio::test]
async fn over_tcp_the_stream_of_a_flow_carries_all() {
    let world = World::new();
    let (names, web) = (names(&world, echo().await), web(&world).over_tcp().start());
    web.finds("names", 1).await;
    let socket = socket(&web).await;
    for size in [0, 1_000, 60_000] {
        assert_eq!(ask(&socket, &vec![7; size]).await.len(), size);
    }
    for node in [&names, &web] {
        assert_eq!((sent(node, "\"datagram\""), sent(node, "\"stream\"")), (0, 3));
    }
}

#[tokio::test]
async fn a_node_that_drains_waits_for_a_last_answer_and_not_for_flows_that_are_silent() {
    let world = World::new();
    let (service, go) = slow_echo().await;
    let (names, web) = (names(&world, service), web(&world).start());
    web.finds("names", 1).await;
    let socket = socket(&web).await;
    go.notify_one();
    assert_eq!(ask(&socket, b"one").await, b"one");
    socket.send(b"two").await.unwrap();
    eventually("it is there", || names.metric("starling_udp_sent_total", &[]) == 1 && sent(&web, "\"datagram\"") == 2)
        .await;
    let (stopped, answer) = tokio::join!(names.stop(), async {
        eventually("others hear that it drains", || {
            let endpoints = web.source.endpoints(&"names".parse().unwrap()).unwrap_or_default();
            endpoints.iter().all(|endpoint| endpoint.state == "draining")
        })
        .await;
        go.notify_one();
        let mut room = [0; 8];
        let len = soon("the last answer", socket.recv(&mut room)).await.unwrap();
        room[..len].to_vec()
    });
    assert_eq!((stopped.is_ok(), &answer[..]), (true, &b"two"[..]));
}

#[tokio::test]
async fn a_flow_ends_when_nothing_comes_for_a_while_and_begins_anew() {
    let world = World::new();
    let short = "[limits]\nflow_timeout = \"500ms\"\n";
    let (names, web) = (names(&world, echo().await), web(&world).with(short).start());
    web.finds("names", 1).await;
    let socket = socket(&web).await;
    assert_eq!(ask(&socket, b"one").await, b"one");
    assert_eq!(web.metric("starling_udp_flows", &[]), 1);
    eventually("the flow is over", || web.metric("starling_udp_flows", &[]) == 0).await;
    eventually("there, too", || names.metric("starling_udp_flows", &[]) == 0).await;
    assert_eq!(ask(&socket, b"two").await, b"two");
}

#[tokio::test]
async fn what_nobody_takes_is_dropped_and_counted() {
    let world = World::new();
    let web = web(&world).start();
    let socket = socket(&web).await;
    socket.send(b"lost").await.unwrap();
    eventually("it is counted", || web.metric("starling_udp_dropped_total", &["no-service"]) == 1).await;
}
