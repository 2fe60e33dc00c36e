//! Answers before the answer (RFC 9110, section 15.2), and clients that say that they have said all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::backend::{Backend, read_head};
use crate::hosts::{World, eventually, soon};
use crate::http2::{h2_backend, read};

#[tokio::test]
async fn hints_and_progress_of_the_service_reach_its_caller_before_the_answer() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        stream.write_all(hints.as_bytes()).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.mesh\r\n\r\n").await.unwrap();
    let heads = [soon("hints", read_head(&mut stream)).await, soon("progress", read_head(&mut stream)).await];
    assert_eq!(heads[0], "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    assert!(heads[1].starts_with("HTTP/1.1 102 "), "{}", heads[1]);
    assert!(soon("the answer", read_head(&mut stream)).await.starts_with("HTTP/1.1 200 "));
    // A client of HTTP/1.0 knows none of them.
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(soon("the answer", read_head(&mut stream)).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_service_that_wants_no_body_says_so_before_it_is_sent() {
    let backend = Backend::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        stream
            .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let head = "PUT /large HTTP/1.1\r\nhost: orders.mesh\r\nexpect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = soon("the refusal", read_head(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn whether_a_body_is_wanted_is_asked_of_a_service_of_http2_as_well() {
    let backend = h2_backend(|request, mut respond| async move {
        assert_eq!(request.headers()["expect"], "100-continue");
        if request.uri().path() == "/large" {
            let refusal = http::Response::builder().status(413).body(()).unwrap();
            respond.send_response(refusal, true).unwrap();
            return;
        }
        respond.send_informational(http::Response::builder().status(100).body(()).unwrap()).unwrap();
        let (body, _) = read(request.into_body()).await.unwrap();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(body.into(), true).unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let head = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n"
        )
    };
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(head("/large").as_bytes()).await.unwrap();
    assert!(soon("the refusal", read_head(&mut stream)).await.starts_with("HTTP/1.1 413 "));
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(head("/").as_bytes()).await.unwrap();
    assert!(soon("the word", read_head(&mut stream)).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    let mut all = String::new();
    soon("the answer", stream.read_to_string(&mut all)).await.unwrap();
    assert!(all.contains("\r\n\r\n") && all.contains("hello"), "{all}");
}

#[tokio::test]
async fn what_follows_an_answer_to_a_body_that_was_never_sent_is_not_that_body() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let asks = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n";
    stream.write_all(asks.as_bytes()).await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close\r\n"), "{head}");
    let _ = stream.write_all(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut rest = String::new();
    let _ = soon("the end", stream.read_to_string(&mut rest)).await;
    assert_eq!(rest, "ok");
}

#[tokio::test]
async fn a_service_that_answers_instead_of_100_and_reads_on_sees_that_nothing_follows() {
    let (tell, mut told) = mpsc::channel(1);
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            tell.send(rest).await.unwrap();
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let asks = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 50\r\n\r\n";
    stream.write_all(asks.as_bytes()).await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(soon("the end of the request", told.recv()).await.unwrap(), b"");
}

#[tokio::test]
async fn a_client_that_ends_its_direction_still_gets_its_answer() {
    let backend = Backend::says("hello").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.mesh\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    soon("the answer", stream.read_to_string(&mut all)).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("\r\n\r\nhello"), "{all}");
}

#[tokio::test]
async fn a_client_that_ends_its_direction_and_then_goes_away_is_not_waited_for() {
    let (gone, begun) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, asked) = (Arc::clone(&gone), Arc::clone(&begun));
    let backend = Backend::raw(move |mut stream| {
        let (count, asked) = (Arc::clone(&count), Arc::clone(&asked));
        async move {
            read_head(&mut stream).await;
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read_u8().await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").patient().reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders.mesh\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    eventually("the service is asked", || begun.load(Ordering::Relaxed) == 1).await;
    drop(stream);
    eventually("the service sees it", || gone.load(Ordering::Relaxed) == 1).await;
}
