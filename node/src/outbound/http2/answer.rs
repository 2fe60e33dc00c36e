//! One request over HTTP/2, and its answer.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use starling_proto::ErrorCode;

use super::body::Http2Body;
use crate::answer::{self, Tongue};
use crate::failure::Failure;
use crate::hop_body::HopBodyError;
use crate::outbound::answer_body::AnswerBody;
use crate::outbound::asked::SwitchTo;
use crate::outbound::caller_body::CallerBody;
use crate::outbound::interim::Interims;
use crate::outbound::requests::{self, Answer};
use crate::outbound::{Caller, Way, call};
use crate::rejected::Rejected;
use crate::relay::{Untaken, send_data_within};
use crate::shard::Shard;
use crate::websocket;

/// The client reset the stream, or its connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// Before it had an answer.
    Unanswered,
    /// Within its answer.
    Answered,
}

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self::Answered
    }
}

/// Serves one stream.
///
/// # Errors
/// If its client was gone before all of the answer was sent.
pub(super) async fn serve(
    shard: &Arc<Shard>,
    caller: &Caller,
    way: &Way,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Gone> {
    let tongue = Tongue::of(request.headers());
    let (mut parts, recv) = request.into_parts();
    parts.version = Version::HTTP_2;
    let switches = parts.extensions.get::<h2::ext::Protocol>().is_some();
    let (body, recv) = if switches || parts.method == Method::CONNECT {
        (CallerBody::None, Some(recv))
    } else if recv.is_end_stream() {
        (CallerBody::None, None)
    } else {
        (CallerBody::Http2(Http2Body::new(recv)), None)
    };
    let asked = if switches { switch(&mut parts) } else { HeaderMap::new() };
    let interims = Interims::wanted();
    let request = Request::from_parts(parts, body);
    let answer = wait(shard, caller, way, request, &interims, &mut respond).await?;
    match (answer, recv) {
        (Answer::Whole(answer), _) => send(shard, answer, tongue, respond).await,
        (Answer::Tunnel(head, tunnel), Some(recv)) => {
            let head = match opened(head, &asked, switches) {
                Ok(head) => head,
                Err(failure) => {
                    return send(shard, call::own(&failure, "", tongue), tongue, respond).await;
                }
            };
            if let Ok(stream) = respond.send_response(head, false) {
                tunnel.carry_http2(recv, stream).await;
            }
            Ok(())
        }
        // Nothing but CONNECT gets a tunnel.
        (Answer::Tunnel(..), None) => Ok(()),
    }
}

/// Makes of an extended CONNECT (RFC 8441, section 4) what it would be over HTTP/1.1. Returns the fields that the answer must
/// fit.
fn switch(parts: &mut http::request::Parts) -> HeaderMap {
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map_or("", h2::ext::Protocol::as_str);
    let protocol = Bytes::from(protocol.to_ascii_lowercase());
    parts.method = Method::GET;
    if protocol == websocket::WEBSOCKET {
        websocket::ask(&mut parts.headers);
    }
    parts.extensions.insert(SwitchTo(protocol));
    parts.headers.clone()
}

/// The head of an answer that opens a tunnel, as HTTP/2 has it.
fn opened(mut head: Response<()>, asked: &HeaderMap, switches: bool) -> Result<Response<()>, Failure> {
    let is_websocket = asked.contains_key(http::header::SEC_WEBSOCKET_KEY);
    if switches && is_websocket && !websocket::is_accepted(asked, head.headers_mut()) {
        let what = "the application's Sec-WebSocket-Accept does not fit the key (RFC 6455, section 4.1)";
        return Err(Failure::new(ErrorCode::UpstreamProtocol, what));
    }
    *head.status_mut() = StatusCode::OK;
    Ok(head)
}

/// Waits for the answer, and passes on what comes before it.
async fn wait(
    shard: &Arc<Shard>,
    caller: &Caller,
    way: &Way,
    request: Request<CallerBody>,
    interims: &Interims,
    respond: &mut SendResponse<Bytes>,
) -> Result<Answer, Gone> {
    let mut answering = Box::pin(requests::answer(shard, caller, way, request, interims));
    loop {
        let answer = tokio::select! {
            biased;
            answer = &mut answering => Some(answer),
            () = interims.came() => None,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Err(Gone::Unanswered),
        };
        for interim in interims.take() {
            let mut head = Response::new(());
            *head.status_mut() = interim.status;
            *head.headers_mut() = interim.headers;
            // One that cannot be sent is not missed.
            let _ = respond.send_informational(head);
        }
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
}

async fn send(
    shard: &Shard,
    answer: Response<AnswerBody>,
    tongue: Tongue,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Gone> {
    let (mut parts, body) = answer.into_parts();
    parts.version = Version::HTTP_2;
    let mut body = std::pin::pin!(body);
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(http::header::CONTENT_LENGTH);
    }
    let ended = body.is_end_stream();
    let sent = respond.send_response(Response::from_parts(parts, ()), ended);
    let mut stream = sent.map_err(|_| Gone::Unanswered)?;
    if ended {
        return Ok(());
    }
    loop {
        let frame = tokio::select! {
            biased;
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => frame,
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Gone::Answered),
        };
        match frame.transpose() {
            Ok(None) => return Ok(stream.send_data(Bytes::new(), true)?),
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => {
                    let ends = body.is_end_stream();
                    match send_data_within(&mut stream, data, ends, shard.plane.limits.send_timeout).await {
                        Ok(()) => {}
                        Err(Untaken::Gone(error)) => return Err(error.into()),
                        Err(Untaken::Slow) => {
                            shard.plane.telemetry.on_rejected(Rejected::SlowReader);
                            stream.send_reset(Reason::CANCEL);
                            return Ok(());
                        }
                    }
                    if ends {
                        return Ok(());
                    }
                }
                Err(frame) => return Ok(stream.send_trailers(frame.into_trailers().unwrap_or_default())?),
            },
            Err(error) => return break_off(&mut stream, &error, tongue),
        }
    }
}

/// The client must not take half an answer for a whole one.
fn break_off(stream: &mut SendStream<Bytes>, error: &HopBodyError, tongue: Tongue) -> Result<(), Gone> {
    if tongue == Tongue::Grpc {
        let mut trailers = HeaderMap::new();
        answer::grpc_fields(&Failure::new(error.code(), error.to_string()), &mut trailers);
        return Ok(stream.send_trailers(trailers)?);
    }
    stream.send_reset(match error.code() {
        ErrorCode::Cancelled | ErrorCode::Deadline => Reason::CANCEL,
        _ => Reason::INTERNAL_ERROR,
    });
    Ok(())
}
