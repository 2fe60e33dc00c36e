//! Opaque TCP from local applications.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use starling_proto::mesh::v1;
use starling_proto::{Endpoint, ErrorCode, Protocol, frame};
use starling_routing::{Deadline, Outcome, Pick, RetryPolicy, Tries, Verdict};
use starling_transport::drain::DrainHold;
use starling_transport::{Connection, RecvHalf, Request, SendHalf};

use super::requests::Answer;
use super::{Caller, Destination, call, reach};
use crate::answer::Tongue;
use crate::blocks;
use crate::failure::Failure;
use crate::record::Record;
use crate::relay::{Counts, Sink, Source, http2_ends, relay, wire_ends};
use crate::shard::Shard;
use crate::wire::Wire;

/// A stream to an application of the service, accepted by it, and the record of what it carries.
pub(super) struct Tunnel {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// The first that came of the application, read already.
    pub(super) spoken: Bytes,
    pub(super) pick: Pick,
    pub(super) record: Record,
    pub(super) holding: DrainHold,
}

/// An application that is let go of before anything was said has this long to hang up as well.
const GOODBYE: Duration = Duration::from_secs(5);

/// Carries one connection. If the service cannot be reached the connection is reset: TCP has no other word for it.
pub(super) async fn serve(shard: Arc<Shard>, wire: Wire, early: Bytes, to: Destination, caller: Caller) {
    match open(&shard, &caller, &to).await {
        Ok(tunnel) => tunnel.carry(wire, early).await,
        Err((mut record, failure)) => {
            record.fail(&failure);
            wire.abort();
        }
    }
}

/// Answers CONNECT: 200 once the service has accepted, then bytes.
pub(super) async fn connect(shard: &Arc<Shard>, caller: &Caller, to: &Destination) -> Answer {
    match open(shard, caller, to).await {
        Ok(tunnel) => Answer::Tunnel(Response::new(()), tunnel),
        Err((record, failure)) => Answer::Whole(call::refuse(record, to, &failure, Tongue::Http)),
    }
}

impl Tunnel {
    /// Waits for the application's first word; false if it hung up instead.
    pub(super) async fn has_spoken(&mut self) -> bool {
        match self.recv.read_raw(blocks::READ_SIZE).await {
            Ok(Some(bytes)) => {
                self.spoken = bytes;
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Lets go of an application that nothing was said to, so that it sees the end of a connection and no failure.
    pub(super) fn discard(self) {
        let Self { mut send, mut recv, mut record, .. } = self;
        record.forget();
        if send.finish().is_ok() {
            tokio::spawn(async move {
                let _ =
                    tokio::time::timeout(GOODBYE, async { while let Ok(Some(_)) = recv.read_raw(1024).await {} }).await;
            });
        }
    }

    /// Carries `early`, which was read of `wire` before, and then all that comes.
    pub(super) async fn carry(self, wire: Wire, early: Bytes) {
        self.relay(wire_ends(wire), early).await;
    }

    /// Carries what comes on a stream of HTTP/2.
    pub(super) async fn carry_http2(self, recv: h2::RecvStream, send: h2::SendStream<Bytes>) {
        self.relay(http2_ends(recv, send), Bytes::new()).await;
    }

    async fn relay(self, ends: (impl Source, impl Sink), early: Bytes) {
        let Self { send, recv, spoken, mut pick, mut record, holding: _holding } = self;
        let counts = Arc::new(Counts::default());
        record.on_switched(&counts);
        let (source, mut sink) = ends;
        counts.received.fetch_add(spoken.len() as u64, Ordering::Relaxed);
        if !spoken.is_empty() && sink.send(spoken).await.is_err() {
            return record.on_done();
        }
        let ends = (source, sink);
        if let Some(code) = record.on_carried(relay(ends, early, send, recv, &counts).await) {
            pick.on_outcome(Outcome::of_error(code), Instant::now());
        }
    }
}

/// Opens a stream to an application that accepts.
pub(super) async fn open(shard: &Arc<Shard>, caller: &Caller, to: &Destination) -> Result<Tunnel, (Record, Failure)> {
    opened(shard, caller, to, Protocol::Tcp).await
}

/// Opens a flow of datagrams.
pub(super) async fn open_udp(
    shard: &Arc<Shard>,
    caller: &Caller,
    to: &Destination,
) -> Result<Tunnel, (Record, Failure)> {
    opened(shard, caller, to, Protocol::Udp).await
}

async fn opened(
    shard: &Arc<Shard>,
    caller: &Caller,
    to: &Destination,
    protocol: Protocol,
) -> Result<Tunnel, (Record, Failure)> {
    let holding = shard.plane.drain.hold();
    let mut record = Record::outbound_opaque(shard, &to.service, caller, protocol, Instant::now());
    match try_all(shard, caller, to, protocol, &mut record).await {
        // A connection may idle for hours: only its opening counts as a request outstanding.
        Ok(Opened { send, recv, pick, .. }) => Ok(Tunnel { send, recv, spoken: Bytes::new(), pick, record, holding }),
        Err(failure) => Err((record, failure)),
    }
}

struct Opened {
    send: SendHalf,
    recv: RecvHalf,
    pick: Pick,
    _outstanding: Request,
}

/// Opens a stream to one endpoint after the other until one accepts: nothing has been sent yet, so nothing is lost.
async fn try_all(
    shard: &Arc<Shard>,
    caller: &Caller,
    to: &Destination,
    protocol: Protocol,
    record: &mut Record,
) -> Result<Opened, Failure> {
    let now = Instant::now();
    let clusters = shard.plane.clusters.load();
    let cluster = clusters
        .cluster(&to.service)
        .cloned()
        .ok_or_else(|| Failure::new(ErrorCode::NoSuchService, format!("nobody in the mesh offers {}", to.service)))?;
    drop(clusters);
    cluster.budget().on_request(now);
    let deadline = Deadline::default_within(shard.plane.timeout(), now);
    let mut tries = Tries::new(RetryPolicy::default());
    loop {
        let mut pick = reach::pick(shard, &cluster, &tries)?;
        let endpoint = Arc::clone(pick.endpoint());
        let reached = reach::connect(shard, &cluster, &tries, deadline, &endpoint).await;
        let opened = match reached {
            Ok(connection) => {
                record.on_try(&endpoint);
                ask(shard, stream_head(caller, to, protocol, &endpoint, &tries), &connection, &endpoint, deadline).await
            }
            Err(failure) => Err(failure),
        };
        let failure = match opened {
            Ok((send, recv, outstanding)) => {
                pick.on_outcome(Outcome::Served, Instant::now());
                return Ok(Opened { send, recv, pick, _outstanding: outstanding });
            }
            Err(failure) => failure,
        };
        reach::failed(pick, &failure);
        // Nothing was given to an application that could process it twice.
        let failed = starling_routing::Failure {
            endpoint: &endpoint.key,
            error: failure.code,
            idempotent: true,
            replayable: true,
        };
        let verdict = tries.on_failure(failed, &cluster, deadline, &mut shard.rng(), Instant::now());
        match verdict {
            Verdict::Retry { after, .. } => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
            }
            Verdict::GiveUp(_) => return Err(failure),
        }
    }
}

fn stream_head(
    caller: &Caller,
    to: &Destination,
    protocol: Protocol,
    endpoint: &Endpoint,
    tries: &Tries,
) -> v1::StreamHeader {
    v1::StreamHeader {
        protocol: v1::Protocol::from(protocol).into(),
        source: caller.source_path().to_owned(),
        destination: to.service.path().to_owned(),
        destination_port: to.port.into(),
        attempt: tries.number(),
        instance: endpoint.key.instance,
        ..Default::default()
    }
}

/// Opens a stream and waits until the far application has accepted.
async fn ask(
    shard: &Shard,
    head: v1::StreamHeader,
    connection: &Connection,
    endpoint: &Endpoint,
    deadline: Deadline,
) -> Result<(SendHalf, RecvHalf, Request), Failure> {
    let outstanding = connection.begin_request();
    let exchange = async {
        let (mut send, mut recv) = connection.open().await?;
        send.send_head_and(&head, Bytes::new(), false).await?;
        let answer = recv.recv_head::<v1::ResponseHead>(frame::MAX_HEAD).await?;
        if answer.error.is_empty() {
            Ok((send, recv))
        } else {
            Err(reach::refused(connection, &answer.error, answer.detail))
        }
    };
    let until = deadline.try_until_within(shard.plane.defaults.try_timeout, Instant::now()).unwrap_or(deadline.at());
    tokio::select! {
        biased;
        opened = exchange => opened.map(|(send, recv)| (send, recv, outstanding)),
        () = connection.silent() => {
            Err(Failure::new(ErrorCode::ConnectionSilent, format!("{} fell silent", endpoint.address)))
        }
        () = tokio::time::sleep_until(until.into()) => {
            Err(Failure::new(ErrorCode::TryTimeout, format!("{} did not accept in time", endpoint.address)))
        }
    }
}
