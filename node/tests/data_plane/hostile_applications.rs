//! Applications that answer with what is no answer: their caller is told so, in time and whole, and the next one is served.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, read_head};
use crate::caller::{call, get, try_call};
use crate::frames::{self, END_HEADERS, END_STREAM, frame};
use crate::hosts::{Running, World, eventually};

async fn pair(world: &World, backend: &Backend, protocol: &'static str) -> (Running, Running) {
    let orders = world.node("orders-1").offers_speaking("orders", backend.address, protocol).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    (orders, web)
}

/// An application that reads a head and then says `bytes` over and over.
async fn raving(first: &'static [u8], bytes: &'static [u8]) -> Backend {
    Backend::raw(move |mut stream| async move {
        read_head(&mut stream).await;
        let many = bytes.repeat(1_000);
        let _ = stream.write_all(first).await;
        while stream.write_all(&many).await.is_ok() {}
    })
    .await
}

#[tokio::test]
async fn an_answer_whose_head_never_ends_is_none() {
    for (first, bytes) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"x-a: b\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\nx-a: ", b"aaaaaaaaaa"),
        (b"HTTP/1.1 200 ", b"O"),
        (b"", b"\r\n"),
    ] {
        let backend = raving(first, bytes).await;
        let world = World::new();
        let (_orders, web) = pair(&world, &backend, "http").await;
        assert_eq!(call(web.way("orders"), get("/")).await.error(), (502, "upstream-protocol"), "{first:?}");
    }
}

#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    for bytes in [&b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"[..], b"HTTP/1.1 100 Continue\r\n\r\n"] {
        let backend = raving(b"", bytes).await;
        let world = World::new();
        let (_orders, web) = pair(&world, &backend, "http").await;
        assert_eq!(call(web.way("orders"), get("/")).await.error(), (502, "upstream-protocol"));
    }
}

#[tokio::test]
async fn trailers_without_end_break_the_answer_off() {
    let backend = raving(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", b"x-a: b\r\n").await;
    let world = World::new();
    let (_orders, web) = pair(&world, &backend, "http").await;
    // Told, if nothing was passed on yet.
    let answer = try_call(web.way("orders"), get("/")).await;
    let is_told = answer.as_ref().map_or(true, |answer| answer.error() == (502, "upstream-protocol"));
    assert!(is_told, "half an answer is none: {answer:?}");
}

#[tokio::test]
async fn what_follows_an_answer_unasked_is_never_anothers_answer() {
    let backend = Backend::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let said =
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
            if stream.write_all(said).await.is_err() {
                return;
            }
        }
    })
    .await;
    let world = World::new();
    let (_orders, web) = pair(&world, &backend, "http").await;
    for _ in 0..50 {
        assert_eq!(&call(web.way("orders"), get("/")).await.body[..], b"ok");
    }
}

/// An application of HTTP/2 that answers the first request with these frames.
async fn http2(frames: Vec<u8>, over_and_over: bool) -> Backend {
    let frames = Bytes::from(frames);
    Backend::raw(move |mut stream: TcpStream| {
        let frames = frames.clone();
        async move {
            let _ = stream.write_all(&frame(4, 0, 0, &[])).await;
            if !asked(&mut stream).await {
                return;
            }
            let (mut reader, mut writer) = stream.split();
            let saying = async {
                while writer.write_all(&frames).await.is_ok() && over_and_over {}
                std::future::pending::<()>().await;
            };
            let mut room = [0; 4096];
            let hearing = async { while matches!(reader.read(&mut room).await, Ok(1..)) {} };
            tokio::select! { () = saying => {}, () = hearing => {} }
        }
    })
    .await
}

/// Reads frames up to the first HEADERS, and acknowledges what must be.
async fn asked(stream: &mut TcpStream) -> bool {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return false;
    }
    loop {
        let mut header = [0; 9];
        if stream.read_exact(&mut header).await.is_err() {
            return false;
        }
        let len = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; len];
        if stream.read_exact(&mut payload).await.is_err() {
            return false;
        }
        let answer = match (header[3], header[4]) {
            (1, _) => return true,
            (4, 0) => frame(4, 1, 0, &[]),
            (6, 0) => frame(6, 1, 0, &payload),
            _ => continue,
        };
        if stream.write_all(&answer).await.is_err() {
            return false;
        }
    }
}

/// `:status: 200`, by its index.
const OK: &[u8] = &[0x88];

#[tokio::test]
async fn frames_that_break_the_rules_of_http2_are_no_answer() {
    let bomb = [OK, &frames::indexed_literal(b"x-bomb", &[b'b'; 3_900]), &[0xbe; 12_000]].concat();
    let table: [(&str, Vec<u8>, bool); 9] = [
        ("data before a head", frame(0, END_STREAM, 1, b"evil"), false),
        ("a head that is none", frame(1, END_HEADERS, 1, &[0xff; 10]), false),
        ("a head without a status", frame(1, END_HEADERS | END_STREAM, 1, &frames::literal(b"x-a", b"b")), false),
        ("a head of a stream that nobody opened", frame(1, END_HEADERS | END_STREAM, 7, OK), false),
        ("a push that was forbidden", frame(5, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), false),
        ("a window beyond measure", frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(3), false),
        ("a frame too large", frame(0, 0, 1, &vec![0; 20_000]), false),
        ("a head that unpacks to a huge one", frame(1, END_HEADERS | END_STREAM, 1, &bomb), false),
        ("interim answers without end", frame(1, END_HEADERS, 1, &[0x08, 3, b'1', b'0', b'3']), true),
    ];
    for (name, frames, over_and_over) in table {
        let backend = http2(frames, over_and_over).await;
        let world = World::new();
        let (orders, web) = pair(&world, &backend, "http2").await;
        let answer = call(web.way("orders"), get("/")).await;
        let (status, code) = answer.error();
        assert!(status >= 502 && code.starts_with("upstream-"), "{name}: {status} {code}");
        eventually(name, || orders.metric("starling_in_flight", &[]) == 0).await;
    }
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_said_is_broken_off() {
    let head = |length: &[u8]| frame(1, END_HEADERS, 1, &[OK, &frames::literal(b"content-length", length)].concat());
    for (name, frames) in [
        ("less", [head(b"9"), frame(0, END_STREAM, 1, b"ok")].concat()),
        ("more", [head(b"1"), frame(0, END_STREAM, 1, b"evil")].concat()),
    ] {
        let backend = http2(frames, false).await;
        let world = World::new();
        let (_orders, web) = pair(&world, &backend, "http2").await;
        let answer = try_call(web.way("orders"), get("/")).await;
        let is_told = answer.as_ref().map_or(true, |answer| answer.status.as_u16() >= 500);
        assert!(is_told, "{name}: {answer:?}");
    }
}
