//! Every way in leads to the service on the other node.

use std::net::SocketAddr;

use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, full, nobody, read_head};
use crate::caller::{call, get, post, with};
use crate::hosts::{World, soon};

#[tokio::test]
async fn a_listener_leads_to_the_service_and_its_answer_comes_back_as_it_was() {
    let backend = Backend::http(|request| {
        let answer = http::Response::builder().status(201).header("x-two", "a").header("x-two", "b");
        answer.body(full(format!("{} got {} bytes", request.head.uri, request.body.len()))).unwrap()
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let answer = call(web.way("orders"), with(post("/cart?x=1", "12345"), &[("x-kept", "yes")])).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (201, &b"/cart?x=1 got 5 bytes"[..]));
    let two: Vec<_> = answer.headers.get_all("x-two").iter().collect();
    assert_eq!(two, ["a", "b"]);
    assert!(answer.field("starling-error").is_none());
    let seen = backend.last();
    assert_eq!(
        (seen.head.method.as_str(), seen.field("host"), seen.field("x-kept")),
        ("POST", Some("orders.mesh"), Some("yes"))
    );
    assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (Some("5"), None));
}

#[tokio::test]
async fn the_http_proxy_leads_where_the_target_says_whatever_host_says() {
    let backend = Backend::says("hello").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").start();
    web.finds("orders", 1).await;
    let request = |target: &str| {
        Request::get(target).header("host", "elsewhere.mesh").body(Full::<bytes::Bytes>::default()).unwrap()
    };
    for (target, path) in [("http://orders.mesh/a?b=c", "/a?b=c"), ("http://orders.default.mesh:80", "/")] {
        let answer = call(web.proxy(), request(target)).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]), "{target}");
        let seen = backend.last();
        assert_eq!(seen.head.uri, path);
        assert_eq!(seen.field("host"), target["http://".len()..].split('/').next());
    }
}

#[tokio::test]
async fn connect_opens_a_tunnel_and_what_was_sent_too_early_is_not_lost() {
    let echo = Backend::raw(|mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let world = World::new();
    let _db = world.node("db-1").offers_tcp("db", echo.address).start();
    let web = world.node("web-1").start();
    web.finds("db", 1).await;
    let mut stream = TcpStream::connect(web.proxy()).await.unwrap();
    stream.write_all(b"CONNECT db.mesh:3306 HTTP/1.1\r\nhost: db.mesh:3306\r\n\r\nearly ").await.unwrap();
    let head = soon("an answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    stream.write_all(b"bird").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = String::new();
    soon("the echo", stream.read_to_string(&mut back)).await.unwrap();
    assert_eq!(back, "early bird");
}

#[tokio::test]
async fn connect_to_what_cannot_be_reached_says_why() {
    let world = World::new();
    let _db = world.node("db-1").offers_tcp("db", nobody().await).start();
    let web = world.node("web-1").start();
    web.finds("db", 1).await;
    for (target, status, word) in [
        ("db.mesh:3306", "503", "upstream-connect"),
        ("nobody.mesh:80", "503", "no-such-service"),
        ("example.com:443", "404", "not-a-mesh-name"),
    ] {
        let mut stream = TcpStream::connect(web.proxy()).await.unwrap();
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = soon("an answer", read_head(&mut stream)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains(&format!("starling-error: {word}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn a_vip_leads_to_the_service_that_it_stands_for() {
    let backend = Backend::says("by vip").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_on("orders", backend.address, 18_080).start();
    let web = world.node("web-1").start();
    web.finds("orders", 1).await;
    let services = web.source.services();
    let vip = SocketAddr::new(services[0].vip.expect("an address was given"), 18_080);
    let reachable = async {
        while TcpStream::connect(vip).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("a listener on the VIP", reachable).await;
    let answer = call(vip, get("/")).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"by vip"[..]));
}

#[tokio::test]
async fn a_service_of_the_same_node_is_reached_too() {
    let backend = Backend::says("next door").await;
    let world = World::new();
    let both = world.node("both-1").offers("orders", backend.address).reaches("orders").start();
    both.finds("orders", 1).await;
    assert_eq!(call(both.way("orders"), get("/")).await.body, "next door");
}

#[tokio::test]
async fn a_kept_connection_carries_one_request_after_the_other() {
    let backend = Backend::http(|request| http::Response::new(full(request.body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    // Pipelined: both are sent before the first is answered.
    let one = |body: &str| format!("POST / HTTP/1.1\r\nhost: orders.mesh\r\ncontent-length: 3\r\n\r\n{body}");
    stream.write_all((one("one") + &one("two")).as_bytes()).await.unwrap();
    for expected in ["one", "two"] {
        let head = soon("an answer", read_head(&mut stream)).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-length: 3\r\n"), "{head}");
        let mut body = [0; 3];
        soon("its body", stream.read_exact(&mut body)).await.unwrap();
        assert_eq!(body, expected.as_bytes());
    }
}
