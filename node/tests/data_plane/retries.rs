//! What failed at one endpoint is sent to another, if it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, full, nobody, read_head};
use crate::caller::{call, get, post, with};
use crate::hosts::{Running, World};

/// Two nodes that offer `orders` at these addresses, and one that calls.
async fn three_nodes(world: &World, addresses: [std::net::SocketAddr; 2]) -> [Running; 3] {
    let first = world.node("orders-1").offers("orders", addresses[0]).start();
    let second = world.node("orders-2").offers("orders", addresses[1]).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 2).await;
    [first, second, web]
}

/// A service that reads each request and hangs up; how many it read.
async fn hangs_up() -> (Backend, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&read);
    let backend = Backend::raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let head = read_head(&mut stream).await;
            if head.contains("content-length: 4\r\n") {
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            if !head.is_empty() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    (backend, read)
}

#[tokio::test]
async fn with_one_application_of_two_down_every_request_succeeds() {
    let up = Backend::says("up").await;
    let world = World::new();
    let [_one, _two, web] = three_nodes(&world, [nobody().await, up.address]).await;
    for n in 0..40 {
        let request = if n % 2 == 0 { get("/") } else { post("/", "order") };
        let answer = call(web.way("orders"), request).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"up"[..]), "request {n}: {answer:?}");
    }
    assert_eq!(up.seen().len(), 40);
    assert!(web.metric("starling_retries_total", &["dst=\"orders\""]) > 0);
}

#[tokio::test]
async fn a_post_that_may_have_been_processed_is_never_repeated() {
    let (broken, read) = hangs_up().await;
    let up = Backend::says("up").await;
    let world = World::new();
    let [_one, _two, web] = three_nodes(&world, [broken.address, up.address]).await;
    let mut failed = 0;
    for n in 0..20 {
        let answer = call(web.way("orders"), post("/", "four")).await;
        match answer.status.as_u16() {
            200 => {}
            502 => {
                assert_eq!(answer.error(), (502, "upstream-reset"), "request {n}");
                failed += 1;
            }
            other => panic!("request {n}: {other}"),
        }
    }
    // Each was read by one of the two, and by one only.
    assert!(failed > 0, "none went to the broken one");
    assert_eq!((read.load(Ordering::Relaxed), up.seen().len()), (failed, 20 - failed));
}

#[tokio::test]
async fn a_get_that_one_application_dropped_is_answered_by_the_other() {
    let (broken, read) = hangs_up().await;
    let up = Backend::says("up").await;
    let world = World::new();
    let [_one, _two, web] = three_nodes(&world, [broken.address, up.address]).await;
    for n in 0..20 {
        assert_eq!(call(web.way("orders"), get("/")).await.status, 200, "request {n}");
    }
    assert!(read.load(Ordering::Relaxed) > 0 && up.seen().len() == 20);
}

#[tokio::test]
async fn a_caller_may_forbid_retries() {
    let up = Backend::says("up").await;
    let world = World::new();
    let [_one, _two, web] = three_nodes(&world, [nobody().await, up.address]).await;
    let mut failed = 0;
    for _ in 0..20 {
        let answer = call(web.way("orders"), with(get("/"), &[("starling-retries", "0")])).await;
        if answer.status != 200 {
            assert_eq!(answer.error(), (503, "upstream-connect"));
            failed += 1;
        }
    }
    assert!(failed > 0);
    assert_eq!(web.metric("starling_retries_total", &[]), 0);
}

#[tokio::test]
async fn a_body_too_large_to_be_kept_is_sent_elsewhere_only_while_nothing_of_it_is_lost() {
    let up = Backend::http(|request| Response::new(full(request.body.len().to_string()))).await;
    let world = World::new();
    let [_one, _two, web] = three_nodes(&world, [nobody().await, up.address]).await;
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..10 {
        let answer = call(web.way("orders"), post("/", vec![7; 1 << 20])).await;
        if answer.status == 200 {
            assert_eq!(answer.body, (1 << 20).to_string());
            whole += 1;
        } else {
            assert_eq!(answer.error(), (503, "upstream-connect"));
            refused += 1;
        }
    }
    assert!(whole > 0, "{refused} refused");
}

#[tokio::test]
async fn a_kept_connection_that_its_server_closed_meanwhile_costs_no_request() {
    // Answers one request a connection, says nothing of closing, and closes.
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for n in 0..30 {
        assert_eq!(call(web.way("orders"), get("/")).await.status, 200, "request {n}");
    }
}
