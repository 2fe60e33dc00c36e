use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use starling_proto::ErrorCode;
use starling_proto::error_code::Processed;
use starling_proto::frame::{MAX_HEAD, MAX_TRAILERS};
use starling_proto::mesh::v1;
use starling_transport::{Carriers, Frame, Limits, Lost, Malformed, StreamError};

use crate::carriers::over_each_carrier;
use crate::fixture::{Mesh, Pair, soon, until};

over_each_carrier!(
    a_request_and_its_answer_cross_whole,
    a_body_longer_than_a_frame_is_split_and_arrives_whole,
    every_reset_code_crosses_in_both_directions,
    a_half_that_is_dropped_early_says_cancelled_and_never_looks_whole,
    a_reader_that_leaves_with_bytes_unread_stops_its_writer,
    a_half_closed_stream_still_carries_the_other_way,
    a_slow_reader_slows_the_writer_and_little_is_held,
    stalled_readers_do_not_starve_other_streams,
    bytes_that_are_no_hop_stream_are_named,
    trailers_over_their_limit_are_not_sent,
    a_lost_connection_ends_its_streams_and_says_why,
    a_draining_peer_refuses_new_streams_and_finishes_old_ones,
    more_streams_than_allowed_wait_their_turn,
);

fn head() -> v1::StreamHeader {
    let header = v1::Header { name: Bytes::from_static(b"accept"), value: Bytes::from_static(b"*/*") };
    v1::StreamHeader {
        destination: "ns/default/svc/web".to_owned(),
        method: Bytes::from_static(b"POST"),
        target: Bytes::from_static(b"/orders?id=7"),
        headers: vec![header; 20],
        ..Default::default()
    }
}

async fn a_request_and_its_answer_cross_whole(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let (mut send, mut recv) = pair.near.open().await.unwrap();
    send.send_head_and(&head(), Bytes::from_static(b"one"), false).await.unwrap();
    send.send_data(Bytes::from_static(b"two")).await.unwrap();
    send.finish().unwrap();

    let (mut answer, mut request) = soon("the request", pair.far.accept()).await.unwrap();
    assert_eq!(request.recv_head::<v1::StreamHeader>(MAX_HEAD).await.unwrap(), head());
    let mut body = Vec::new();
    loop {
        match request.recv_frame().await.unwrap() {
            Frame::Data(bytes) => body.extend_from_slice(&bytes),
            Frame::End => break,
            Frame::Trailers(_) => panic!("none were sent"),
        }
    }
    assert_eq!(body, b"onetwo");
    assert_eq!(request.recv_frame().await.unwrap(), Frame::End, "the end stays the end");

    let status = v1::ResponseHead { status: 201, ..Default::default() };
    let trailers = v1::Trailers { headers: Vec::new(), load: Some(v1::Load { in_flight: 3, ..Default::default() }) };
    answer.send_head(&status).await.unwrap();
    answer.send_trailers(&trailers).await.unwrap();
    assert_eq!(recv.recv_head::<v1::ResponseHead>(MAX_HEAD).await.unwrap(), status);
    assert_eq!(recv.recv_frame().await.unwrap(), Frame::Trailers(trailers));
    assert_eq!(recv.recv_frame().await.unwrap(), Frame::End);
    soon("the answer is acknowledged", answer.stopped()).await.unwrap();
}

async fn a_body_longer_than_a_frame_is_split_and_arrives_whole(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let body = Bytes::from(vec![5; (1 << 24) + 1000]);
    let (mut send, _recv) = pair.near.open().await.unwrap();
    let writer = {
        let body = body.clone();
        tokio::spawn(async move { send.send_head_and(&head(), body, true).await })
    };
    let (_answer, mut request) = soon("the request", pair.far.accept()).await.unwrap();
    request.recv_head::<v1::StreamHeader>(MAX_HEAD).await.unwrap();
    let mut left = body.len();
    while let Frame::Data(bytes) = soon("the body", request.recv_frame()).await.unwrap() {
        assert!(bytes.iter().all(|byte| *byte == 5));
        left -= bytes.len();
    }
    assert_eq!(left, 0);
    writer.await.unwrap().unwrap();
}

async fn every_reset_code_crosses_in_both_directions(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    for code in ErrorCode::ALL {
        let ((send, mut recv), (mut far_send, mut far_recv)) = pair.stream().await;
        far_send.reset(*code);
        far_recv.stop(*code);
        let error = soon("a reset", recv.read_raw(10)).await.unwrap_err();
        assert_eq!(error, StreamError::Reset(*code));
        assert_eq!((error.code(), error.processed()), (*code, code.processed()));
        assert_eq!(soon("a stop", send.stopped()).await.unwrap_err(), StreamError::Reset(*code));
    }
}

async fn a_half_that_is_dropped_early_says_cancelled_and_never_looks_whole(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((send, recv), (far_send, mut far_recv)) = pair.stream().await;
    drop((send, recv));
    assert_eq!(far_recv.read_raw(10).await.unwrap_err(), StreamError::Reset(ErrorCode::Cancelled));
    assert_eq!(soon("a stop", far_send.stopped()).await.unwrap_err(), StreamError::Reset(ErrorCode::Cancelled));
}

async fn a_reader_that_leaves_with_bytes_unread_stops_its_writer(over: Carriers) {
    const PIECE: usize = 64 << 10;
    let window = usize::try_from(Limits::default().stream_window).unwrap();
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    let written = Arc::new(AtomicUsize::new(0));
    let writer = tokio::spawn({
        let written = written.clone();
        async move {
            loop {
                match send.write_raw(Bytes::from(vec![9; PIECE])).await {
                    Ok(()) => written.fetch_add(PIECE, Ordering::Relaxed),
                    Err(error) => break error,
                };
            }
        }
    });
    until("the writer fills the window", || written.load(Ordering::Relaxed) + 2 * PIECE > window).await;
    // The rest of its chunk is still to be read, and many more wait.
    assert_eq!(soon("a byte", far_recv.read_raw(1)).await.unwrap().unwrap(), [9][..]);
    drop(far_recv);
    assert_eq!(soon("the writer's end", writer).await.unwrap(), StreamError::Reset(ErrorCode::Cancelled));
}

#[tokio::test]
async fn a_connection_on_which_very_many_streams_were_reset_is_left_for_another() {
    let pair = Pair::new(&Mesh::new(), Carriers::Quic).await;
    let mut resets = 0;
    while !pair.near.is_leaving() {
        assert!(resets < 5_000, "it is kept for ever");
        let (near, mut far) = pair.stream().await;
        far.0.reset(ErrorCode::UpstreamReset);
        let (_send, mut recv) = near;
        let reset = soon("the reset", recv.read_raw(1)).await.unwrap_err();
        assert_eq!(reset, StreamError::Reset(ErrorCode::UpstreamReset));
        resets += 1;
    }
    assert!(resets > 1_000, "after {resets}");
}

async fn a_half_closed_stream_still_carries_the_other_way(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, mut recv), (mut far_send, mut far_recv)) = pair.stream().await;
    send.finish().unwrap();
    assert_eq!(far_recv.read_raw(10).await.unwrap(), None);
    for piece in ["still", "here"] {
        far_send.write_raw(Bytes::from_static(piece.as_bytes())).await.unwrap();
        let got = soon("a piece", recv.read_raw(100)).await.unwrap().unwrap();
        assert_eq!(got, piece);
    }
    far_send.finish().unwrap();
    assert_eq!(recv.read_raw(10).await.unwrap(), None);
    assert_eq!(send.write_raw(Bytes::from_static(b"x")).await.unwrap_err(), StreamError::Closed);
}

async fn a_slow_reader_slows_the_writer_and_little_is_held(over: Carriers) {
    const TOTAL: usize = 64 << 20;
    const PIECE: usize = 64 << 10;
    let window = usize::try_from(Limits::default().stream_window).unwrap();
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    let written = Arc::new(AtomicUsize::new(0));
    let writer = tokio::spawn({
        let written = written.clone();
        async move {
            let piece = Bytes::from(vec![9; PIECE]);
            while written.load(Ordering::Relaxed) < TOTAL {
                send.write_raw(piece.clone()).await.unwrap();
                written.fetch_add(PIECE, Ordering::Relaxed);
            }
            send.finish().unwrap();
        }
    });
    // With nobody reading, it comes to a stop at the window.
    until("the writer fills the window", || written.load(Ordering::Relaxed) + 2 * PIECE > window).await;
    let mut read = 0;
    while let Some(bytes) = soon("the body", far_recv.read_raw(PIECE)).await.unwrap() {
        read += bytes.len();
        // Credit comes back in steps; what is held is the window, and the piece that waits.
        let held = written.load(Ordering::Relaxed).saturating_sub(read);
        assert!(held <= window + PIECE, "{held} bytes between writer and reader");
        if read % (4 << 20) < bytes.len() {
            // Let the writer run as far as it can.
            let before = written.load(Ordering::Relaxed);
            until("the writer goes on or is done", || {
                written.load(Ordering::Relaxed) > before || before + window > read
            })
            .await;
        }
    }
    assert_eq!(read, TOTAL);
    writer.await.unwrap();
}

async fn stalled_readers_do_not_starve_other_streams(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let ((mut send, recv), far) = pair.stream().await;
        let writer = tokio::spawn(async move { send.write_raw(Bytes::from(vec![0; 4 << 20])).await });
        stalled.push((recv, far, writer));
    }
    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    send.write_raw(Bytes::from_static(b"through")).await.unwrap();
    assert_eq!(soon("the other stream", far_recv.read_raw(10)).await.unwrap().unwrap(), "through");
    for (_, _, writer) in &stalled {
        writer.abort();
    }
}

async fn bytes_that_are_no_hop_stream_are_named(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    send.write_raw(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff])).await.unwrap();
    let error = soon("the head", far_recv.recv_head::<v1::StreamHeader>(MAX_HEAD)).await.unwrap_err();
    assert!(matches!(error, StreamError::Malformed(Malformed::TooLarge { limit: MAX_HEAD, .. })), "{error}");
    assert_eq!(error.code(), ErrorCode::HopProtocol);

    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    send.write_raw(Bytes::from_static(&[0, 0, 0, 9, 1])).await.unwrap();
    send.finish().unwrap();
    let error = soon("the head", far_recv.recv_head::<v1::StreamHeader>(MAX_HEAD)).await.unwrap_err();
    assert_eq!(error, StreamError::Malformed(Malformed::Truncated("a head")));
}

async fn trailers_over_their_limit_are_not_sent(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, _recv), _far) = pair.stream().await;
    let header = v1::Header { name: Bytes::new(), value: Bytes::from(vec![0; MAX_TRAILERS]) };
    let error = send.send_trailers(&v1::Trailers { headers: vec![header], load: None }).await.unwrap_err();
    assert!(matches!(error, StreamError::Malformed(Malformed::TooLarge { .. })), "{error}");
}

async fn a_lost_connection_ends_its_streams_and_says_why(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((_send, mut recv), _far) = pair.stream().await;
    pair.far.close(ErrorCode::Draining, "stopping");
    let lost = Lost::Closed { code: Some(ErrorCode::Draining), reason: "stopping".to_owned() };
    let error = soon("the loss", recv.read_raw(10)).await.unwrap_err();
    assert_eq!(error, StreamError::ConnectionLost(lost.clone()));
    assert_eq!(error.processed(), Processed::Maybe);
    assert_eq!(pair.near.closed().await, lost);
    assert_eq!(pair.near.open().await.unwrap_err(), lost);
    assert!(pair.far.accept().await.is_none());
}

async fn a_draining_peer_refuses_new_streams_and_finishes_old_ones(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let ((mut send, _recv), (_far_send, mut far_recv)) = pair.stream().await;
    pair.far.refuse_streams();
    let far = pair.far.clone();
    let accepting = tokio::spawn(async move { far.accept().await.is_some() });
    assert!(!pair.near.is_leaving());
    let (mut late, mut late_recv) = pair.near.open().await.unwrap();
    late.write_raw(Bytes::from_static(b"late")).await.unwrap();
    let error = soon("the refusal", late_recv.read_raw(10)).await.unwrap_err();
    assert_eq!(error, StreamError::Reset(ErrorCode::Draining));
    assert_eq!(error.processed(), Processed::No);
    assert!(pair.near.is_leaving(), "nobody should be given this connection again");
    send.write_raw(Bytes::from_static(b"old")).await.unwrap();
    assert_eq!(soon("the old stream", far_recv.read_raw(10)).await.unwrap().unwrap(), "old");
    accepting.abort();
}

async fn more_streams_than_allowed_wait_their_turn(over: Carriers) {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let limits = Limits { streams: 4, ..Limits::default() };
    let listener = starling_transport::Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &limits).unwrap();
    let address = listener.local_addr();
    tokio::spawn(crate::fixture::serve(listener, |_| b"done".to_vec()));
    let dialer = mesh.dialer_over("web-2", over);
    let connection =
        dialer.connect(address, None, starling_transport::Alpn::Data, Duration::from_secs(5)).await.unwrap();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(connection.open().await.unwrap());
    }
    let fifth = tokio::spawn({
        let connection = connection.clone();
        async move { connection.open().await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    assert!(!fifth.is_finished());
    for (mut send, mut recv) in open {
        send.write_raw(Bytes::from_static(b"?")).await.unwrap();
        send.finish().unwrap();
        assert_eq!(soon("an answer", recv.read_raw(100)).await.unwrap().unwrap(), "done");
        assert_eq!(recv.read_raw(100).await.unwrap(), None);
    }
    soon("the fifth stream", fifth).await.unwrap().unwrap();
}
