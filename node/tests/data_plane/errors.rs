//! What fails says so: in status, `starling-error` and a short explanation.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Full;
use tokio::io::AsyncWriteExt;

use crate::backend::{Backend, nobody, read_head};
use crate::caller::{call, get, post, send, try_call, with};
use crate::hosts::{World, eventually};

#[tokio::test]
async fn what_nobody_offers_is_named_so() {
    let world = World::new();
    let web = world.node("web-1").reaches("orders").start();
    let answer = call(web.way("orders"), get("/")).await;
    assert_eq!(answer.error(), (503, "no-such-service"));
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let explanation = answer.explanation();
    assert_eq!((&explanation["error"], &explanation["service"]), (&"no-such-service".into(), &"orders".into()));
    assert!(explanation["detail"].as_str().unwrap().contains("orders"), "{explanation}");
}

#[tokio::test]
async fn the_proxy_leads_to_names_of_the_mesh_only() {
    let world = World::new();
    let web = world.node("web-1").start();
    for target in ["http://example.com/", "http://127.0.0.1:1/", "http://a.b.c.mesh/", "/no-authority"] {
        let request = Request::get(target).header("host", "orders.mesh").body(Full::<bytes::Bytes>::default()).unwrap();
        assert_eq!(call(web.proxy(), request).await.error(), (404, "not-a-mesh-name"), "{target}");
    }
}

#[tokio::test]
async fn connect_to_a_listener_is_a_bad_request() {
    let world = World::new();
    let web = world.node("web-1").reaches("orders").start();
    let request = Request::connect("orders.mesh:80").body(Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(call(web.way("orders"), request).await.error(), (400, "bad-request"));
}

#[tokio::test]
async fn an_application_that_is_down_on_its_only_node_is_named_so() {
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", nobody().await).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    assert_eq!(call(web.way("orders"), get("/")).await.error(), (503, "upstream-connect"));
    assert_eq!(call(web.way("orders"), post("/", "x")).await.error(), (503, "upstream-connect"));
}

#[tokio::test]
async fn an_application_that_hangs_up_before_its_answer_is_named_so() {
    let backend = Backend::raw(|mut stream| async move { drop(read_head(&mut stream).await) }).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    assert_eq!(call(web.way("orders"), get("/")).await.error(), (502, "upstream-reset"));
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_named_so() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
        let _ = read_head(&mut stream).await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    assert_eq!(call(web.way("orders"), get("/")).await.error(), (502, "upstream-protocol"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_taken_for_a_whole_one() {
    for (kind, head) in [
        ("of known length", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nonly this"),
        ("chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
    ] {
        let backend = Backend::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(head.as_bytes()).await;
        })
        .await;
        let world = World::new();
        let _orders = world.node("orders-1").offers("orders", backend.address).start();
        let web = world.node("web-1").reaches("orders").start();
        web.finds("orders", 1).await;
        match try_call(web.way("orders"), get("/")).await {
            Ok(answer) => assert_eq!(answer.error(), (502, "upstream-reset"), "{kind}"),
            Err(error) => assert!(
                error.is_incomplete_message() || error.is_body_write_aborted() || !error.is_user(),
                "{kind}: {error}"
            ),
        }
    }
}

#[tokio::test]
async fn a_declared_deadline_is_kept_when_the_application_hangs() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let started = Instant::now();
    let answer = call(web.way("orders"), with(get("/"), &[("starling-timeout", "200ms")])).await;
    let took = started.elapsed();
    assert_eq!(answer.error(), (504, "deadline-exceeded"));
    // Not by the deadline that holds if none is declared: 15 s.
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_declared_deadline_covers_the_body_of_the_answer() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.").await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let outcome = try_call(web.way("orders"), with(get("/"), &[("starling-timeout", "300ms")])).await;
    assert!(outcome.is_err(), "{outcome:?}");
}

#[tokio::test]
async fn a_wish_that_cannot_be_read_is_a_bad_request() {
    let backend = Backend::says("never").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for (name, value) in [
        ("starling-timeout", "soon"),
        ("starling-timeout", "0s"),
        ("starling-timeout", "-1s"),
        ("starling-timeout", "25h"),
        ("starling-retries", "many"),
    ] {
        let answer = call(web.way("orders"), with(get("/"), &[(name, value)])).await;
        assert_eq!(answer.error(), (400, "bad-request"), "{name}: {value}");
        assert!(answer.explanation()["detail"].as_str().unwrap().contains(name), "{answer:?}");
    }
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn work_is_cancelled_at_the_application_when_its_caller_goes() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::raw(move |mut stream| {
        let (gone, asked) = (gone.clone(), asked.clone());
        async move {
            let head = read_head(&mut stream).await;
            if head.contains("/streaming") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
            }
            asked.send(()).unwrap();
            // The node hangs up.
            read_head(&mut stream).await;
            gone.send(()).unwrap();
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for path in ["/hanging", "/streaming"] {
        let calling = tokio::spawn({
            let way = web.way("orders");
            async move {
                let answer = send(way, get(path)).await;
                std::future::pending::<()>().await;
                drop(answer);
            }
        });
        is_asked.recv().await.unwrap();
        calling.abort();
        eventually(path, || is_gone.try_recv().is_ok()).await;
    }
}
