//! HTTP/1.1 to a local application.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use starling_proto::head::AnswerHead;
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, Protocol};
use starling_transport::{RecvHalf, SendHalf, StreamError};

use super::local_pool::{Answered, LocalError};
use super::{Arrival, fail};
use crate::failure::Failure;
use crate::fields::{self, PassedOn};
use crate::hop_body::{HopBody, HopBodyError, Observer};
use crate::record::Record;
use crate::relay::Counts;
use crate::telemetry::TRACEPARENT;

/// An answer larger than this may lie in the stream's buffers for long, since its caller reads slowly. It counts as under
/// way until it has arrived, so that a node that stops does not cut it.
const FLUSHED_WITHOUT_CARE: u64 = 64 * 1024;

/// Fields that the mesh adds to a request, at most.
const ADDED_FIELDS: usize = 6;

/// The request's body on its way to the application.
pub(crate) type LocalBody = HopBody<CountUp>;

/// Counts what goes by, where there is anything to count.
pub(crate) struct CountUp(Option<Arc<Counts>>);

impl Observer for CountUp {
    fn on_data(&mut self, bytes: usize) {
        if let Some(counts) = &self.0 {
            counts.received.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    fn on_end(&mut self, _: Option<v1::Load>) {}

    fn on_failure(&mut self, _: &HopBodyError) {}
}

pub(super) async fn serve(mut arrival: Arrival, mut send: SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(&arrival, Protocol::Http);
    let in_flight = arrival.offer.begin();
    let counts = (!arrival.head.no_body).then(Arc::<Counts>::default);
    if let Some(counts) = &counts {
        record.follow(counts);
    }
    let traceparent = record.trace_of(&arrival.head.traceparent, &arrival.shard).context.text();
    let request = match to_request(&mut arrival, recv, counts, &traceparent) {
        Ok(request) => request,
        Err(failure) => {
            record.fail(&failure);
            return fail(&mut send, failure).await;
        }
    };
    match ask(&arrival, request, &mut send).await {
        Ok(answered) => {
            let latency = arrival.started.elapsed();
            arrival.offer.on_answer(latency);
            record.on_status(answered.response.status());
            match pass_on(&arrival, answered, &mut send, &mut record).await {
                Ok(()) if record.bytes_out() > FLUSHED_WITHOUT_CARE => {
                    drop((record, in_flight));
                    let _ = send.stopped().await;
                }
                Ok(()) => {}
                Err(failure) => {
                    send.reset(failure.code);
                    record.fail(&failure);
                }
            }
        }
        Err(failure) => {
            record.fail(&failure);
            fail(&mut send, failure).await;
        }
    }
}

/// The request as the application gets it.
fn to_request(
    arrival: &mut Arrival,
    recv: RecvHalf,
    counts: Option<Arc<Counts>>,
    traceparent: &[u8],
) -> Result<Request<LocalBody>, Failure> {
    let head = &mut arrival.head;
    let bad = |what: &str| Failure::new(ErrorCode::HopProtocol, what);
    let body = if head.no_body {
        HopBody::empty(CountUp(None))
    } else {
        HopBody::new(recv, head.has_content_length.then_some(head.content_length), CountUp(counts))
    };
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(&head.method).map_err(|_| bad("the method is not a token"))?;
    *request.uri_mut() = Uri::from_maybe_shared(head.target.clone()).map_err(|_| bad("the target is not a path"))?;
    *request.version_mut() = Version::HTTP_11;
    let headers = std::mem::take(&mut head.headers);
    let mut headers = fields::from_wire(headers, ADDED_FIELDS).map_err(|error| bad(&error.to_string()))?;
    fields::tell_application(&mut headers, arrival.permit.source(), &head.authority);
    if let Ok(value) = HeaderValue::from_bytes(traceparent) {
        headers.insert(TRACEPARENT, value);
    }
    if head.has_content_length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(head.content_length));
    } else if !head.no_body {
        // Said here, since the library thinks that a GET has no body otherwise.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.headers_mut() = headers;
    Ok(request)
}

/// Waits for the head of the answer, no longer than the caller does: its node holds the deadline, and stops the stream
/// when it passes.
async fn ask(
    arrival: &Arrival,
    request: Request<LocalBody>,
    send: &mut SendHalf,
) -> Result<Answered<LocalBody>, Failure> {
    let exchange = arrival.shard.local_http.send(arrival.offer.address, request);
    tokio::select! {
        biased;
        answered = exchange => {
            arrival.offer.on_reached(!matches!(answered, Err(LocalError::Connect { .. })));
            Ok(answered?)
        }
        _ = send.stopped() => Err(Failure::new(ErrorCode::Cancelled, "the caller went away")),
    }
}

/// Sends the answer's head and streams its body.
async fn pass_on(
    arrival: &Arrival,
    answered: Answered<LocalBody>,
    send: &mut SendHalf,
    record: &mut Record,
) -> Result<(), Failure> {
    let Answered { response, mut connection } = answered;
    let (parts, mut body) = response.into_parts();
    let passed_on = PassedOn::of(&parts.headers);
    let lines = || passed_on.lines(|name| *name == CONTENT_LENGTH);
    if fields::size(lines()) > fields::MAX_FIELDS {
        let detail = format!("{}: its answer's head has over {} bytes", arrival.offer.address, fields::MAX_FIELDS);
        return Err(Failure::new(ErrorCode::UpstreamProtocol, detail));
    }
    let head = |no_body| AnswerHead {
        status: parts.status.as_u16(),
        headers: lines(),
        no_body,
        content_length: fields::content_length(&parts.headers),
        load: arrival.offer.load(arrival.shard.plane.epoch),
    };
    let broken = |error| Failure::new(ErrorCode::UpstreamReset, format!("{}: {error}", arrival.offer.address));
    let caller = |error: StreamError| Failure::new(ErrorCode::Cancelled, error.to_string());
    let mut ended = match connection.at_hand(&mut body) {
        // It travels in one packet with the head if it is here.
        Poll::Pending => {
            connection.run(send.send_head_and(head(false), Bytes::new(), false)).await.map_err(caller)?;
            false
        }
        Poll::Ready(None) => {
            send.send_head_and(head(true), Bytes::new(), true).await.map_err(caller)?;
            true
        }
        Poll::Ready(Some(frame)) => match frame.map_err(broken)?.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                record.on_answered(data.len());
                connection.run(send.send_head_and(head(false), data, last)).await.map_err(caller)?;
                last
            }
            Err(frame) => {
                send.send_head_and(head(false), Bytes::new(), false).await.map_err(caller)?;
                send.send_trailers(&to_trailers(frame)).await.map_err(caller)?;
                true
            }
        },
    };
    while !ended {
        let frame = tokio::select! {
            biased;
            frame = connection.run(body.frame()) => frame.transpose().map_err(broken)?,
            // The application may be silent for long: its next piece is not what tells it that nobody listens.
            gone = send.stopped() => return Err(caller(gone.err().unwrap_or(StreamError::Closed))),
        };
        match frame.map(Frame::into_data) {
            None => {
                send.finish().map_err(caller)?;
                ended = true;
            }
            Some(Ok(data)) => {
                record.on_answered(data.len());
                connection.run(send.send_data(data)).await.map_err(caller)?;
            }
            Some(Err(frame)) => {
                send.send_trailers(&to_trailers(frame)).await.map_err(caller)?;
                ended = true;
            }
        }
    }
    record.on_done();
    arrival.shard.local_http.put_back(arrival.offer.address, connection).await;
    Ok(())
}

fn to_trailers(frame: Frame<Bytes>) -> v1::Trailers {
    let headers = frame.into_trailers().unwrap_or_default();
    v1::Trailers { headers: fields::to_wire(&headers), load: None }
}
