//! A node that is there no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::backend::{Backend, read_head};
use crate::caller::{call, get};
use crate::hosts::{World, eventually, soon};

/// Sooner than by any timeout: of the node's (80 s) or its connection's (20 s). How soon exactly is measured on hosts, by
/// `starling-chaos reach`.
const BY_SILENCE: Duration = Duration::from_secs(15);

/// A service that answers at once, or, while `gate` is shut, holds what it read; how often it did either.
async fn gated(name: &'static str, gate: &watch::Sender<bool>) -> (Backend, Arc<[AtomicUsize; 2]>) {
    let counts = Arc::<[AtomicUsize; 2]>::default();
    let (gate, counting) = (gate.subscribe(), Arc::clone(&counts));
    let backend = Backend::raw(move |mut stream| {
        let (mut gate, counts) = (gate.clone(), Arc::clone(&counting));
        async move {
            if read_head(&mut stream).await.is_empty() {
                return;
            }
            let open = *gate.borrow();
            counts[usize::from(!open)].fetch_add(1, Ordering::Relaxed);
            gate.wait_for(|open| *open).await.unwrap();
            let length = name.len();
            let _ =
                stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}").as_bytes()).await;
        }
    })
    .await;
    (backend, counts)
}

#[tokio::test]
async fn requests_at_a_node_that_vanishes_are_answered_elsewhere_before_any_timeout() {
    let (gate_of_first, gate_of_second) = (watch::Sender::new(true), watch::Sender::new(true));
    let (first, at_first) = gated("first", &gate_of_first).await;
    let (second, at_second) = gated("second", &gate_of_second).await;
    let world = World::new();
    let web = world.node("web-1").reaches("orders").patient().start();
    let _node = world.node("orders-2").offers("orders", second.address).start();
    let mut process = world.node("orders-1").offers("orders", first.address).spawn();
    web.finds("orders", 2).await;
    let way = web.way("orders");
    // Until both are connected and liked.
    let answered = |counts: &[AtomicUsize; 2]| counts[0].load(Ordering::Relaxed) >= 5;
    let warm = async {
        while !(answered(&at_first) && answered(&at_second)) {
            assert_eq!(call(way, get("/")).await.status, 200);
        }
    };
    soon("answers of both", warm).await;
    gate_of_first.send_replace(false);
    gate_of_second.send_replace(false);
    let calls: Vec<_> =
        (0..12).map(|_| tokio::spawn(async move { (call(way, get("/")).await, Instant::now()) })).collect();
    eventually("all are held, some of them where the node is to vanish", || {
        let [first, second] = [&at_first, &at_second].map(|counts| counts[1].load(Ordering::Relaxed));
        first >= 3 && first + second == 12
    })
    .await;
    process.kill();
    let killed = Instant::now();
    gate_of_second.send_replace(true);
    for calling in calls {
        let (answer, at) = calling.await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"second"[..]), "{answer:?}");
        let took = at.saturating_duration_since(killed);
        assert!(took < BY_SILENCE, "{took:?}");
    }
    // And what comes now does not wait for it.
    for _ in 0..20 {
        let started = Instant::now();
        assert_eq!(call(way, get("/")).await.status, 200);
        assert!(started.elapsed() < BY_SILENCE, "{:?}", started.elapsed());
    }
}
