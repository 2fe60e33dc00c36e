//! Datagrams through the mesh.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use crate::hosts::{Running, World, eventually, soon};

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

const WAY: u16 = 5300;

fn pair(world: &World, service: SocketAddr) -> (Running, Running) {
    let offers = world.node("names-1").offers_speaking("names", service, "udp").start();
    let listener = format!("[[listener]]\naddress = \"IP:{WAY}\"\nservice = \"names\"\nprotocol = \"udp\"\n");
    let web = world.node("web-1").with(&listener).with("[limits]\nflow_timeout = \"500ms\"\n").start();
    (offers, web)
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
    let (_names, web) = pair(&world, echo().await);
    web.finds("names", 1).await;
    let sockets = [Arc::new(socket(&web).await), Arc::new(socket(&web).await)];
    for size in [0, 1, 512, 1_200, 1_500, 9_000, 60_000] {
        for (n, socket) in sockets.iter().enumerate() {
            let datagram = vec![u8::try_from(n).unwrap() + 1; size];
            assert_eq!(ask(socket, &datagram).await, datagram, "{size}");
        }
    }
}

#[tokio::test]
async fn a_flow_ends_when_nothing_comes_for_a_while_and_begins_anew() {
    let world = World::new();
    let (names, web) = pair(&world, echo().await);
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
    let listener = format!("[[listener]]\naddress = \"IP:{WAY}\"\nservice = \"names\"\nprotocol = \"udp\"\n");
    let web = world.node("web-1").with(&listener).start();
    let socket = socket(&web).await;
    socket.send(b"lost").await.unwrap();
    eventually("it is counted", || web.metric("starling_udp_dropped_total", &["no-service"]) == 1).await;
}
