//! TCP where UDP does not pass, what comes in over TCP and is no peer, and the way back to QUIC.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_transport::{
    Alpn, Carrier, Carriers, ConnectError, Connection, Dialer, Limits, Listener, Pool, PoolSettings, Refusal, Target,
    Tls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{CONNECT, Mesh, ask, serve, soon, until};
use crate::hostile::{self, params, signed};
use crate::relay::Relay;
use crate::tcp_relay::TcpRelay;

/// A node behind a relay that carries TCP and no UDP.
async fn without_udp(mesh: &Mesh) -> (Target, TcpRelay, std::net::SocketAddr) {
    let listener = mesh.listener("web-1");
    let server = listener.local_addr();
    let relay = TcpRelay::to(server).await;
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    (Target { spiffe: Mesh::spiffe("web-1"), address: relay.address() }, relay, server)
}

fn dialer(tls: &Tls) -> Dialer {
    Dialer::bind("127.0.0.1".parse().unwrap(), tls, &Limits::default()).unwrap()
}

async fn connect(dialer: &Dialer, target: &Target) -> Result<Connection, ConnectError> {
    dialer.connect(target.address, Some(&target.spiffe), Alpn::Data, CONNECT).await
}

#[tokio::test]
async fn where_udp_does_not_pass_a_peer_is_reached_over_tcp_and_the_next_dial_knows() {
    let mesh = Mesh::new();
    let (target, _relay, _) = without_udp(&mesh).await;
    let tls = mesh.tls("web-2");
    let first = connect(&dialer(&tls), &target).await.unwrap();
    assert_eq!((first.carrier(), first.stands_in()), (Carrier::Tcp, true));
    assert_eq!(ask(&first).await.unwrap(), b"here");
    assert_eq!(tls.paths().by_tcp().get(&target.address), Some(&target.spiffe));
    // Another dialer of the same node need not find out again.
    let began = Instant::now();
    let second = connect(&dialer(&tls), &target).await.unwrap();
    assert_eq!(second.carrier(), Carrier::Tcp);
    println!("known to be reached over TCP: {:?}", began.elapsed());
    assert_eq!(tls.census().of(Carrier::Tcp), 2);
    drop((first, second));
    until("they are forgotten", || tls.census().of(Carrier::Tcp) == 0).await;
}

#[tokio::test]
async fn where_udp_passes_nothing_runs_over_tcp() {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let target = Target { spiffe: Mesh::spiffe("web-1"), address: listener.local_addr() };
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let tls = mesh.tls("web-2");
    let connection = connect(&dialer(&tls), &target).await.unwrap();
    assert_eq!((connection.carrier(), connection.stands_in()), (Carrier::Quic, false));
    assert!(tls.paths().by_tcp().is_empty());
}

#[tokio::test]
async fn one_who_is_refused_over_quic_is_not_let_in_over_tcp() {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| Vec::new()));
    let tls = mesh.tls("web-2");
    let expected = Mesh::spiffe("web-3");
    let outcome = dialer(&tls).connect(address, Some(&expected), Alpn::Data, CONNECT).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::WrongPeer { expected, found: Mesh::spiffe("web-1") });
    assert!(tls.paths().by_tcp().is_empty());
}

#[tokio::test]
async fn whoever_stands_in_anothers_place_and_blocks_udp_is_not_talked_to_either() {
    let mesh = Mesh::new();
    let (mut target, _relay, _) = without_udp(&mesh).await;
    target.spiffe = Mesh::spiffe("web-3");
    let found = Mesh::spiffe("web-1");
    let outcome = mesh.dialer("web-2");
    let outcome = outcome.connect(target.address, Some(&target.spiffe), Alpn::Data, Duration::from_secs(1)).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::WrongPeer { expected: target.spiffe, found });
}

#[tokio::test]
async fn without_tcp_a_peer_that_udp_does_not_reach_is_not_reached() {
    let mesh = Mesh::new();
    let (target, _relay, _) = without_udp(&mesh).await;
    let timeout = Duration::from_millis(500);
    let outcome = mesh.dialer_over("web-2", Carriers::Quic).connect(target.address, None, Alpn::Data, timeout).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::Timeout(timeout));
}

#[tokio::test]
async fn a_pool_moves_to_quic_when_udp_passes_and_requests_under_way_finish() {
    let mesh = Mesh::new();
    let (target, _relay, server) = without_udp(&mesh).await;
    let tls = mesh.tls("web-2");
    let pool = Pool::start(Arc::new(dialer(&tls)), PoolSettings::default());
    pool.warm(std::slice::from_ref(&target));
    let over_tcp = soon("a connection", pool.connection(&target)).await.unwrap();
    assert_eq!(over_tcp.carrier(), Carrier::Tcp);
    let (mut send, mut recv) = over_tcp.open().await.unwrap();
    send.write_raw(Bytes::from_static(b"?")).await.unwrap();

    let _udp = Relay::at(target.address, server).await;
    let usable = || pool.try_connection(&target).and_then(Result::ok);
    until("QUIC is used", || usable().is_some_and(|connection| connection.carrier() == Carrier::Quic)).await;
    assert_eq!(ask(&usable().unwrap()).await.unwrap(), b"here");
    assert!(tls.paths().by_tcp().is_empty());
    send.finish().unwrap();
    assert_eq!(soon("the old answer", recv.read_raw(100)).await.unwrap().unwrap(), "here");
    drop((over_tcp, send, recv));
    until("nothing runs over TCP", || tls.census().of(Carrier::Tcp) == 0).await;
}

#[tokio::test]
async fn a_pool_moves_to_tcp_when_udp_is_cut_and_gives_up_what_waits_for_quic() {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let server = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let tcp = TcpRelay::to(server).await;
    let udp = Relay::at(tcp.address(), server).await;
    let target = Target { spiffe: Mesh::spiffe("web-1"), address: tcp.address() };
    let pool = Pool::start(Arc::new(mesh.dialer("web-2")), PoolSettings::default());
    let over_quic = soon("a connection", pool.connection(&target)).await.unwrap();
    assert_eq!(over_quic.carrier(), Carrier::Quic);

    let (mut send, mut recv) = over_quic.open().await.unwrap();
    let request = over_quic.begin_request();
    send.write_raw(Bytes::from_static(b"?")).await.unwrap();
    udp.deafen();
    let began = Instant::now();
    let usable = || pool.try_connection(&target).and_then(Result::ok);
    until("TCP is used", || usable().is_some_and(|connection| connection.carrier() == Carrier::Tcp)).await;
    println!("UDP cut: TCP is used after {:?}", began.elapsed());
    assert_eq!(ask(&usable().unwrap()).await.unwrap(), b"here");
    let given_up = soon("what waits is given up", recv.read_raw(1)).await.unwrap_err();
    println!("what waited was given up after {:?}: {given_up}", began.elapsed());
    drop(request);
}

#[tokio::test]
async fn what_is_no_tls_on_the_tcp_port_is_refused_and_counted() {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &Limits::default()).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let texts: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: web\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 600],
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
    ];
    for text in texts {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text).await.unwrap();
        let mut said = Vec::new();
        let _ = soon("it is closed", stream.read_to_end(&mut said)).await;
        assert!(said.len() < 16, "an alert at the most: {said:?}");
    }
    until("each is counted", || tls.refusals().of(Refusal::Noise) == texts.len() as u64).await;
    drop(TcpStream::connect(address).await.unwrap());
    until("one who goes again is counted", || tls.refusals().of(Refusal::Aborted) == 1).await;
    assert_eq!(tls.refusals().iter().map(|(_, count)| count).sum::<u64>(), 1 + texts.len() as u64);
    let connection =
        mesh.dialer_over("web-2", Carriers::Tcp).connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
}

#[tokio::test]
async fn those_who_say_nothing_hold_a_place_for_some_seconds_and_no_more_than_their_number() {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let limits = Limits { handshakes: 4, ..Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &limits).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    until("those beyond are let go of", || tls.refusals().of(Refusal::TooMany) == 2).await;
    let dialer = mesh.dialer_over("web-2", Carriers::Tcp);
    assert_eq!(dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap_err(), ConnectError::Busy);
    until("their time is over", || tls.refusals().of(Refusal::Timeout) == 4).await;
    assert_eq!(ask(&dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap()).await.unwrap(), b"here");
}

#[tokio::test]
async fn a_member_that_breaks_the_rules_of_streams_loses_its_connection_and_nothing_else() {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let good = mesh.dialer_over("web-2", Carriers::Tcp).connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    let certificate = signed(&mesh.authority(), &params("spiffe://demo.example/node/mallory"));
    let mut stream = hostile::tcp_client(Some(certificate), b"starling/1", address).await.unwrap();
    // Sixteen megabytes of one frame, before any settings.
    stream.write_all(&[2, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    let mut said = Vec::new();
    let _ = soon("it is closed", stream.read_to_end(&mut said)).await;
    assert!(String::from_utf8_lossy(&said).contains("a frame is too long"), "{said:?}");
    assert_eq!(ask(&good).await.unwrap(), b"here");
}

#[tokio::test]
async fn a_listener_that_closes_tells_those_who_came_over_tcp_and_waits_until_they_know() {
    let mesh = Mesh::new();
    let mut listener = mesh.listener("web-1");
    let address = listener.local_addr();
    let dialer = mesh.dialer_over("web-2", Carriers::Tcp);
    let dial = dialer.connect(address, None, Alpn::Data, CONNECT);
    let (near, far) = soon("a connection", async { tokio::join!(dial, listener.accept()) }).await;
    let (near, _far) = (near.unwrap(), far.unwrap());
    assert_eq!(listener.open_connections(), 1);
    listener.close(starling_proto::ErrorCode::Draining, "this node stops");
    assert_eq!(soon("the end", near.closed()).await.to_string(), "closed by the peer: this node stops");
    soon("all know", listener.wait_idle()).await;
    assert_eq!(listener.open_connections(), 0);
}
