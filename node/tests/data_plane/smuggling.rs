//! What could be read in two ways is refused, by both nodes alike, and never becomes two requests (RFC 9112, section 11.2).

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, exchange, post};
use crate::hosts::{Running, World, eventually, soon};

/// A name, the bytes, and the reason that they are counted under.
const VECTORS: &[(&str, &str, &str)] = &[
    (
        "a length beside a coding",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "length-and-coding",
    ),
    (
        "a coding beside a length",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "length-and-coding",
    ),
    ("a second length", "content-length: 0\r\ncontent-length: 44\r\n\r\n", "repeated-length"),
    ("the same length twice", "content-length: 0\r\ncontent-length: 0\r\n\r\n", "repeated-length"),
    ("a list of lengths", "content-length: 0, 0\r\n\r\n", "repeated-length"),
    ("a length with a sign", "content-length: +0\r\n\r\n", "bad-length"),
    ("a length with a minus", "content-length: -1\r\n\r\n", "bad-length"),
    ("a hexadecimal length", "content-length: 0x2c\r\n\r\n", "bad-length"),
    ("a length beyond counting", "content-length: 99999999999999999999\r\n\r\n", "bad-length"),
    ("a coding that only looks like one", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", "bad-coding"),
    ("another coding before it", "transfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n", "bad-coding"),
    ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n", "bad-coding"),
    ("a tab before the coding's name", "\ttransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "bad-head"),
    ("a space before the colon", "transfer-encoding : chunked\r\n\r\n0\r\n\r\n", "bad-head"),
    ("a folded coding", "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "bad-head"),
    ("a folded field", "x-a: b\r\n\tcontent-length: 3\r\n\r\n", "bad-head"),
    ("a line that LF ends", "x-a: b\ncontent-length: 3\r\n\r\n", "bare-line-feed"),
    ("a line that CR ends", "x-a: b\rcontent-length: 3\r\n\r\n", "bare-line-feed"),
    ("a NUL in a value", "x-a: b\0c\r\n\r\n", "bare-line-feed"),
    ("a NUL in a name", "x-\0a: b\r\n\r\n", "bare-line-feed"),
    ("an empty name", ": b\r\n\r\n", "bad-head"),
    ("a second host", "host: other.mesh\r\n\r\n", "bad-host"),
    ("a chunk longer than it says", "transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "bad-body"),
    ("a chunk size that is none", "transfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", "bad-body"),
    (
        "a chunk size beyond counting",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\na\r\n0\r\n\r\n",
        "bad-body",
    ),
    ("a chunk size that LF ends", "transfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", "bad-body"),
    ("an extension that hides a line", "transfer-encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", "bad-body"),
    ("a trailer that LF ends", "transfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n\r\n", "bad-body"),
];

/// What an attacker hides behind the first request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: orders.mesh\r\n\r\n";

fn counted(node: &Running, reason: &str) -> u64 {
    node.metric("starling_bad_requests_total", &[&format!("\"{reason}\"")])
}

#[tokio::test]
async fn no_vector_becomes_a_request_and_each_is_counted_by_its_reason() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for (name, rest, reason) in VECTORS {
        let before = counted(&web, reason);
        let bytes = format!("POST /seen HTTP/1.1\r\nhost: orders.mesh\r\n{rest}{HIDDEN}");
        let (answer, _) = exchange(web.way("orders"), bytes.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("starling-error: bad-request"),
            "{name}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        eventually(name, || counted(&web, reason) == before + 1).await;
    }
    let hidden: Vec<_> = backend.seen().into_iter().filter(|seen| seen.head.uri == "/hidden").collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[tokio::test]
async fn what_follows_a_whole_request_is_another_one_and_answers_keep_their_order() {
    let backend = Backend::http(|request| http::Response::new(full(request.head.uri.to_string()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut bytes = (0..50).fold(String::new(), |mut bytes, n| {
        write!(bytes, "POST /{n} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\n\r\n")
            .unwrap();
        bytes
    });
    bytes.push_str("GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let (answer, end) = exchange(web.way("orders"), bytes.as_bytes()).await;
    end.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let bodies: Vec<&str> =
        answer.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP/1.1").next().unwrap()).collect();
    let expected: Vec<String> = (0..50).map(|n| format!("/{n}")).chain(["/last".to_owned()]).collect();
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn a_body_of_a_million_tiny_chunks_arrives_as_it_is() {
    const CHUNKS: usize = 1_000_000;
    let backend = Backend::http(|request| http::Response::new(full(request.body.len().to_string()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").patient().reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        writer
            .write_all(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        let many = b"1\r\nx\r\n".repeat(CHUNKS / 100);
        for _ in 0..100 {
            writer.write_all(&many).await.unwrap();
        }
        writer.write_all(b"0\r\n\r\n").await.unwrap();
    };
    let mut answer = String::new();
    let ((), read) = soon("the answer", async { tokio::join!(sending, reader.read_to_string(&mut answer)) }).await;
    read.unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{CHUNKS}")), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_its_head_drop_by_drop_is_let_go_of_and_others_are_served() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").hasty().reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            ticks.tick().await;
        }
    };
    let mut answer = Vec::new();
    soon("the end", async {
        tokio::select! { _ = reader.read_to_end(&mut answer) => {}, () = dripping => {} }
    })
    .await;
    eventually("it is counted", || counted(&web, "slow-head") == 1).await;
    // And one whose body stands still.
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab").await.unwrap();
    let head = soon("a refusal", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    eventually("it is counted", || counted(&web, "slow-body") == 1).await;
    assert_eq!(call(web.way("orders"), post("/", "x")).await.status, 200);
}
