//! Opaque TCP from local applications.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use starling_proto::mesh::v1;
use starling_proto::{Endpoint, ErrorCode, frame};
use starling_routing::{Deadline, Outcome, Pick, RetryPolicy, Tries, Verdict};
use starling_transport::{Connection, RecvHalf, Request, SendHalf};
use tokio::net::TcpStream;

use super::answer_body::AnswerBody;
use super::{Caller, Destination, call, reach};
use crate::failure::Failure;
use crate::record::Record;
use crate::relay::{Counts, relay};
use crate::shard::Shard;

/// A stream to an application of the service, accepted by it.
pub(super) struct Opened {
    send: SendHalf,
    recv: RecvHalf,
    pick: Pick,
    _outstanding: Request,
}

/// Carries one connection. If the service cannot be reached the connection is reset: TCP has no other word for it.
pub(super) async fn serve(shard: Arc<Shard>, stream: TcpStream, to: Destination, caller: Caller) {
    let _holding = shard.plane.drain.hold();
    let mut record = Record::outbound_tcp(&shard, &to.service, &caller, Instant::now());
    match open(&shard, &caller, &to, &mut record).await {
        Ok(opened) => carry(stream, Bytes::new(), opened, record).await,
        Err(failure) => {
            record.fail(&failure);
            let _ = SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

/// Answers CONNECT: 200 once the service has accepted, then bytes.
pub(super) async fn tunnel(
    shard: &Arc<Shard>,
    caller: &Caller,
    to: Destination,
    upgrade: OnUpgrade,
) -> Response<AnswerBody> {
    let mut record = Record::outbound_tcp(shard, &to.service, caller, Instant::now());
    match open(shard, caller, &to, &mut record).await {
        Ok(opened) => {
            let holding = shard.plane.drain.hold();
            tokio::spawn(async move {
                let _holding = holding;
                let Ok(upgraded) = upgrade.await else { return };
                // What the client sent together with its CONNECT was read ahead: it goes first.
                if let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() {
                    carry(parts.io.into_inner(), parts.read_buf, opened, record).await;
                }
            });
            Response::new(AnswerBody::Own(None))
        }
        Err(failure) => call::refuse(record, &to, &failure),
    }
}

/// Carries `early`, which was read of `stream` before, and then all that comes.
pub(super) async fn carry(stream: TcpStream, early: Bytes, opened: Opened, mut record: Record) {
    let Opened { send, recv, mut pick, _outstanding: outstanding } = opened;
    // A connection may idle for hours: only its opening counts as a request outstanding.
    drop(outstanding);
    let counts = Arc::new(Counts::default());
    record.follow(&counts);
    if let Err(error) = relay(stream, early, send, recv, &counts).await {
        let code = error.code();
        if code != ErrorCode::Cancelled {
            record.fail(&Failure::new(code, error.to_string()));
            pick.on_outcome(Outcome::of_error(code), Instant::now());
        }
    }
}

/// Opens a stream to one endpoint after the other until one accepts: nothing has been sent yet, so nothing is lost.
pub(super) async fn open(
    shard: &Arc<Shard>,
    caller: &Caller,
    to: &Destination,
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
                ask(shard, caller, to, &connection, &endpoint, &tries, deadline).await
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

/// Opens a stream and waits until the far application has accepted.
async fn ask(
    shard: &Shard,
    caller: &Caller,
    to: &Destination,
    connection: &Connection,
    endpoint: &Endpoint,
    tries: &Tries,
    deadline: Deadline,
) -> Result<(SendHalf, RecvHalf, Request), Failure> {
    let outstanding = connection.begin_request();
    let head = v1::StreamHeader {
        protocol: v1::Protocol::Tcp.into(),
        source: caller.source_path().to_owned(),
        destination: to.service.path().to_owned(),
        destination_port: to.port.into(),
        attempt: tries.number(),
        instance: endpoint.key.instance,
        ..Default::default()
    };
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
