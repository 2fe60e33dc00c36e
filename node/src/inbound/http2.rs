//! HTTP to a local application that speaks HTTP/2, gRPC among them.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use starling_proto::ErrorCode;
use starling_proto::head::AnswerHead as HopHead;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf, StreamError};

use super::Arrival;
use super::http::{Broken, LocalBody, MOST_INTERIMS, body, flush, tell, too_many_interims};
use super::local_http::LocalError;
use crate::failure::Failure;
use crate::fields::{self, PassedOn};
use crate::http1::token::{is_target, is_token, is_value};
use crate::record::Record;
use crate::relay::{Counts, http2_ends, relay, send_data};
use crate::websocket;

/// An application that says so long neither that it wants the body nor an answer knows nothing of `Expect`: few of HTTP/2 do. Its
/// caller is then told to go on (RFC 9110, section 10.1.1: nobody may wait for ever). As long as curl waits.
const SILENT: Duration = Duration::from_secs(1);

/// What became of a request.
enum Served {
    /// Its answer is sent.
    Whole,
    /// Its stream carries another protocol from here on.
    Switched(RecvStream, SendStream<Bytes>, RecvHalf),
}

pub(super) async fn serve(arrival: &Arrival, mut send: SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(arrival);
    let in_flight = arrival.offer.begin();
    match exchange(arrival, &mut send, recv, &mut record).await {
        Ok(Served::Whole) => {
            drop(in_flight);
            flush(record, &send).await;
        }
        Ok(Served::Switched(from, to, recv)) => {
            let counts = Arc::<Counts>::default();
            record.on_switched(&counts);
            record.on_carried(relay(http2_ends(from, to), Bytes::new(), send, recv, &counts).await);
        }
        Err(broken) => tell(broken, record, send).await,
    }
}

async fn exchange(
    arrival: &Arrival,
    send: &mut SendHalf,
    recv: RecvHalf,
    record: &mut Record,
) -> Result<Served, Broken> {
    let head = &arrival.head;
    let switches = !head.upgrade.is_empty() && head.no_body;
    let request = request(arrival, switches, record).map_err(Broken::Unanswered)?;
    let application = &arrival.offer.application;
    let lease = arrival.shard.local_http2.lease(application, &arrival.shard.outside).await;
    arrival.offer.on_reached(!matches!(lease, Err(LocalError::Connect { .. })));
    let lease = lease.map_err(|error| Broken::Unanswered(error.into()))?;
    let failed = |error: h2::Error| Broken::Unanswered(failure(arrival, &error));
    let mut sender = lease.sender.clone().ready().await.map_err(failed)?;
    if switches && !sender.is_extended_connect_protocol_enabled() {
        let what = format!("{application} speaks HTTP/2 and takes no other protocol on a stream of it (RFC 8441)");
        return Err(Broken::Unanswered(Failure::new(ErrorCode::UpstreamProtocol, what)));
    }
    let (response, stream) = sender.send_request(request, head.no_body && !switches).map_err(failed)?;
    let (mut upload, tunnel) = if head.no_body {
        (Upload(None), Some((stream, recv)))
    } else {
        (Upload(Some(Box::pin(send_all(body(head, recv, record).0, stream)))), None)
    };
    let answer = ask(arrival, response, send, &mut upload).await.map_err(Broken::Unanswered)?;
    record.on_status(answer.status());
    arrival.offer.on_answer(arrival.started.elapsed());
    let (mut parts, from) = answer.into_parts();
    if switches
        && parts.status == StatusCode::OK
        && let Some((to, recv)) = tunnel
    {
        let head = switched_head(arrival, &mut parts.headers);
        let sent = send.send_head(&head).await;
        sent.map_err(|error| Broken::Cut(Failure::new(ErrorCode::Cancelled, error.to_string())))?;
        return Ok(Served::Switched(from, to, recv));
    }
    pass_on(arrival, &parts, from, send, record, &mut upload).await.map_err(Broken::Cut)?;
    Ok(Served::Whole)
}

/// The request as the application gets it.
fn request(arrival: &Arrival, switches: bool, record: &mut Record) -> Result<Request<()>, Failure> {
    let head = &arrival.head;
    let bad = |what: &str| Failure::new(ErrorCode::HopProtocol, what);
    if !is_token(&head.method) || !is_target(&head.target) || !is_value(&head.authority) {
        return Err(bad("the method, target or authority is none"));
    }
    if head.no_body && head.has_content_length && head.content_length != 0 {
        return Err(bad("it tells the length of a body and has none"));
    }
    let mut headers = fields::from_wire(head.headers.clone(), 6).map_err(|error| bad(&error.to_string()))?;
    let host = headers.remove(header::HOST);
    headers.remove(fields::STARLING_SOURCE);
    let authority =
        if head.authority.is_empty() { host } else { HeaderValue::from_maybe_shared(head.authority.clone()).ok() };
    if let Some(authority) = &authority {
        headers.entry(fields::FORWARDED_HOST).or_insert_with(|| authority.clone());
    }
    headers.entry(fields::FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    let application = &arrival.offer.application;
    if let Some(source) = arrival.permit.source()
        && application.is_local()
    {
        headers.insert(fields::STARLING_SOURCE, HeaderValue::try_from(source.path()).map_err(|_| bad("the source"))?);
    }
    let traceparent = record.trace_of(&head.traceparent, &arrival.shard).context.text();
    headers.insert("traceparent", HeaderValue::from_bytes(&traceparent).map_err(|_| bad("the trace"))?);
    if head.has_content_length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(head.content_length));
    }
    let named = application.authority().and_then(|named| HeaderValue::from_maybe_shared(named.clone()).ok());
    let authority = named.or(authority);
    let mut uri = Uri::builder().scheme(application.scheme()).path_and_query(&head.target[..]);
    uri = uri.authority(authority.as_ref().map_or(&b"localhost"[..], HeaderValue::as_bytes));
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().map_err(|error| bad(&format!("the target: {error}")))?;
    *request.method_mut() = Method::from_bytes(&head.method).map_err(|_| bad("the method is not a token"))?;
    *request.version_mut() = Version::HTTP_2;
    if switches {
        let protocol =
            std::str::from_utf8(&head.upgrade).map_err(|_| bad("the protocol to switch to is not a token"))?;
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(h2::ext::Protocol::from(protocol));
        headers.remove(header::SEC_WEBSOCKET_KEY);
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Tells a caller, which asked as HTTP/1.1 asks, that its protocol was accepted.
fn switched_head(arrival: &Arrival, headers: &mut HeaderMap) -> v1::ResponseHead {
    let key = arrival.head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-key"));
    if let Some(key) = key {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, websocket::accept(&key.value));
    }
    let load = Some(arrival.offer.load(arrival.shard.plane.epoch));
    let status = StatusCode::SWITCHING_PROTOCOLS.as_u16().into();
    v1::ResponseHead { status, headers: fields::to_wire(headers), load, ..Default::default() }
}

/// A body that goes on while its answer is waited for and passed on: the application may answer before it has read
/// everything, and read on while it answers.
struct Upload(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Upload {
    /// Awaits `future` while the body goes on.
    async fn beside<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Some(uploading) = &mut self.0
                && uploading.as_mut().poll(cx).is_ready()
            {
                self.0 = None;
            }
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// Sends a body as fast as the application takes it. If it breaks off, the stream is reset, so that the application never takes
/// half a body for a whole one.
async fn send_all(mut body: LocalBody, mut stream: SendStream<Bytes>) {
    loop {
        let frame = tokio::select! {
            biased;
            frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
            // It wants no more.
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
        };
        let sent = match frame.transpose().map(|frame| frame.map(http_body::Frame::into_data)) {
            Ok(Some(Ok(data))) => send_data(&mut stream, data, false).await,
            Ok(Some(Err(frame))) => return drop(stream.send_trailers(frame.into_trailers().unwrap_or_default())),
            Ok(None) => return drop(stream.send_data(Bytes::new(), true)),
            Err(_) => return stream.send_reset(Reason::CANCEL),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Waits for the head of the answer, no longer than the caller does; passes interim ones on to whoever takes them.
async fn ask(
    arrival: &Arrival,
    mut response: ResponseFuture,
    send: &mut SendHalf,
    upload: &mut Upload,
) -> Result<Response<RecvStream>, Failure> {
    let expects = arrival.head.headers.iter().any(|field| field.name.eq_ignore_ascii_case(b"expect"));
    let mut silent = pin!(tokio::time::sleep(SILENT));
    let mut waits = expects && arrival.head.takes_interim;
    let mut interims = 0;
    loop {
        let interim = upload.beside(async {
            tokio::select! {
                biased;
                interim = poll_fn(|cx| poll_head(&mut response, cx)) => Ok(interim),
                () = silent.as_mut(), if waits => Ok(Head::Silent),
                _ = send.stopped() => Err(Failure::new(ErrorCode::Cancelled, "the caller went away")),
            }
        });
        match interim.await? {
            Head::Silent => {
                waits = false;
                let head = v1::ResponseHead { status: 100, no_body: true, ..Default::default() };
                send.send_head(&head).await?;
            }
            Head::Interim(interim) => {
                interims += 1;
                waits &= interim.status() != StatusCode::CONTINUE;
                if interims > MOST_INTERIMS {
                    return Err(too_many_interims(arrival));
                }
                if arrival.head.takes_interim {
                    let head = v1::ResponseHead {
                        status: interim.status().as_u16().into(),
                        headers: fields::to_wire(interim.headers()),
                        no_body: true,
                        ..Default::default()
                    };
                    send.send_head(&head).await?;
                }
            }
            Head::Answer(answer) => return answer.map_err(|error| failure(arrival, &error)),
        }
    }
}

enum Head {
    /// The application has said nothing for a while.
    Silent,
    Interim(Response<()>),
    Answer(Result<Response<RecvStream>, h2::Error>),
}

fn poll_head(response: &mut ResponseFuture, cx: &mut std::task::Context<'_>) -> Poll<Head> {
    if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
        return Poll::Ready(Head::Interim(interim));
    }
    Pin::new(response).poll(cx).map(Head::Answer)
}

/// Sends the answer's head and streams its body.
async fn pass_on(
    arrival: &Arrival,
    parts: &http::response::Parts,
    mut body: RecvStream,
    send: &mut SendHalf,
    record: &mut Record,
    upload: &mut Upload,
) -> Result<(), Failure> {
    let caller = |error: StreamError| Failure::new(ErrorCode::Cancelled, error.to_string());
    let broken = |error: h2::Error| failure(arrival, &error);
    let ended = body.is_end_stream();
    let passed_on = PassedOn::of(&parts.headers);
    let head = HopHead {
        status: parts.status.as_u16(),
        headers: passed_on.lines(|name| *name == header::CONTENT_LENGTH),
        no_body: ended,
        content_length: fields::content_length(&parts.headers),
        load: arrival.offer.load(arrival.shard.plane.epoch),
    };
    upload.beside(send.send_head_and(head, Bytes::new(), ended)).await.map_err(caller)?;
    if ended {
        record.on_done();
        return Ok(());
    }
    loop {
        let data = upload.beside(async {
            tokio::select! {
                biased;
                data = body.data() => Ok(data),
                gone = send.stopped() => Err(caller(gone.err().unwrap_or(StreamError::Closed))),
            }
        });
        let Some(data) = data.await?.transpose().map_err(broken)? else {
            let trailers = upload.beside(body.trailers()).await.map_err(broken)?;
            match trailers {
                Some(trailers) => {
                    let trailers = v1::Trailers { headers: fields::to_wire(&trailers), load: None };
                    send.send_trailers(&trailers).await.map_err(caller)?;
                }
                None => send.finish().map_err(caller)?,
            }
            break;
        };
        record.on_answered(data.len());
        let len = data.len();
        upload.beside(send.send_data(data)).await.map_err(caller)?;
        // Passed on: the application may send as much again.
        let _ = body.flow_control().release_capacity(len);
    }
    record.on_done();
    Ok(())
}

/// What a failure of a stream says of its request.
fn failure(arrival: &Arrival, error: &h2::Error) -> Failure {
    let unseen = error.reason() == Some(Reason::REFUSED_STREAM)
        || (error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR));
    let code = match error.reason() {
        _ if unseen => ErrorCode::UpstreamRefused,
        Some(Reason::PROTOCOL_ERROR | Reason::FRAME_SIZE_ERROR | Reason::COMPRESSION_ERROR) if error.is_library() => {
            ErrorCode::UpstreamProtocol
        }
        _ => ErrorCode::UpstreamReset,
    };
    Failure::new(code, format!("{}: {error}", arrival.offer.application))
}
