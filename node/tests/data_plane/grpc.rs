//! gRPC through the mesh: four kinds of calls, deadlines, cancellation, and failures in its own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Request, Response};

use crate::backend::nobody;
use crate::hosts::{World, eventually, soon};
use crate::http2::{connect, h2_backend, read, request};

fn begin(sender: &mut SendRequest<Bytes>, fields: &[(&'static str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request: Request<()> = request("POST", "/shop.Orders/Buy");
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    for (name, value) in fields {
        headers.insert(*name, value.parse().unwrap());
    }
    sender.send_request(request, false).unwrap()
}

/// One message, as gRPC frames it.
fn message(text: &str) -> Bytes {
    let len = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &len, text.as_bytes()].concat().into()
}

fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers
}

fn grpc() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

#[tokio::test]
async fn messages_stream_both_ways_as_they_come_and_the_status_follows() {
    let backend = h2_backend(|request, mut respond| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let mut body = request.into_body();
        let mut stream = respond.send_response(grpc(), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        stream.send_trailers(ok()).unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "grpc").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, mut stream) = begin(&mut sender, &[]);
    let mut body = soon("the head, before any message", response).await.unwrap().into_body();
    for text in ["one", "two", "three"] {
        stream.send_data(message(text), false).unwrap();
        assert_eq!(soon(text, body.data()).await.unwrap().unwrap(), message(text));
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let (rest, trailers) = soon("the end", read(body)).await.unwrap();
    assert_eq!((rest.len(), &trailers.unwrap()["grpc-status"]), (0, &"0".parse::<http::HeaderValue>().unwrap()));
}

#[tokio::test]
async fn a_failure_of_the_mesh_is_a_status_of_grpc() {
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", nobody().await, "grpc").start();
    let web = world.node("web-1").reaches("orders").reaches("nobody").start();
    web.finds("orders", 1).await;
    for (way, error) in [("orders", "upstream-connect"), ("nobody", "no-such-service")] {
        let mut sender = connect(web.way(way)).await;
        let (response, mut stream) = begin(&mut sender, &[]);
        stream.send_data(message("x"), true).unwrap();
        let answer = soon("an answer", response).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["starling-error"]),
            (200, &error.parse::<http::HeaderValue>().unwrap())
        );
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert!(answer.headers()["grpc-message"].to_str().unwrap().starts_with(error));
    }
}

#[tokio::test]
async fn a_deadline_ends_the_call_here_and_at_the_service() {
    let resets = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&resets);
    let backend = h2_backend(move |_, mut respond| {
        let count = Arc::clone(&count);
        async move {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "grpc").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let started = Instant::now();
    let (response, mut stream) = begin(&mut sender, &[("grpc-timeout", "200m")]);
    stream.send_data(message("x"), true).unwrap();
    let answer = soon("an answer", response).await.unwrap();
    assert_eq!(
        (&answer.headers()["grpc-status"], answer.status().as_u16()),
        (&"4".parse::<http::HeaderValue>().unwrap(), 200)
    );
    assert_eq!(answer.headers()["starling-error"], "deadline-exceeded");
    assert!(started.elapsed() >= Duration::from_millis(200));
    eventually("the service hears of it", || resets.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_call_that_breaks_off_ends_with_a_status() {
    let backend = h2_backend(|_, mut respond| async move {
        let mut stream = respond.send_response(grpc(), false).unwrap();
        stream.send_data(message("one"), false).unwrap();
        // Until it was passed on.
        tokio::task::yield_now().await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "grpc").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, mut stream) = begin(&mut sender, &[]);
    stream.send_data(message("x"), true).unwrap();
    let answer = soon("an answer", response).await.unwrap();
    let fields = if answer.headers().contains_key("grpc-status") {
        answer.headers().clone()
    } else {
        soon("its end", read(answer.into_body())).await.unwrap().1.unwrap()
    };
    assert_eq!(
        (&fields["grpc-status"], &fields["starling-error"]),
        (&"14".parse::<http::HeaderValue>().unwrap(), &"upstream-reset".parse::<http::HeaderValue>().unwrap())
    );
}
