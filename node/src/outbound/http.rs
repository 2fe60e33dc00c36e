//! HTTP/1.1 from local applications.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use starling_proto::ErrorCode;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::activity::{Activity, Serving};
use super::answer_body::AnswerBody;
use super::{Caller, Destination, Way, call, tcp};
use crate::answer;
use crate::failure::Failure;
use crate::fields;
use crate::shard::Shard;

/// A connection on which neither a request is under way nor one came whole is let go after this time, or twice as long at
/// most: it is looked at so often only, since a timer for each request costs more than all else that a head does.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection until it ends; on drain, until its current request is answered.
pub(super) async fn serve(shard: Arc<Shard>, stream: TcpStream, way: Way, caller: Caller) {
    let mut drain = shard.plane.drain.clone();
    let _holding = drain.hold();
    let telemetry = Arc::clone(&shard.plane.telemetry);
    let activity = Activity::default();
    let service = service_fn(|request| {
        let (shard, caller, way, serving) = (&shard, &caller, &way, activity.begin());
        async move { Ok::<_, Infallible>(answer_one(shard, caller, way, request, serving).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(fields::MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let mut draining = false;
    let mut looks = tokio::time::interval_at(Instant::now() + HEAD_TIMEOUT, HEAD_TIMEOUT);
    let mut seen = activity.begun();
    let end = loop {
        tokio::select! {
            biased;
            end = connection.as_mut() => break end,
            () = drain.started(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = looks.tick() => {
                let before = std::mem::replace(&mut seen, activity.begun());
                if before == seen && activity.is_idle() {
                    return;
                }
            }
        }
    };
    if let Err(error) = end
        && error.is_parse()
    {
        telemetry.on_bad_request();
        tracing::debug!(%error, "a local client sent no valid HTTP/1.1");
    }
}

async fn answer_one(
    shard: &Arc<Shard>,
    caller: &Caller,
    way: &Way,
    mut request: Request<Incoming>,
    serving: Serving,
) -> Response<AnswerBody> {
    match way {
        Way::To { .. } if request.method() == Method::CONNECT => {
            let failure =
                Failure::new(ErrorCode::BadRequest, "CONNECT is for proxy.http: this address leads to one service");
            call::own(answer::to_error(&failure, ""))
        }
        Way::To { destination, .. } => call::answer(shard, caller, destination, request, serving).await,
        Way::Proxy => match Destination::of_target(request.uri(), &shard.plane.suffix) {
            Ok(destination) if request.method() == Method::CONNECT => {
                let upgrade = hyper::upgrade::on(&mut request);
                Box::pin(tcp::tunnel(shard, caller, destination, upgrade)).await
            }
            Ok(destination) => call::answer(shard, caller, &destination, request, serving).await,
            Err(error) => {
                let failure = Failure::new(ErrorCode::NotAMeshName, error.to_string());
                call::own(answer::to_error(&failure, ""))
            }
        },
    }
}
