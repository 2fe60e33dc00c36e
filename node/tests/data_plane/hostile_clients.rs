//! Clients that mean harm: each is refused and counted, costs bounded memory, and others are served meanwhile. The node under
//! attack is a process of its own, so that its memory can be told.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, get};
use crate::frames::{self, END_HEADERS, END_STREAM, frame};
use crate::hosts::{Running, World, soon};
use crate::process::Process;

const MIB: u64 = 1 << 20;
/// What an attack may cost, beside what the node had before: buffers of one connection, and slack of the allocator.
const COST: u64 = 24 * MIB;

/// A service on one node, and a node of its own for those who call it.
struct Scene {
    _orders: Running,
    web: Process,
    _world: World,
}

impl Scene {
    async fn new(answer: usize) -> Self {
        let body = Bytes::from(vec![b'x'; answer]);
        let backend = Backend::http(move |_| http::Response::new(full(body.clone()))).await;
        let world = World::new();
        let orders = world.node("orders-1").offers("orders", backend.address).start();
        let web = world.node("web-1").hasty().reaches("orders").spawn();
        web.finds("orders", 1).await;
        let scene = Self { _orders: orders, web, _world: world };
        scene.others_are_served().await;
        scene
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.web.way("orders")).await.unwrap()
    }

    async fn http2(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(&frames::hello()).await.unwrap();
        stream
    }

    async fn others_are_served(&self) {
        assert_eq!(call(self.web.way("orders"), get("/")).await.status, 200);
    }

    async fn counts(&self, reason: &str, at_least: u64) {
        self.web.counts("starling_bad_requests_total", &format!("reason=\"{reason}\""), at_least).await;
    }

    /// Sends these frames, until the node hangs up.
    async fn hangs_up_on(&self, bytes: &[u8]) {
        let mut stream = self.http2().await;
        let (mut reader, mut writer) = stream.split();
        let sending = async {
            let _ = writer.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        let mut rest = Vec::new();
        soon("the end of an attack", async {
            tokio::select! { _ = reader.read_to_end(&mut rest) => {}, () = sending => {} }
        })
        .await;
    }
}

#[tokio::test]
async fn heads_of_http2_without_an_end_are_cut_off() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    let mut bytes = frame(1, 0, 1, &frames::get());
    let field = frames::literal(b"x-a", &[b'a'; 8000]);
    bytes.extend_from_slice(&(0..2_000).flat_map(|_| frame(9, 0, 1, &field)).collect::<Vec<u8>>());
    scene.hangs_up_on(&bytes).await;
    scene.counts("http2-flood", 1).await;
    // Empty pieces, which no limit of bytes ever meets.
    let mut bytes = frame(1, 0, 1, &frames::get());
    bytes.extend_from_slice(&frame(9, 0, 1, &[]).repeat(100_000));
    scene.hangs_up_on(&bytes).await;
    scene.counts("http2-flood", 2).await;
    scene.others_are_served().await;
    assert!(scene.web.memory() < before + COST, "{} and {before}", scene.web.memory());
}

#[tokio::test]
async fn a_small_head_that_unpacks_to_a_huge_one_is_refused() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    for round in 0..8 {
        let mut stream = scene.http2().await;
        // A field of nearly all the table, and then its index over and over: 4 KiB for each byte.
        let mut block = frames::get();
        block.extend_from_slice(&frames::indexed_literal(b"x-bomb", &[b'b'; 3_900]));
        block.extend_from_slice(&[0xbe; 12_000]);
        let _ = stream.write_all(&frame(1, END_HEADERS | END_STREAM, 1, &block)).await;
        let mut rest = Vec::new();
        let _ = soon("the end", stream.read_to_end(&mut rest)).await;
        scene.counts("http2-flood", round + 1).await;
    }
    scene.others_are_served().await;
    assert!(scene.web.memory() < before + COST, "{} and {before}", scene.web.memory());
}

#[tokio::test]
async fn floods_of_frames_that_carry_nothing_cost_nothing_but_their_sender() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    // Nobody reads what is answered: it must not pile up.
    for (name, bytes) in [
        ("settings", frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(1_000)),
        ("pings", frame(6, 0, 0, &[7; 8]).repeat(1_000)),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 0, 1]).repeat(1_000)),
        ("frames of no known kind", frame(0x5a, 0, 0, &[0; 64]).repeat(1_000)),
    ] {
        let mut stream = scene.http2().await;
        // It takes so much, or hangs up, or takes no more: as long as nothing is read, it has to stop.
        let flood = async {
            for _ in 0..200 {
                if stream.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(1_500), flood).await;
        scene.others_are_served().await;
        let now = scene.web.memory();
        assert!(now < before + COST, "{name}: {now} and {before}");
    }
}

#[tokio::test]
async fn bodies_of_frames_with_a_byte_or_none_end_their_connection_or_wait() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    for payload in [&b""[..], b"x"] {
        let mut stream = scene.http2().await;
        let mut bytes = frame(1, END_HEADERS, 1, &frames::post());
        bytes.extend_from_slice(&frame(0, 0, 1, payload).repeat(400_000));
        let _ = tokio::time::timeout(Duration::from_secs(3), stream.write_all(&bytes)).await;
        scene.others_are_served().await;
        let now = scene.web.memory();
        assert!(now < before + COST, "{payload:?}: {now} and {before}");
    }
}

#[tokio::test]
async fn windows_that_grow_beyond_measure_or_by_nothing_end_what_they_are_of() {
    let scene = Scene::new(2).await;
    for (bytes, words) in [
        (frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()).repeat(3), "beyond 2^31"),
        (frame(8, 0, 0, &[0; 4]), "by nothing"),
        (frame(4, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]), "a setting beyond 2^31"),
        (frame(4, 0, 0, &[0, 5, 0, 0, 0, 1]), "frames smaller than they may be"),
        (frame(0, 0, 0, b"data"), "data of no stream"),
        (frame(1, END_HEADERS | END_STREAM, 2, &frames::get()), "a stream of the server's"),
        (frame(5, END_HEADERS, 1, &[0, 0, 0, 2]), "a push"),
        (frame(0, 0, 1, &vec![0; 20_000]), "a frame larger than it may be"),
    ] {
        let mut stream = scene.http2().await;
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        let _ = soon(words, stream.read_to_end(&mut rest)).await;
    }
    scene.counts("http2", 8).await;
    scene.others_are_served().await;
}

#[tokio::test]
async fn requests_that_make_the_node_reset_them_are_not_answered_for_ever() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    // Each body is longer than it said: the node has to reset its stream, whose place is free again (CVE-2025-8671).
    let head = [frames::post(), frames::literal(b"content-length", b"1")].concat();
    let mut bytes = Vec::new();
    for id in (1..10_000_u32).step_by(2) {
        bytes.extend_from_slice(&frame(1, END_HEADERS, id, &head));
        bytes.extend_from_slice(&frame(0, 0, id, b"xx"));
    }
    scene.hangs_up_on(&bytes).await;
    scene.counts("http2-flood", 1).await;
    scene.others_are_served().await;
    assert!(scene.web.memory() < before + COST, "{} and {before}", scene.web.memory());
}

#[tokio::test]
async fn streams_that_are_reset_one_by_one_before_their_answers_end_their_connection() {
    let scene = Scene::new(2).await;
    let mut stream = scene.http2().await;
    let attack = async {
        // Few at a time, each taken before it is reset: no limit of the library is met.
        for round in 0..2_000_u32 {
            let ids = (0..10).map(|n| 2 * (10 * round + n) + 1);
            let mut opening: Vec<u8> = ids.clone().flat_map(|id| frame(1, END_HEADERS, id, &frames::post())).collect();
            opening.extend_from_slice(&frame(6, 0, 0, &[1; 8]));
            let resets: Vec<u8> = ids.flat_map(|id| frame(3, 0, id, &8_u32.to_be_bytes())).collect();
            stream.write_all(&opening).await?;
            frames::until_pong(&mut stream).await?;
            stream.write_all(&resets).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    assert!(soon("the end", attack).await.is_err(), "20,000 streams were taken and reset");
    scene.counts("rapid-reset", 1).await;
    scene.others_are_served().await;
}

#[tokio::test]
async fn answers_that_nobody_reads_take_little_and_hold_up_nobody() {
    let scene = Scene::new(512 * 1024).await;
    let before = scene.web.memory();
    // The window of each stream is nothing: the node may send no byte of an answer.
    let mut stream = scene.connect().await;
    stream.write_all(&frames::hello_with(&[0, 4, 0, 0, 0, 0])).await.unwrap();
    let requests: Vec<u8> =
        (0..50_u32).flat_map(|n| frame(1, END_HEADERS | END_STREAM, 2 * n + 1, &frames::get())).collect();
    stream.write_all(&requests).await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = scene.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50).as_slice()).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..5 {
        scene.others_are_served().await;
    }
    // What came over the hop and waits is bounded by the windows of its connections: 64 MiB each, and what it costs to hold it.
    assert!(scene.web.memory() < before + 192 * MIB, "{} and {before}", scene.web.memory());
}

#[tokio::test]
async fn many_heads_that_come_drop_by_drop_are_let_go_of_and_others_are_served() {
    const MANY: usize = 200;
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    let mut slow = Vec::new();
    for _ in 0..MANY {
        let mut stream = scene.connect().await;
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n", "a".repeat(30_000));
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    scene.others_are_served().await;
    scene.counts("slow-head", MANY as u64).await;
    for mut stream in slow {
        let answer = soon("a refusal", read_head(&mut stream)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert!(scene.web.memory() < before + COST, "{} and {before}", scene.web.memory());
}

#[tokio::test]
async fn requests_without_end_and_without_a_reader_stop_at_a_bound() {
    let scene = Scene::new(2).await;
    let before = scene.web.memory();
    let mut flooding = Vec::new();
    for _ in 0..8 {
        let mut stream = scene.connect().await;
        flooding.push(tokio::spawn(async move {
            let many = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1_000);
            while stream.write_all(&many).await.is_ok() {}
        }));
    }
    for _ in 0..20 {
        scene.others_are_served().await;
    }
    assert!(scene.web.memory() < before + COST, "{} and {before}", scene.web.memory());
    flooding.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn connections_that_do_nothing_make_room_for_those_that_ask() {
    const DESCRIPTORS: u32 = 300;
    let backend = Backend::says("served").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").hasty().reaches("orders").spawn_with(DESCRIPTORS);
    web.finds("orders", 1).await;
    for hello in [Vec::new(), frames::hello()] {
        let mut idle = Vec::new();
        // Half of all descriptors are places.
        for _ in 0..DESCRIPTORS / 2 + 20 {
            let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            idle.push(stream);
        }
        assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
    }
}
