//! HTTP/2 on either side of the mesh, whatever the other side speaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, read_head};
use crate::caller::{call, exchange, get, post, with};
use crate::hosts::{World, eventually, soon};

/// A service that speaks HTTP/2 only, and does with each stream what `serve` does.
pub(crate) async fn h2_backend<F>(
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + 'static,
) -> Backend
where
    F: Future<Output = ()> + Send + 'static,
{
    Backend::raw(move |stream| {
        let serve = serve.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.enable_connect_protocol();
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond));
            }
        }
    })
    .await
}

/// Reads a body and its trailers.
pub(crate) async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

/// Answers with what the request held.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let Ok((body, trailers)) = read(body).await else { return };
    let mut answer = Response::builder().header("x-target", parts.uri.path_and_query().unwrap().as_str());
    answer = answer
        .header("x-version", format!("{:?}", parts.version))
        .header("x-authority", parts.uri.authority().unwrap().as_str());
    for name in ["starling-source", "x-forwarded-host", "x-kept"] {
        if let Some(value) = parts.headers.get(name) {
            answer = answer.header(format!("x-seen-{name}"), value);
        }
    }
    let mut stream = respond.send_response(answer.body(()).unwrap(), false).unwrap();
    stream.send_data(body.into(), trailers.is_none()).unwrap();
    if let Some(trailers) = trailers {
        stream.send_trailers(trailers).unwrap();
    }
}

pub(crate) async fn connect(to: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://orders.mesh{path}");
    Request::builder().method(method).uri(uri).version(Version::HTTP_2).body(()).unwrap()
}

#[tokio::test]
async fn a_caller_of_http2_reaches_a_service_of_http1() {
    let backend = Backend::http(|request| {
        Response::builder().status(201).body(crate::backend::full(request.body.clone())).unwrap()
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, mut stream) = sender.send_request(request("POST", "/a?b"), false).unwrap();
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let response = soon("the answer", response).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(soon("its body", read(response.into_body())).await.unwrap().0, b"hello");
    let seen = backend.last();
    assert_eq!((seen.head.uri.to_string(), seen.field("host")), ("/a?b".to_owned(), Some("orders.mesh")));
    // The same, all at once, on one connection.
    let mut sender = sender.ready().await.unwrap();
    let responses: Vec<_> = (0..100).map(|_| sender.send_request(request("GET", "/x"), true).unwrap().0).collect();
    for response in responses {
        assert_eq!(soon("an answer", response).await.unwrap().status(), 201);
    }
}

#[tokio::test]
async fn a_caller_of_http1_reaches_a_service_of_http2() {
    let backend = h2_backend(echo).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").offers("web", backend.address).reaches("orders").start();
    web.finds("orders", 1).await;
    let answer =
        call(web.way("orders"), with(post("/a?b=c", "hello"), &[("x-kept", "yes"), ("starling-source", "forged")]))
            .await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.field("x-target"), Some("/a?b=c"));
    assert_eq!(answer.field("x-version"), Some("HTTP/2.0"));
    assert_eq!(answer.field("x-authority"), Some("orders.mesh"));
    assert_eq!(answer.field("x-seen-x-kept"), Some("yes"));
    assert_eq!(answer.field("x-seen-starling-source"), Some("ns/default/svc/web"));
    assert_eq!(answer.field("x-seen-x-forwarded-host"), Some("orders.mesh"));
    assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
}

#[tokio::test]
async fn trailers_pass_both_ways_over_http2() {
    let backend = h2_backend(echo).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, mut stream) = sender.send_request(request("POST", "/"), false).unwrap();
    let large = vec![7; 3 << 20];
    let sending = async {
        let mut rest = Bytes::from(large.clone());
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
            stream.send_data(rest.split_to(room.min(rest.len())), false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "12".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    };
    let answering = async { read(response.await.unwrap().into_body()).await.unwrap() };
    let ((), (body, trailers)) = soon("the answer", async { tokio::join!(sending, answering) }).await;
    assert!(body == large);
    assert_eq!(trailers.unwrap()["x-sum"], "12");
}

#[tokio::test]
async fn an_upgrade_from_http1_serves_its_request_as_the_first_stream() {
    let backend = Backend::says("hello").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let asks = "GET /up HTTP/1.1\r\nhost: orders.mesh\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
                http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    stream.write_all(asks.as_bytes()).await.unwrap();
    let head = soon("the switch", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: h2c"), "{head}");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // HEADERS and DATA of stream 1, with the end of the stream.
    let mut body = Vec::new();
    let answered = async {
        loop {
            let mut header = [0; 9];
            stream.read_exact(&mut header).await.unwrap();
            let len = usize::from(header[1]) << 8 | usize::from(header[2]);
            let mut payload = vec![0; len];
            stream.read_exact(&mut payload).await.unwrap();
            let (kind, flags, id) = (header[3], header[4], header[8]);
            if kind == 0 && id == 1 {
                body.extend_from_slice(&payload);
            }
            if kind <= 1 && id == 1 && flags & 1 != 0 {
                break;
            }
        }
    };
    soon("the answer", answered).await;
    assert_eq!(body, b"hello");
    assert_eq!(backend.last().head.uri, "/up");
}

#[tokio::test]
async fn a_reset_of_the_caller_reaches_the_service() {
    let resets = Arc::new(AtomicUsize::new(0));
    let (count, begun) = (Arc::clone(&resets), Arc::new(AtomicUsize::new(0)));
    let started = Arc::clone(&begun);
    let backend = h2_backend(move |_, mut respond| {
        let (count, started) = (Arc::clone(&count), Arc::clone(&started));
        async move {
            started.fetch_add(1, Ordering::Relaxed);
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.unwrap();
            assert_eq!(reason, Reason::CANCEL);
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, mut stream) = sender.send_request(request("GET", "/"), true).unwrap();
    eventually("the service is asked", || begun.load(Ordering::Relaxed) == 1).await;
    stream.send_reset(Reason::CANCEL);
    drop(response);
    eventually("the service hears of it", || resets.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_service_that_breaks_an_answer_off_resets_the_stream_of_its_caller() {
    let backend = h2_backend(|_, mut respond| async move {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        stream.send_reset(Reason::INTERNAL_ERROR);
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut sender = connect(web.way("orders")).await;
    let (response, _) = sender.send_request(request("GET", "/"), true).unwrap();
    let broken = async {
        match response.await {
            Ok(response) if response.status() == 200 => read(response.into_body()).await.is_err(),
            Ok(response) => response.headers()["starling-error"] == "upstream-reset",
            Err(error) => error.reason() == Some(Reason::INTERNAL_ERROR),
        }
    };
    assert!(soon("an end", broken).await);
}

#[tokio::test]
async fn a_request_that_the_service_refused_unseen_is_named_so() {
    let backend = h2_backend(|_, mut respond| async move { respond.send_reset(Reason::REFUSED_STREAM) }).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    assert_eq!(call(web.way("orders"), post("/", "x")).await.error(), (503, "upstream-refused"));
}

#[tokio::test]
async fn streams_opened_and_reset_over_and_over_end_their_connection_and_are_counted() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    // Written by hand: no sound client does it.
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // :method GET, :scheme http, :path /, :authority a
    let block = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    for n in 0..5_000_u32 {
        let id = (2 * n + 1).to_be_bytes();
        bytes.extend_from_slice(&[0, 0, 6, 1, 5]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&id);
        bytes.extend_from_slice(&[0, 0, 0, 8]);
    }
    let _ = stream.write_all(&bytes).await;
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    eventually("it is counted", || web.metric("starling_bad_requests_total", &["http2-flood"]) == 1).await;
    assert!(connect(web.way("orders")).await.ready().await.is_ok(), "others are served");
}

#[tokio::test]
async fn an_upload_that_its_caller_breaks_off_is_never_taken_for_a_whole_one() {
    let (broken, whole) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counts, begun) = ((Arc::clone(&broken), Arc::clone(&whole)), Arc::new(AtomicUsize::new(0)));
    let started = Arc::clone(&begun);
    let backend = h2_backend(move |request, _respond| {
        let ((broken, whole), started) = (counts.clone(), Arc::clone(&started));
        async move {
            let mut body = request.into_body();
            body.data().await.unwrap().unwrap();
            started.fetch_add(1, Ordering::Relaxed);
            let counted = if read(body).await.is_err() { broken } else { whole };
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    // Over HTTP/2 by a reset, over HTTP/1.1 by the end of the connection.
    let mut sender = connect(web.way("orders")).await;
    let (_response, mut stream) = sender.send_request(request("POST", "/"), false).unwrap();
    stream.send_data(Bytes::from_static(b"half"), false).unwrap();
    eventually("the service has the first half", || begun.load(Ordering::Relaxed) == 1).await;
    stream.send_reset(Reason::CANCEL);
    eventually("the service hears of it", || broken.load(Ordering::Relaxed) == 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
    eventually("the service has the first half", || begun.load(Ordering::Relaxed) == 2).await;
    drop(stream);
    eventually("the service hears of it", || broken.load(Ordering::Relaxed) == 2).await;
    assert_eq!(whole.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_answer_to_head_tells_a_length_and_may_end_behind_its_head() {
    let backend = h2_backend(|_, mut respond| async move {
        let head = Response::builder().header("content-length", "44").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers_speaking("orders", backend.address, "http2").start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let head = "HEAD / HTTP/1.1\r\nhost: orders.mesh\r\nconnection: close\r\n\r\n";
    // The race is whether the end has come when the head is passed on.
    for _ in 0..20 {
        let (answer, _) = exchange(web.way("orders"), head.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 44\r\n"), "{answer}");
        let stream = TcpStream::connect(web.way("orders")).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::head("http://orders.mesh/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        let answer = soon("an answer", response).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["content-length"]), (200, &"44".parse().unwrap()));
        assert!(soon("its end", read(answer.into_body())).await.unwrap().0.is_empty());
    }
}
