//! Bodies stream both ways, whole and under back-pressure.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};

use crate::backend::{Backend, full, read_head};
use crate::caller::{call, get, post, send, with};
use crate::hosts::{World, soon};

const LARGE: usize = 64 << 20;
const PIECE: usize = 64 << 10;
/// What may be under way between two applications while one does not read: the windows of the hop and the buffers of
/// four sockets.
const UNDER_WAY: usize = 16 << 20;

/// A long text that tells a lost, doubled or moved piece.
fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16 ^ at >> 24).to_le_bytes()[0]
}

fn piece(at: usize) -> Bytes {
    (at..LARGE.min(at + PIECE)).map(byte).collect()
}

/// Reads to the end, comparing. How much there was.
async fn check(mut reader: impl AsyncRead + Unpin, length: usize) -> usize {
    let (mut at, mut buffer) = (0, vec![0; PIECE]);
    while at < length {
        let read = soon("more of the body", reader.read(&mut buffer)).await.unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().enumerate().all(|(n, found)| *found == byte(at + n)), "differs after {at}");
        at += read;
    }
    at
}

/// A body of [`LARGE`] bytes that counts what was taken of it.
struct Counted {
    at: Arc<AtomicUsize>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let at = self.at.load(Ordering::Relaxed);
        if at == LARGE {
            return Poll::Ready(None);
        }
        let piece = piece(at);
        self.at.fetch_add(piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Waits until the count has stood still for a while: the writer waits for the reader.
async fn stalled(count: &AtomicUsize) -> usize {
    let still = async {
        let (mut last, mut looks) = (0, 0);
        let mut tick = tokio::time::interval(Duration::from_millis(25));
        while looks < 16 {
            tick.tick().await;
            let now = count.load(Ordering::Relaxed);
            looks = if now == last && now > 0 { looks + 1 } else { 0 };
            last = now;
        }
        last
    };
    soon("a writer that waits", still).await
}

/// A connection whose receive buffer is small, so that what is measured is the mesh.
async fn narrow(to: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(128 << 10).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_of_a_download_and_all_of_it_arrives() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let backend = Backend::http(move |_| Response::new(Counted { at: Arc::clone(&count) }.boxed_unsync())).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = narrow(web.way("orders")).await;
    // HTTP/1.0: the body comes as it is, up to the end of the connection.
    stream.write_all(b"GET / HTTP/1.0\r\nhost: orders.mesh\r\n\r\n").await.unwrap();
    let head = soon("the head", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let under_way = stalled(&taken).await;
    assert!(under_way < UNDER_WAY, "{under_way} bytes");
    assert_eq!(check(stream, LARGE).await, LARGE);
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_of_an_upload_and_all_of_it_arrives() {
    let (read_on, reading) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (go, begun) = (Arc::clone(&read_on), Arc::clone(&reading));
    let backend = Backend::raw(move |mut stream| {
        let (go, begun) = (Arc::clone(&go), Arc::clone(&begun));
        async move {
            let head = read_head(&mut stream).await;
            assert!(head.contains(&format!("content-length: {LARGE}\r\n")), "{head}");
            begun.notify_one();
            go.notified().await;
            let read = check(&mut stream, LARGE).await;
            let answer = format!("HTTP/1.1 200 OK\r\nx-read: {read}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let request = Request::put("/").header("host", "orders.mesh").header("content-length", LARGE);
    let request = request.body(Counted { at: Arc::clone(&taken) }).unwrap();
    let calling = tokio::spawn(call(web.way("orders"), request));
    reading.notified().await;
    let under_way = stalled(&taken).await;
    assert!(under_way < UNDER_WAY, "{under_way} bytes");
    read_on.notify_one();
    let answer = calling.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.field("x-read")), (200, Some(LARGE.to_string().as_str())));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = Backend::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("te: trailers\r\n") && head.contains("trailer: x-sum\r\n"), "{head}");
        let body = read_head(&mut stream).await;
        assert_eq!(body, "5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n");
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        stream.write_all((head.to_owned() + &body).as_bytes()).await.unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: orders.mesh\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let body = "5\r\nhello\r\n0\r\nx-sum: 12\r\n\r\n";
    stream.write_all((head.to_owned() + body).as_bytes()).await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("trailer: x-sum\r\n"), "{head}");
    assert_eq!(soon("its body", read_head(&mut stream)).await, body);
    let cut = web.metric("starling_requests_total", &["4xx"]) + web.metric("starling_requests_total", &["5xx"]);
    assert_eq!(cut, 0);
}

#[tokio::test]
async fn a_get_may_have_a_body_of_unknown_length() {
    let backend = Backend::http(|request| Response::new(full(request.body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let request = "GET /search HTTP/1.1\r\nhost: orders.mesh\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nquery\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nquery"), "{answer}");
}

#[tokio::test]
async fn that_a_body_is_empty_is_told_where_one_is_expected() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for (head, length) in [
        ("POST / HTTP/1.1\r\ncontent-length: 0\r\n", Some("0")),
        ("PUT / HTTP/1.1\r\n", Some("0")),
        ("GET / HTTP/1.1\r\n", None),
        ("GET / HTTP/1.1\r\ncontent-length: 0\r\n", Some("0")),
    ] {
        let request = format!("{head}host: orders.mesh\r\nconnection: close\r\n\r\n");
        let (answer, _) = crate::caller::exchange(web.way("orders"), request.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{head}");
        assert_eq!(backend.last().field("content-length"), length, "{head}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_and_keep_what_they_say_of_one() {
    let backend = Backend::http(|request| {
        let answer = Response::builder();
        match request.head.uri.path() {
            "/204" => answer.status(204).body(full("")),
            "/304" => answer.status(304).header("etag", "\"1\"").body(full("")),
            _ => answer.header("content-length", "1234").body(full(if request.head.method == Method::HEAD {
                String::new()
            } else {
                "x".repeat(1234)
            })),
        }
        .unwrap()
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut head = get("/");
    *head.method_mut() = Method::HEAD;
    let answer = call(web.way("orders"), head).await;
    assert_eq!((answer.status.as_u16(), answer.field("content-length"), answer.body.len()), (200, Some("1234"), 0));
    assert_eq!(call(web.way("orders"), get("/")).await.body.len(), 1234);
    let answer = call(web.way("orders"), get("/204")).await;
    assert_eq!((answer.status.as_u16(), answer.field("content-length"), answer.body.len()), (204, None, 0));
    let answer = call(web.way("orders"), get("/304")).await;
    assert_eq!((answer.status.as_u16(), answer.field("etag"), answer.body.len()), (304, Some("\"1\""), 0));
    for status in ["2xx", "3xx"] {
        assert!(web.metric("starling_requests_total", &["outbound", status]) > 0);
    }
    assert_eq!(web.metric("starling_requests_total", &["4xx"]), 0, "none counts as cut");
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_is_told_to_go_on() {
    let backend = Backend::http(|request| Response::new(full(request.body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: orders.mesh\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let interim = soon("an interim answer", read_head(&mut stream)).await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    stream.write_all(b"hello").await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut body = [0; 5];
    soon("its body", stream.read_exact(&mut body)).await.unwrap();
    assert_eq!(&body, b"hello");
}

#[tokio::test]
async fn what_follows_an_early_answer_reaches_the_service_though_its_connection_is_to_end() {
    let (tell, mut told) = mpsc::channel(1);
    let backend = Backend::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            let mut body = [0; 10];
            tell.send(stream.read_exact(&mut body).await.map(|_| body)).await.unwrap();
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close\r\n"), "{head}");
    stream.write_all(b"0123456789").await.unwrap();
    assert_eq!(&soon("the body", told.recv()).await.unwrap().unwrap(), b"0123456789");
    let mut rest = String::new();
    soon("the end", stream.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "ok");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_its_connection_though_the_upload_still_runs() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let backend = Backend::raw(move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
            gate.notified().await;
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    stream.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await.unwrap();
    let head = soon("the answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut half = [0; 4];
    soon("half of its body", stream.read_exact(&mut half)).await.unwrap();
    go.notify_one();
    soon("the end", stream.read_to_end(&mut Vec::new())).await.unwrap_err();
}

#[tokio::test]
async fn an_answer_may_come_while_the_upload_still_runs() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let mut first = [0; 5];
        stream.read_exact(&mut first).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&first).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        // The rest of the upload is wanted all the same, and decides the end of the answer.
        let mut rest = [0; 6];
        stream.read_exact(&mut rest).await.unwrap();
        stream.write_all(b"6\r\n").await.unwrap();
        stream.write_all(&rest).await.unwrap();
        stream.write_all(b"\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let (pieces, body) = channel_body();
    let request = Request::post("/").header("host", "orders.mesh").header("content-length", "11").body(body).unwrap();
    pieces.send(Bytes::from("hello")).await.unwrap();
    let mut body = soon("an early answer", send(web.way("orders"), request)).await.unwrap().into_body();
    let first = soon("its first piece", body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "hello");
    pieces.send(Bytes::from(" world")).await.unwrap();
    drop(pieces);
    assert_eq!(soon("its end", body.collect()).await.unwrap().to_bytes(), " world");
}

#[tokio::test]
async fn an_answer_that_refuses_an_upload_early_reaches_the_caller() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\ntoo much";
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        // Read on until the node has understood.
        let mut sink = vec![0; PIECE];
        while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let (pieces, body) = channel_body();
    let request = Request::post("/").header("host", "orders.mesh").header("content-length", LARGE).body(body).unwrap();
    pieces.send(piece(0)).await.unwrap();
    let answer = soon("the refusal", send(web.way("orders"), request)).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(soon("its body", answer.into_body().collect()).await.unwrap().to_bytes(), "too much");
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_never_taken_for_a_whole_one() {
    let (outcome, mut is_outcome) = mpsc::unbounded_channel();
    let begun = Arc::new(Notify::new());
    let has_begun = Arc::clone(&begun);
    let backend = Backend::raw(move |mut stream| {
        let (outcome, begun) = (outcome.clone(), Arc::clone(&begun));
        async move {
            read_head(&mut stream).await;
            let mut all = vec![0; "4\r\nhalf\r\n".len()];
            stream.read_exact(&mut all).await.unwrap();
            begun.notify_one();
            let _ = stream.read_to_end(&mut all).await;
            outcome.send(String::from_utf8(all).unwrap()).unwrap();
        }
    })
    .await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    let mut stream = TcpStream::connect(web.way("orders")).await.unwrap();
    let request = "POST / HTTP/1.1\r\nhost: orders.mesh\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // Earlier, nothing might have left the node yet.
    soon("the first half", has_begun.notified()).await;
    drop(stream);
    let got = soon("the application's view", is_outcome.recv()).await.unwrap();
    assert!(!got.ends_with("0\r\n\r\n"), "{got}");
}

#[tokio::test]
async fn a_small_post_and_its_answer_are_the_same_bytes() {
    let backend = Backend::http(|request| Response::new(full(request.body.clone()))).await;
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 1).await;
    for size in [0, 1, 1000, 16 << 10, 64 << 10, (64 << 10) + 1, 1 << 20] {
        let body: Bytes = (0..size).map(byte).collect();
        let answer = call(web.way("orders"), with(post("/", body.clone()), &[("x-size", &size.to_string())])).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{size} bytes, {} came back", answer.body.len());
    }
}

/// A body whose pieces come one by one.
fn channel_body() -> (mpsc::Sender<Bytes>, impl Body<Data = Bytes, Error = std::io::Error> + Send + 'static) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Pieces(receiver))
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
