//! Opaque TCP: each direction ends by itself, either side may speak first, and a break stays a break.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::backend::{Backend, nobody};
use crate::hosts::{Running, World, eventually, soon};

async fn two_nodes(world: &World, backend: std::net::SocketAddr) -> (Running, Running) {
    let db = world.node("db-1").offers_tcp("db", backend).start();
    let web = world.node("web-1").reaches("db").start();
    web.finds("db", 1).await;
    (db, web)
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn the_caller_may_end_its_half_and_still_read() {
    let backend = Backend::raw(|mut stream| async move {
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        stream.write_all(format!("got {all}").as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new();
    let (_db, web) = two_nodes(&world, backend.address).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "got all of it");
}

#[tokio::test]
async fn the_service_may_end_its_half_and_still_read() {
    let (said, mut is_said) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let said = said.clone();
        async move {
            stream.write_all(b"that was all").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut all = String::new();
            stream.read_to_string(&mut all).await.unwrap();
            said.send(all).unwrap();
        }
    })
    .await;
    let world = World::new();
    let (_db, web) = two_nodes(&world, backend.address).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    let mut greeting = String::new();
    soon("the greeting", stream.read_to_string(&mut greeting)).await.unwrap();
    assert_eq!(greeting, "that was all");
    stream.write_all(b"and yet").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("what was said after", is_said.recv()).await.unwrap(), "and yet");
}

#[tokio::test]
async fn the_service_may_speak_first() {
    let backend = Backend::raw(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = [0; 6];
        stream.read_exact(&mut line).await.unwrap();
        stream.write_all(b"221 bye\r\n").await.unwrap();
    })
    .await;
    let world = World::new();
    let (_db, web) = two_nodes(&world, backend.address).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    let mut greeting = [0; 11];
    soon("the greeting", stream.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"QUIT\r\n").await.unwrap();
    let mut rest = String::new();
    soon("the end", stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "221 bye\r\n");
}

#[tokio::test]
async fn a_reset_by_the_service_is_a_reset_for_the_caller() {
    let backend = Backend::raw(|mut stream| async move {
        stream.write_all(b"half").await.unwrap();
        let mut go = [0; 1];
        stream.read_exact(&mut go).await.unwrap();
        reset(stream);
    })
    .await;
    let world = World::new();
    let (_db, web) = two_nodes(&world, backend.address).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    let mut half = [0; 4];
    soon("the first half", stream.read_exact(&mut half)).await.unwrap();
    stream.write_all(b"!").await.unwrap();
    let error = soon("the break", stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "an end would look as if all had come");
}

#[tokio::test]
async fn a_reset_by_the_caller_is_a_reset_for_the_service() {
    let (broke, mut is_broken) = mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let broke = broke.clone();
        async move {
            stream.write_all(b"?").await.unwrap();
            broke.send(stream.read_u8().await).unwrap();
        }
    })
    .await;
    let world = World::new();
    let (_db, web) = two_nodes(&world, backend.address).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    soon("the connection stands", stream.read_u8()).await.unwrap();
    reset(stream);
    let error = soon("the break", is_broken.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_reset() {
    let world = World::new();
    let (_db, web) = two_nodes(&world, nobody().await).await;
    let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
    let error = soon("the refusal", stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_connection_goes_to_the_node_where_the_service_is_up() {
    let backend = Backend::raw(|mut stream| async move { stream.write_all(b"up").await.unwrap() }).await;
    let world = World::new();
    let _down = world.node("db-1").offers_tcp("db", nobody().await).start();
    let _up = world.node("db-2").offers_tcp("db", backend.address).start();
    let web = world.node("web-1").reaches("db").start();
    web.finds("db", 2).await;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(web.way("db")).await.unwrap();
        let mut answer = String::new();
        soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, "up");
    }
}

#[tokio::test]
async fn megabytes_go_both_ways_at_once_and_are_counted() {
    const SIZE: usize = 8 << 20;
    let echo = Backend::raw(|mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    })
    .await;
    let world = World::new();
    let (db, web) = two_nodes(&world, echo.address).await;
    let (mut reader, mut writer) = TcpStream::connect(web.way("db")).await.unwrap().into_split();
    let sent: Vec<u8> = (0..SIZE).map(|n| (n ^ n >> 9).to_le_bytes()[0]).collect();
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&copy).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    soon("all of it back", reader.read_to_end(&mut back)).await.unwrap();
    writing.await.unwrap();
    assert!(back == sent, "{} of {SIZE} bytes", back.len());
    for (node, direction) in [(&web, "direction=\"outbound\""), (&db, "direction=\"inbound\"")] {
        eventually("the connection is closed", || node.metric("starling_tcp_open_connections", &[direction]) == 0)
            .await;
        let count = |name| node.metric(name, &[direction]);
        assert_eq!(count("starling_tcp_connections_total"), 1);
        assert_eq!(count("starling_tcp_read_bytes_total"), SIZE as u64, "{direction}");
        assert_eq!(count("starling_tcp_write_bytes_total"), SIZE as u64, "{direction}");
    }
}
