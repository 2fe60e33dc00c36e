//! What becomes of header fields between two applications.

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, exchange, get, with};
use crate::hosts::World;

#[tokio::test]
async fn the_service_is_told_its_verified_caller_and_a_forged_one_is_removed() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").offers("web", backend.address).reaches("orders").start();
    let nameless = world.node("cron-1").reaches("orders").start();
    web.finds("orders", 1).await;
    nameless.finds("orders", 1).await;
    let forged = || with(get("/"), &[("starling-source", "ns/default/svc/admin")]);
    call(web.way("orders"), forged()).await;
    assert_eq!(backend.last().field("starling-source"), Some("ns/default/svc/web"));
    call(nameless.way("orders"), forged()).await;
    assert_eq!(backend.last().field("starling-source"), None);
}

#[tokio::test]
async fn fields_of_one_connection_end_there_both_ways() {
    let backend = Backend::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: close, x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\n\
             upgrade: h2c\r\nx-public: 2\r\nstarling-error: forged\r\ncontent-length: {}\r\n\r\n{head}",
            head.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let request =
        b"GET / HTTP/1.1\r\nhost: orders.mesh\r\nconnection: close, x-secret\r\nx-secret: 1\r\nkeep-alive: 3\r\n\
        proxy-connection: keep-alive\r\nte: gzip\r\nupgrade: h2c\r\nx-public: 1\r\n\r\n";
    let (answer, _) = exchange(web.way("orders"), request).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-public: 2") && seen.contains("x-public: 1"), "{answer}");
    for gone in ["x-mine", "keep-alive", "proxy-connection", "upgrade", "starling-error"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    for gone in ["x-secret", "keep-alive", "proxy-connection", "te:", "upgrade"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn a_trace_is_passed_on_and_started_where_there_is_none() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let given = format!("00-{trace}-{span}-01");
    let fields = [("traceparent", given.as_str()), ("tracestate", "a=1,b=2"), ("baggage", "user=7"), ("b3", "0")];
    call(web.way("orders"), with(get("/"), &fields)).await;
    let seen = backend.last();
    let passed = seen.field("traceparent").unwrap();
    assert!(passed.starts_with(&format!("00-{trace}-")) && passed.ends_with("-01"), "{passed}");
    assert!(!passed.contains(span), "each hop is a span of its own: {passed}");
    assert_eq!(
        (seen.field("tracestate"), seen.field("baggage"), seen.field("b3")),
        (Some("a=1,b=2"), Some("user=7"), Some("0"))
    );

    for request in [get("/"), with(get("/"), &[("traceparent", "00-nonsense"), ("tracestate", "a=1")])] {
        call(web.way("orders"), request).await;
        let seen = backend.last();
        let started = seen.field("traceparent").unwrap();
        let fields: Vec<_> = started.split('-').map(str::len).collect();
        assert_eq!(fields, [2, 32, 16, 2], "{started}");
        assert!(!started.contains(trace) && !started.contains(&"0".repeat(16)), "{started}");
        assert_eq!(seen.field("tracestate"), None, "a state without a trace is nobody's");
    }
}

#[tokio::test]
async fn a_request_that_names_no_host_reaches_the_service_under_its_own_name() {
    let backend = Backend::http(|_| Response::new(full("ok"))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"GET /old HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
    let seen = backend.last();
    assert_eq!((seen.field("host"), seen.head.uri.path()), (Some("orders.mesh"), "/old"));
}
