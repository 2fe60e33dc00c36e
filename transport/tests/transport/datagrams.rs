//! What of a stream may be lost.

use bytes::Bytes;
use starling_transport::{Carriers, Unsent};

use crate::fixture::{Mesh, Pair, soon};

#[tokio::test]
async fn each_stream_has_datagrams_of_its_own_both_ways() {
    let pair = Pair::new(&Mesh::new(), Carriers::Quic).await;
    let mut streams = Vec::new();
    // More than have an index of one byte.
    for _ in 0..70 {
        let (near, far) = pair.stream().await;
        let ends = (near.1.datagrams().unwrap(), far.1.datagrams().unwrap());
        streams.push((near, far, ends));
    }
    for (n, (.., ends)) in streams.iter_mut().enumerate().rev() {
        let ((near_send, near_recv), (far_send, far_recv)) = ends;
        for size in [0, 1, 1_000] {
            let datagram = vec![u8::try_from(n).unwrap(); size];
            near_send.send(&datagram).await.unwrap();
            assert_eq!(soon("a datagram", far_recv.recv()).await, datagram);
            far_send.send(&datagram).await.unwrap();
            assert_eq!(soon("another", near_recv.recv()).await, datagram);
        }
    }
}

#[tokio::test]
async fn one_that_no_packet_holds_is_for_the_stream() {
    let pair = Pair::new(&Mesh::new(), Carriers::Quic).await;
    let (near, _far) = pair.stream().await;
    let (send, _recv) = near.1.datagrams().unwrap();
    assert_eq!(send.send(&vec![0; 60_000]).await, Err(Unsent::TooLarge));
}

#[tokio::test]
async fn there_are_none_over_tcp() {
    let pair = Pair::new(&Mesh::new(), Carriers::Tcp).await;
    let (near, far) = pair.stream().await;
    assert!(near.1.datagrams().is_none() && far.1.datagrams().is_none());
}

#[tokio::test]
async fn what_nobody_reads_is_dropped_and_counted_and_holds_up_no_other() {
    const SENT: usize = 400;
    let pair = Pair::new(&Mesh::new(), Carriers::Quic).await;
    let (near, far) = pair.stream().await;
    let (other_near, other_far) = pair.stream().await;
    let (send, _near_recv) = near.1.datagrams().unwrap();
    let (_far_send, mut unread) = far.1.datagrams().unwrap();
    let (other_send, _other_recv) = other_near.1.datagrams().unwrap();
    let (_other, mut other_recv) = other_far.1.datagrams().unwrap();
    for n in 0..SENT {
        send.send(&n.to_be_bytes()).await.unwrap();
        // Behind it, so that it has come when this has.
        other_send.send(b"next").await.unwrap();
        assert_eq!(soon("the other's", other_recv.recv()).await, "next");
    }
    let missed = usize::try_from(unread.take_missed()).unwrap();
    assert!((1..SENT).contains(&missed), "{missed}");
    for n in 0..SENT - missed {
        assert_eq!(soon("the first ones", unread.recv()).await, n.to_be_bytes()[..]);
    }
    assert_eq!(unread.take_missed(), 0);
}

#[tokio::test]
async fn a_connection_whose_datagrams_nobody_wants_any_more_closes() {
    let pair = Pair::new(&Mesh::new(), Carriers::Quic).await;
    let (near, far) = pair.stream().await;
    let (send, recv) = near.1.datagrams().unwrap();
    let (far_send, far_recv) = far.1.datagrams().unwrap();
    let connection = pair.near.clone();
    drop((near, far, send, recv));
    // Late ones belong to nobody.
    far_send.send(b"late").await.unwrap();
    let (mut stream, mut answer) = connection.open().await.unwrap();
    stream.write_raw(Bytes::from_static(b"still here")).await.unwrap();
    stream.finish().unwrap();
    let (mut far_stream, far_question) = soon("a stream", pair.far.accept()).await.unwrap();
    far_stream.write_raw(Bytes::from_static(b"yes")).await.unwrap();
    assert_eq!(soon("an answer", answer.read_raw(3)).await.unwrap().unwrap(), "yes");
    drop((stream, answer, connection, far_send, far_recv, far_stream, far_question));
    let Pair { near, far, dialer: _dialer, .. } = pair;
    drop(near);
    soon("the end", far.closed()).await;
}
