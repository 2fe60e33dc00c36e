//! A node that is there no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::backend::{Backend, read_head};
use crate::caller::{call, get};
use crate::hosts::{World, eventually};

#[tokio::test]
async fn requests_at_a_node_that_vanishes_are_answered_elsewhere_within_a_second() {
    let (held, open) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(false));
    let hanging = Backend::raw({
        let held = Arc::clone(&held);
        move |mut stream| {
            let held = Arc::clone(&held);
            async move {
                read_head(&mut stream).await;
                held.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    // Answers from the moment on that the other is gone, so that both are equally liked before.
    let up = Backend::raw({
        let open = open.subscribe();
        move |mut stream| {
            let mut open = open.clone();
            async move {
                read_head(&mut stream).await;
                open.wait_for(|open| *open).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup").await.unwrap();
            }
        }
    })
    .await;
    let world = World::new();
    let _second = world.node("orders-2").offers("orders", up.address).start();
    let web = world.node("web-1").reaches("orders").start();
    let mut first = world.node("orders-1").offers("orders", hanging.address).spawn();
    web.finds("orders", 2).await;
    let way = web.way("orders");
    let calls: Vec<_> =
        (0..12).map(|_| tokio::spawn(async move { (call(way, get("/")).await, Instant::now()) })).collect();
    eventually("some wait at the node that is to vanish", || held.load(Ordering::Relaxed) >= 3).await;
    first.kill();
    let killed = Instant::now();
    open.send_replace(true);
    for calling in calls {
        let (answer, at) = calling.await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"up"[..]), "{answer:?}");
        let took = at.saturating_duration_since(killed);
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    // And what comes now does not wait for it.
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(call(way, get("/")).await.status, 200);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}
