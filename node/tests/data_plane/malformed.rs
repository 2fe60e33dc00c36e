//! A peer with a good certificate and bad bytes harms its own stream only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, frame};
use starling_transport::{Connection, Frame, RecvHalf, SendHalf, StreamError};
use tokio::io::AsyncReadExt;

use crate::backend::{Backend, read_head};
use crate::hosts::{Running, World, eventually, soon};
use crate::identity::{ask, dial, header};

async fn open(connection: &Connection, bytes: Vec<u8>) -> (SendHalf, RecvHalf) {
    let (mut send, recv) = connection.open().await.unwrap();
    // The node may have reset it before all was written.
    let _ = send.write_raw(Bytes::from(bytes)).await;
    let _ = send.finish();
    (send, recv)
}

fn counted(node: &Running) -> u64 {
    node.metric("starling_refused_total", &["\"hop-protocol\""])
}

#[tokio::test]
async fn a_head_that_is_none_resets_its_stream_and_is_counted() {
    let backend = Backend::says("still here").await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let connection = connection.unwrap();
    let too_long = u32::try_from(frame::MAX_HEAD + 1).unwrap().to_be_bytes().to_vec();
    for (n, (kind, bytes)) in [
        ("nothing", vec![]),
        ("less than a length", vec![0, 0]),
        ("a head that ends early", [&8_u32.to_be_bytes()[..], b"abc"].concat()),
        ("garbage of the right length", [&6_u32.to_be_bytes()[..], b"\xff\xff\xff\xff\xff\xff"].concat()),
        ("a head over the limit", too_long),
        ("the longest that can be said", vec![0xff; 64]),
    ]
    .into_iter()
    .enumerate()
    {
        let (_send, mut recv) = open(&connection, bytes).await;
        let end = soon(kind, recv.recv_head::<v1::ResponseHead>(frame::MAX_HEAD)).await;
        assert_eq!(end, Err(StreamError::Reset(ErrorCode::HopProtocol)), "{kind}");
        assert_eq!(counted(&orders), n as u64 + 1, "{kind}");
        let answer = ask(&connection, &header("", "ns/default/svc/orders")).await;
        assert_eq!(answer.status, 200, "the connection goes on after {kind}");
    }
}

#[tokio::test]
async fn a_head_that_no_application_could_be_sent_is_answered_with_an_error() {
    let backend = Backend::says("served").await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let connection = connection.unwrap();
    let field = |name: &'static str, value: &'static str| v1::Header { name: name.into(), value: value.into() };
    let good = || header("", "ns/default/svc/orders");
    for (kind, bad) in [
        ("method", v1::StreamHeader { method: "G T".into(), ..good() }),
        ("target", v1::StreamHeader { target: "/ HTTP/1.1\r\nx: y".into(), ..good() }),
        ("name", v1::StreamHeader { headers: vec![field("x y", "1")], ..good() }),
        ("length", v1::StreamHeader { headers: vec![field("content-length", "7")], ..good() }),
        ("coding", v1::StreamHeader { headers: vec![field("transfer-encoding", "chunked")], ..good() }),
        (
            "a length of no body",
            v1::StreamHeader { no_body: true, has_content_length: true, content_length: 44, ..good() },
        ),
        ("protocol", v1::StreamHeader { upgrade: "a, b".into(), ..good() }),
        ("value", v1::StreamHeader { headers: vec![field("x", "1\r\ny: 2")], ..good() }),
    ] {
        let answer = ask(&connection, &bad).await;
        assert_eq!(answer.error, "hop-protocol", "{kind}: {answer:?}");
    }
    assert!(backend.seen().is_empty());
    let framing = v1::StreamHeader {
        headers: vec![field("keep-alive", "5"), field("connection", "x-private"), field("host", "other")],
        ..good()
    };
    assert_eq!(ask(&connection, &framing).await.status, 200);
    let seen = backend.last();
    assert_eq!((seen.field("keep-alive"), seen.field("connection")), (None, None));
    assert_eq!(seen.head.headers.get_all("host").iter().count(), 1);
}

#[tokio::test]
async fn frames_that_are_none_cut_the_request_at_the_application() {
    let cut = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cut);
    let backend = Backend::raw(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            read_head(&mut stream).await;
            let mut body = Vec::new();
            let _ = stream.read_to_end(&mut body).await;
            assert!(!body.ends_with(b"0\r\n\r\n"), "half a body looks whole");
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let connection = connection.unwrap();
    let mut head = header("", "ns/default/svc/orders");
    (head.method, head.no_body) = ("POST".into(), false);
    for (n, (kind, bytes)) in [
        ("a frame that ends early", [&frame::header(frame::Kind::Data, 9)[..], b"half"].concat()),
        ("trailers over the limit", frame::header(frame::Kind::Trailers, frame::MAX_TRAILERS + 1).to_vec()),
        ("trailers that are none", [&frame::header(frame::Kind::Trailers, 3)[..], b"\xff\xff\xff"].concat()),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut send, mut recv) = connection.open().await.unwrap();
        send.send_head_and(&head, Bytes::from_static(b"some"), false).await.unwrap();
        let _ = send.write_raw(Bytes::from(bytes)).await;
        let _ = send.finish();
        let answer = soon(kind, recv.recv_head::<v1::ResponseHead>(frame::MAX_HEAD)).await.unwrap();
        assert!(answer.status >= 400 && !answer.error.is_empty(), "{kind}: {answer:?}");
        eventually(kind, || cut.load(Ordering::Relaxed) == n + 1).await;
    }
}

#[tokio::test]
async fn a_frame_of_a_kind_to_come_is_skipped() {
    let backend = Backend::http(|request| http::Response::new(crate::backend::full(request.body.clone()))).await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let mut head = header("", "ns/default/svc/orders");
    (head.method, head.no_body) = ("POST".into(), false);
    let (mut send, mut recv) = connection.unwrap().open().await.unwrap();
    send.send_head_and(&head, Bytes::from_static(b"be"), false).await.unwrap();
    let unknown = [&frame::header(frame::Kind::Unknown(200), 5)[..], b"spare"].concat();
    send.write_raw(Bytes::from(unknown)).await.unwrap();
    send.send_data(Bytes::from_static(b"fore")).await.unwrap();
    send.finish().unwrap();
    let answer = soon("an answer", recv.recv_head::<v1::ResponseHead>(frame::MAX_HEAD)).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(soon("its body", recv.recv_frame()).await.unwrap(), Frame::Data(Bytes::from_static(b"before")));
}
