//! HTTP/1.1 from local applications.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use starling_proto::ErrorCode;
use tokio::net::TcpStream;

use super::answer_body::AnswerBody;
use super::{Destination, Way, call, tcp};
use crate::answer;
use crate::failure::Failure;
use crate::fields;
use crate::shard::Shard;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves one connection until it ends; on drain, until its current request is answered.
pub(super) async fn serve(shard: Arc<Shard>, stream: TcpStream, way: Way) {
    let mut drain = shard.plane.drain.clone();
    let _holding = drain.hold();
    let peer = stream.peer_addr().ok();
    let telemetry = Arc::clone(&shard.plane.telemetry);
    let service = service_fn(move |request| {
        let (shard, way) = (Arc::clone(&shard), way.clone());
        async move { Ok::<_, Infallible>(answer_one(&shard, &way, request, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(fields::MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = drain.started() => {
            connection.as_mut().graceful_shutdown();
            connection.await
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
    way: &Way,
    mut request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Response<AnswerBody> {
    match way {
        Way::To { .. } if request.method() == Method::CONNECT => {
            let failure =
                Failure::new(ErrorCode::BadRequest, "CONNECT is for proxy.http: this address leads to one service");
            call::own(answer::to_error(&failure, ""))
        }
        Way::To { destination, .. } => call::answer(shard, destination, request, peer).await,
        Way::Proxy => match Destination::of_target(request.uri(), &shard.plane.suffix) {
            Ok(destination) if request.method() == Method::CONNECT => {
                let upgrade = hyper::upgrade::on(&mut request);
                Box::pin(tcp::tunnel(shard, destination, upgrade, peer)).await
            }
            Ok(destination) => call::answer(shard, &destination, request, peer).await,
            Err(error) => {
                let failure = Failure::new(ErrorCode::NotAMeshName, error.to_string());
                call::own(answer::to_error(&failure, ""))
            }
        },
    }
}
