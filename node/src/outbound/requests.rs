//! One request of a local program, by the way it came in.

use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use starling_proto::ErrorCode;

use super::answer_body::AnswerBody;
use super::caller_body::CallerBody;
use super::interim::Interims;
use super::tcp::{self, Tunnel};
use super::{Caller, Destination, Way, call};
use crate::answer::Tongue;
use crate::failure::Failure;
use crate::shard::Shard;

/// What comes of a request.
pub(super) enum Answer {
    /// An answer.
    Whole(Response<AnswerBody>),
    /// After this head the connection, or the stream, carries bytes of another protocol.
    Tunnel(Response<()>, Tunnel),
}

/// Answers a request, whatever it is.
pub(super) async fn answer(
    shard: &Arc<Shard>,
    caller: &Caller,
    way: &Way,
    mut request: Request<CallerBody>,
    interims: &Interims,
) -> Answer {
    let is_connect = request.method() == Method::CONNECT && request.extensions().get::<h2::ext::Protocol>().is_none();
    match way {
        Way::To { .. } if is_connect => {
            refuse(&request, ErrorCode::BadRequest, "CONNECT is for proxy.http: this address leads to one service")
        }
        Way::To { destination, .. } => call::answer(shard, caller, destination, request, interims).await,
        Way::Ingress(_) if is_connect => refuse(&request, ErrorCode::BadRequest, "CONNECT leads nowhere from here"),
        Way::Ingress(visit) => match visit.route(&request) {
            Some(destination) => {
                let host = request.uri().authority().map(|named| HeaderValue::try_from(named.as_str()).ok());
                let host = host.unwrap_or_else(|| request.headers().get(HOST).cloned());
                visit.sign(request.headers_mut(), host);
                call::answer(shard, caller, &destination, request, interims).await
            }
            None => refuse(&request, ErrorCode::NoRoute, "no route leads from this host and path to a service"),
        },
        Way::Proxy => match Destination::of_target(request.uri(), &shard.plane.suffix) {
            Ok(destination) if is_connect => Box::pin(tcp::connect(shard, caller, &destination)).await,
            Ok(destination) => call::answer(shard, caller, &destination, request, interims).await,
            Err(error) => refuse(&request, ErrorCode::NotAMeshName, &error.to_string()),
        },
    }
}

fn refuse(request: &Request<CallerBody>, code: ErrorCode, detail: &str) -> Answer {
    Answer::Whole(call::own(&Failure::new(code, detail), "", Tongue::of(request.headers())))
}
