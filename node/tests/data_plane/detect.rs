//! A service that does not say what it speaks: whichever side speaks first shows it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::caller::{call, get};
use crate::hosts::{Running, World, eventually, soon};
use crate::http2::{connect, h2_backend, request};

async fn pair(world: &World, backend: &Backend) -> (Running, Running) {
    let orders = world.node("orders-1").offers_speaking("orders", backend.address, "detect").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    (orders, web)
}

#[tokio::test]
async fn http_is_carried_as_http_in_the_version_of_the_caller() {
    let world = World::new();
    let backend = Backend::says("hello").await;
    let (orders, web) = pair(&world, &backend).await;
    let answer = call(web.way("orders"), get("/")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    for node in [&web, &orders] {
        eventually("it counts as a request", || node.metric("starling_requests_total", &["2xx"]) == 1).await;
    }
    let world = World::new();
    let backend = h2_backend(|_, mut respond| async move {
        let answer = http::Response::builder().status(204).body(()).unwrap();
        respond.send_response(answer, true).unwrap();
    })
    .await;
    let (_orders, web) = pair(&world, &backend).await;
    let (response, _) = connect(web.way("orders")).await.send_request(request("GET", "/"), true).unwrap();
    assert_eq!(soon("an answer", response).await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_service_that_speaks_first_is_heard_at_once() {
    let world = World::new();
    let backend = Backend::raw(|mut stream| async move {
        stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let (_orders, web) = pair(&world, &backend).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let mut greeting = [0; 24];
    soon("the greeting", stream.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 mail.example ESMTP\r\n");
    stream.write_all(b"EHLO me\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    soon("the rest", stream.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "EHLO me\r\n");
}

#[tokio::test]
async fn what_is_no_http_is_carried_as_it_is_and_a_word_that_ends_early_is_not_held_back() {
    let world = World::new();
    let backend = Backend::raw(|mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let (_orders, web) = pair(&world, &backend).await;
    for words in ["*1\r\n$4\r\nPING\r\n", "GET", "\u{16}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        let mut answer = vec![0; words.len()];
        soon(words, stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, words.as_bytes());
    }
}
