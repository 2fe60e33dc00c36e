//! Heads of any size are carried or refused, and never end more than their own connection.

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, exchange, get, with};
use crate::frames::{self, END_HEADERS, END_STREAM, frame};
use crate::hosts::{World, eventually, soon};

#[tokio::test]
async fn large_heads_pass_both_ways_and_larger_ones_are_refused() {
    let backend = Backend::http(|request| {
        let size: usize = request.field("x-answer").map_or(0, |size| size.parse().unwrap());
        Response::builder().header("x-large", "a".repeat(size)).body(full("ok")).unwrap()
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let large = "b".repeat(60 << 10);
    let answer = call(web.way("orders"), with(get("/"), &[("x-large", &large), ("x-answer", "61440")])).await;
    assert_eq!((answer.status.as_u16(), answer.field("x-large").unwrap().len()), (200, 60 << 10));
    assert_eq!(backend.last().field("x-large").unwrap(), large);

    let too_large = "c".repeat(80 << 10);
    let request = format!("GET / HTTP/1.1\r\nhost: orders.mesh\r\nx-large: {too_large}\r\n\r\n");
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    // The node may answer and hang up before it was read whole.
    let _ = stream.write_all(request.as_bytes()).await;
    let head = soon("a refusal", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    let huge = vec![b'd'; 1 << 20];
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let _ = stream.write_all(&[b"GET / HTTP/1.1\r\nx-huge: ", &huge[..]].concat()).await;
    let head = soon("a refusal or the end", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 431 ") || head.is_empty(), "{head}");

    let answer = call(web.way("orders"), with(get("/"), &[("x-answer", "81920")])).await;
    assert_eq!(answer.error(), (502, "upstream-protocol"));
    assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
}

#[tokio::test]
async fn many_fields_pass_and_too_many_are_refused() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let request = |fields: usize| {
        let fields = (0..fields).fold(String::new(), |fields, n| fields + &format!("x-{n}: {n}\r\n"));
        format!("GET / HTTP/1.1\r\nhost: orders.mesh\r\nconnection: close\r\n{fields}\r\n")
    };
    let (answer, _) = exchange(web.way("orders"), request(90).as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    assert_eq!(backend.last().field("x-89"), Some("89"));
    let (answer, _) = exchange(web.way("orders"), request(2000).as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_never_reaches_the_service() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for (kind, request) in [
        ("garbage", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..]),
        ("no version", b"GET /\r\n\r\n"),
        ("a folded field", b"GET / HTTP/1.1\r\nhost: orders.mesh\r\nx-a: 1\r\n folded: 2\r\n\r\n"),
        ("a space before the colon", b"GET / HTTP/1.1\r\nhost : orders.mesh\r\n\r\n"),
        ("a NUL", b"GET / HTTP/1.1\r\nhost: orders.mesh\r\nx-a: 1\x002\r\n\r\n"),
        ("two lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
        ("a length that is none", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc"),
        ("an unknown coding last", b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ] {
        let (answer, _) = exchange(web.way("orders"), request).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{kind}: {answer}");
    }
    assert!(backend.seen().is_empty(), "{:?}", backend.seen());
}

#[tokio::test]
async fn a_length_and_a_coding_together_are_never_passed_on_together() {
    let backend = Backend::http(|request| Response::new(full(request.body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let request = b"POST / HTTP/1.1\r\nhost: orders.mesh\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\
        connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let (answer, _) = exchange(web.way("orders"), request).await;
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.1 200 ") {
        let seen = backend.last();
        assert_eq!(&seen.body[..], b"abc");
        assert!(seen.field("content-length").is_none() || seen.field("transfer-encoding").is_none());
    } else {
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_loses_it() {
    let body = Bytes::from(vec![b'x'; 16 << 20]);
    let backend = Backend::http(move |_| Response::new(full(body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").with("[limits]\nsend_timeout = \"200ms\"\n").start();
    web.finds("orders", 1).await;
    let slow = || web.metric("starling_bad_requests_total", &["\"slow-reader\""]);
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    eventually("its connection is given up", || slow() == 1).await;
    soon("the end", stream.read_to_end(&mut Vec::new())).await.unwrap_err();

    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    // The window of each stream is nothing.
    stream.write_all(&frames::hello_with(&[0, 4, 0, 0, 0, 0])).await.unwrap();
    stream.write_all(&frame(1, END_HEADERS | END_STREAM, 1, &frames::get())).await.unwrap();
    eventually("its stream is given up", || slow() == 2).await;
    assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
}
