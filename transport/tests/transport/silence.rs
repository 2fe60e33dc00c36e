use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_transport::{Alpn, Carriers, Connection, Dialer, Incoming};

use crate::fixture::{CONNECT, Mesh, ask, serve, soon, until};
use crate::relay::Relay;
use crate::tcp_relay::TcpRelay;

/// A connection through a relay to a server that answers.
async fn behind_relay(mesh: &Mesh) -> (Relay, Dialer, Connection) {
    let listener = mesh.listener("web-1");
    let relay = Relay::to(listener.local_addr()).await;
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let dialer = mesh.dialer("web-2");
    let connection = dialer.connect(relay.address(), None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
    (relay, dialer, connection)
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_word_is_noticed_and_heals_when_it_is_back() {
    let (relay, _dialer, connection) = behind_relay(&Mesh::new()).await;
    relay.cut();
    let began = Instant::now();
    let request = connection.begin_request();
    soon("silence", request.connection().silent()).await;
    let noticed = began.elapsed();
    assert!(connection.is_silent());
    // Not before its patience is over. How soon after that is tested with the machine, on virtual time.
    assert!(noticed >= Duration::from_millis(200), "{noticed:?}");
    drop(request);
    relay.heal();
    until("it heals", || !connection.is_silent()).await;
    assert_eq!(ask(&connection).await.unwrap(), b"here");
}

#[tokio::test]
async fn a_slow_answer_is_not_silence() {
    let mesh = Mesh::new();
    let (relay, _dialer, connection) = behind_relay(&mesh).await;
    let _request = connection.begin_request();
    let silent = tokio::time::timeout(Duration::from_millis(900), connection.silent()).await;
    assert!(silent.is_err(), "the peer acknowledges our probes");
    relay.cut();
    soon("silence", connection.silent()).await;
}

#[tokio::test]
async fn an_idle_connection_is_left_alone() {
    let (relay, _dialer, connection) = behind_relay(&Mesh::new()).await;
    // What is still in flight of the first request settles.
    let mut sent = connection.traffic().1;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = connection.traffic().1;
        if now == sent {
            break;
        }
        sent = now;
    }
    relay.cut();
    let silent = tokio::time::timeout(Duration::from_millis(600), connection.silent()).await;
    assert!(silent.is_err(), "nothing was due");
    assert_eq!(connection.traffic().1, sent, "nothing was sent");
}

#[tokio::test]
async fn a_peer_that_speaks_and_does_not_hear_is_silent_and_stays_so() {
    let mesh = Mesh::new();
    let (mut listener, dialer) = (mesh.listener("web-1"), mesh.dialer("web-2"));
    let relay = Relay::to(listener.local_addr()).await;
    let dial = dialer.connect(relay.address(), None, Alpn::Data, CONNECT);
    let (near, far) = soon("a connection", async { tokio::join!(dial, listener.accept()) }).await;
    let (near, Some(Incoming::Data(far))) = (near.unwrap(), far) else { panic!("no data connection") };
    let request = near.begin_request();
    let (mut send, mut recv) = near.open().await.unwrap();
    send.write_raw(Bytes::from_static(b"?")).await.unwrap();
    let (mut answer, _question) = soon("the request", far.accept()).await.unwrap();
    relay.deafen();
    // It goes through, and is sent again and again: its acknowledgement does not come back.
    answer.write_raw(Bytes::from_static(b"!")).await.unwrap();
    assert_eq!(soon("the answer", recv.read_raw(1)).await.unwrap().unwrap(), "!");
    soon("silence", near.silent()).await;
    let heard = near.traffic().0;
    until("it speaks on", || {
        assert!(near.is_silent());
        near.traffic().0 > heard + 200
    })
    .await;
    drop(request);
    relay.heal();
    until("it heals", || !near.is_silent()).await;
}

#[tokio::test]
async fn over_tcp_a_peer_that_vanishes_is_noticed_too_and_heals_when_it_is_back() {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let relay = TcpRelay::to(listener.local_addr()).await;
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let dialer = mesh.dialer_over("web-2", Carriers::Tcp);
    let connection = dialer.connect(relay.address(), None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
    let slow = connection.begin_request();
    let silent = tokio::time::timeout(Duration::from_millis(900), connection.silent()).await;
    assert!(silent.is_err(), "the peer answers our probes");
    relay.cut();
    soon("silence", connection.silent()).await;
    drop(slow);
    relay.heal();
    until("it heals", || !connection.is_silent()).await;
    assert_eq!(ask(&connection).await.unwrap(), b"here");
}
