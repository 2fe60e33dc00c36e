//! Requests that arrive from the mesh: checked against the caller's certificate, then given to a local application.

pub(crate) mod application;
pub(crate) mod http;
mod http2;
pub(crate) mod local_http;
pub(crate) mod local_http2;
pub(crate) mod offers;
mod tcp;
mod udp;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use starling_policy::authorize::{Permit, check_identity};
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, Protocol, frame};
use starling_transport::{Connection, PeerIdentity, RecvHalf, SendHalf};

use crate::failure::Failure;
use crate::shard::Shard;
use offers::Offer;

pub(crate) use http::LocalBody;
pub(crate) use offers::Offers;

/// A peer that opens a stream sends its header at once; one that does not holds a place for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A request whose header was read and whose claims were checked.
pub(crate) struct Arrival {
    pub(crate) shard: Arc<Shard>,
    pub(crate) peer: Arc<PeerIdentity>,
    pub(crate) offer: Arc<Offer>,
    /// That the caller may speak for the service it names, and this node for the one it wants.
    pub(crate) permit: Permit,
    pub(crate) head: v1::StreamHeader,
    pub(crate) started: Instant,
}

impl Arrival {
    /// What is spoken with the application: what it says that it speaks, or, if it leaves that open, what the caller speaks.
    pub(crate) fn spoken(&self) -> Protocol {
        match (self.head.protocol(), self.offer.protocol) {
            (v1::Protocol::Tcp, _) => Protocol::Tcp,
            (v1::Protocol::Udp, _) => Protocol::Udp,
            (_, declared @ (Protocol::Http2 | Protocol::Grpc)) => declared,
            (v1::Protocol::Http2, Protocol::Detect) => Protocol::Http2,
            _ => Protocol::Http,
        }
    }
}

/// Serves every stream of a connection, until it ends.
pub(crate) async fn serve(shard: Arc<Shard>, connection: Connection) {
    while let Some((send, recv)) = connection.accept().await {
        let shard = Arc::clone(&shard);
        let peer = Arc::clone(connection.peer());
        tokio::spawn(serve_stream(shard, peer, send, recv));
    }
}

async fn serve_stream(shard: Arc<Shard>, peer: Arc<PeerIdentity>, mut send: SendHalf, mut recv: RecvHalf) {
    let started = Instant::now();
    let reading = recv.recv_head::<v1::StreamHeader>(frame::MAX_HEAD);
    let head = match tokio::time::timeout(HEAD_TIMEOUT, reading).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return reject_unread(&shard, send, recv, error.code()),
        Err(_) => return reject_unread(&shard, send, recv, ErrorCode::HopProtocol),
    };
    match admit(&shard, &peer, &head) {
        Ok((offer, permit)) => {
            let _serving = shard.plane.drain.hold();
            // Boxed, so that what is spawned for each stream is small to move.
            let arrival = Box::new(Arrival { shard, peer, offer, permit, head, started });
            match arrival.spoken() {
                Protocol::Tcp => Box::pin(tcp::serve(&arrival, send, recv)).await,
                Protocol::Udp => Box::pin(udp::serve(&arrival, send, recv)).await,
                Protocol::Http2 | Protocol::Grpc => Box::pin(http2::serve(&arrival, send, recv)).await,
                _ => http::serve(&arrival, send, recv).await,
            }
        }
        Err(failure) => {
            shard.plane.telemetry.on_refused(failure.code);
            tracing::debug!(peer = %peer.spiffe, destination = head.destination, %failure, "a stream is refused");
            recv.stop(failure.code);
            fail(&mut send, failure).await;
        }
    }
}

fn reject_unread(shard: &Shard, mut send: SendHalf, mut recv: RecvHalf, code: ErrorCode) {
    // A caller that changed its mind, or whose connection was lost, did nothing wrong.
    if code == ErrorCode::HopProtocol {
        shard.plane.telemetry.on_refused(code);
    }
    send.reset(code);
    recv.stop(code);
}

/// Is the caller who it says it is, and is what it wants offered here?
fn admit(shard: &Shard, peer: &PeerIdentity, head: &v1::StreamHeader) -> Result<(Arc<Offer>, Permit), Failure> {
    let bad = |what: &str, error| Failure::new(ErrorCode::HopProtocol, format!("{what}: {error}"));
    let destination = shard.names.read(&head.destination).map_err(|e| bad("destination", e))?;
    let source = match head.source.as_str() {
        "" => None,
        path => Some(shard.names.read(path).map_err(|e| bad("source", e))?),
    };
    let plane = &shard.plane;
    let permit = check_identity(&peer.services, plane.identity.services(), source.as_ref(), &destination)
        .map_err(|denied| Failure::new(denied.code(), denied.to_string()))?;
    if plane.drain.is_started() {
        return Err(Failure::new(ErrorCode::Draining, "this node drains"));
    }
    let offer = plane
        .offers
        .find(&destination, head.instance)
        .ok_or_else(|| Failure::new(ErrorCode::NotServedHere, format!("{destination} is not offered by this node")))?;
    Ok((offer, permit))
}

/// Answers with a failure in place of the application's answer.
pub(crate) async fn fail(send: &mut SendHalf, failure: Failure) {
    let sent = {
        let head = v1::ResponseHead {
            status: failure.code.status().into(),
            error: failure.code.as_str().to_owned(),
            detail: failure.detail,
            no_body: true,
            ..Default::default()
        };
        send.send_head_and(&head, Bytes::new(), true)
    };
    // If the caller has gone, nobody is left to tell.
    let _ = sent.await;
}
