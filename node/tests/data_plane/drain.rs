//! A node that stops finishes what it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use http_body_util::BodyExt;
use starling_gossip::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, get, post};
use crate::hosts::{Running, World, eventually, soon};

/// A service that holds each request until it is told to go on.
async fn slow() -> (Backend, Arc<Notify>, Arc<AtomicUsize>) {
    let (go, held) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (gate, count) = (Arc::clone(&go), Arc::clone(&held));
    let backend = Backend::raw(move |mut stream| {
        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
        async move {
            read_head(&mut stream).await;
            count.fetch_add(1, Ordering::Relaxed);
            gate.notified().await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow").await.unwrap();
        }
    })
    .await;
    (backend, go, held)
}

fn state_of(node: &Running, name: &str) -> Option<State> {
    node.mesh.view().load().members.values().find(|member| member.name == name).map(|member| member.state)
}

#[tokio::test]
async fn on_sigterm_a_process_finishes_its_requests_leaves_and_exits_with_0() {
    let (backend, go, held) = slow().await;
    let world = World::new();
    let web = world.node("web-1").reaches("orders").start();
    let mut orders = world.node("orders-1").offers("orders", backend.address).spawn();
    web.finds("orders", 1).await;
    let calling = tokio::spawn(call(web.way("orders"), get("/")));
    eventually("the request is held", || held.load(Ordering::Relaxed) == 1).await;
    orders.terminate();
    eventually("others hear that it drains", || {
        let endpoints = web.source.endpoints(&"orders".parse().unwrap()).unwrap_or_default();
        endpoints.iter().all(|endpoint| endpoint.state == "draining")
    })
    .await;
    let refused = call(web.way("orders"), post("/", "new")).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(held.load(Ordering::Relaxed), 1, "what is new does not reach the application");
    go.notify_one();
    let answer = calling.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"slow"[..]));
    assert_eq!(orders.exit().await.code(), Some(0));
    eventually("it has left", || matches!(state_of(&web, "orders-1"), None | Some(State::Left))).await;
}

#[tokio::test]
async fn a_node_that_stops_lets_its_own_callers_finish_and_takes_no_new_ones() {
    let (backend, go, held) = slow().await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let way = web.way("orders");
    let mut idle = TcpStream::connect(way).await.unwrap();
    let calling = tokio::spawn(call(way, get("/")));
    eventually("the request is held", || held.load(Ordering::Relaxed) == 1).await;
    let stopping = tokio::spawn(web.stop());
    let mut end = [0; 1];
    assert_eq!(soon("an idle connection is closed", idle.read(&mut end)).await.unwrap_or(0), 0);
    let refused = async {
        while TcpStream::connect(way).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("new connections are refused", refused).await;
    assert!(!stopping.is_finished());
    go.notify_one();
    assert_eq!(calling.await.unwrap().body, "slow");
    assert_eq!(stopping.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_download_that_its_reader_takes_slowly_is_not_cut() {
    const SIZE: usize = 24 << 20;
    let backend = Backend::http(|_| Response::new(full(vec![7; SIZE]))).await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let answer = crate::caller::send(web.way("orders"), get("/")).await.unwrap();
    let stopping = tokio::spawn(orders.stop());
    eventually("it drains", || {
        let endpoints = web.source.endpoints(&"orders".parse().unwrap()).unwrap_or_default();
        endpoints.iter().all(|endpoint| endpoint.state == "draining")
    })
    .await;
    let body = soon("the rest", answer.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body.len(), SIZE);
    assert_eq!(stopping.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_rolling_stop_of_one_of_two_nodes_under_load_loses_no_request() {
    let (first, second) = (Backend::says("first").await, Backend::says("second").await);
    let world = World::new();
    let web = world.node("web-1").reaches("orders").start();
    let one = world.node("orders-1").offers("orders", first.address).start();
    let _two = world.node("orders-2").offers("orders", second.address).start();
    web.finds("orders", 2).await;
    let (stopped, way) = (Arc::new(AtomicBool::new(false)), web.way("orders"));
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let stopped = Arc::clone(&stopped);
            tokio::spawn(async move {
                let mut sent = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let request = if worker % 2 == 0 { get("/") } else { post("/", "order") };
                    let answer = call(way, request).await;
                    assert_eq!(answer.status, 200, "request {sent} of worker {worker}: {answer:?}");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    eventually("both serve", || !first.seen().is_empty() && !second.seen().is_empty()).await;
    assert_eq!(soon("the stop", one.stop()).await, Ok(()));
    let (last, before) = (first.seen().len(), second.seen().len());
    eventually("the other goes on", || second.seen().len() > before + 50).await;
    stopped.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for worker in workers {
        sent += worker.await.unwrap();
    }
    assert_eq!(first.seen().len(), last, "none went to the node that had stopped");
    assert_eq!(first.seen().len() + second.seen().len(), sent, "each was served once");
}

#[tokio::test]
async fn a_post_right_after_a_node_was_restarted_does_not_wait_on_a_connection_of_before() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let web = world.node("web-1").reaches("orders").patient().start();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    web.finds("orders", 1).await;
    let way = web.way("orders");
    assert_eq!(call(way, post("/", "1")).await.status, 200);
    let again = orders.place().clone();
    assert_eq!(orders.stop().await, Ok(()));
    let _orders = World::restart(&again);
    let served = async {
        while call(way, post("/", "2")).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon("an answer", served).await;
}

#[tokio::test]
async fn a_caller_of_http2_is_told_to_go_away_and_its_streams_finish() {
    let (backend, go, held) = slow().await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let (response, _) = sender.send_request(crate::http2::request("GET", "/"), true).unwrap();
    eventually("the request is held", || held.load(Ordering::Relaxed) == 1).await;
    let stopping = tokio::spawn(web.stop());
    let refused = async {
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        while sender.clone().ready().await.is_ok() {
            ticks.tick().await;
        }
    };
    soon("GOAWAY", refused).await;
    go.notify_one();
    let answer = soon("the answer", response).await.unwrap();
    assert_eq!(soon("its body", crate::http2::read(answer.into_body())).await.unwrap().0, b"slow");
    soon("the end of the connection", ended).await.unwrap().unwrap();
    soon("the end of the node", stopping).await.unwrap().unwrap();
}
