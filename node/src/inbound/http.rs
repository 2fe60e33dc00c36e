//! HTTP/1.1 to a local application.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, Protocol};
use starling_transport::{RecvHalf, SendHalf, StreamError};

use super::local_pool::{Answered, LocalError};
use super::{Arrival, fail};
use crate::failure::Failure;
use crate::fields;
use crate::hop_body::{HopBody, HopBodyError, Observer};
use crate::record::Record;
use crate::relay::Counts;

/// An answer larger than this may lie in the stream's buffers for long, since its caller reads slowly. It counts as under
/// way until it has arrived, so that a node that stops does not cut it.
const FLUSHED_WITHOUT_CARE: u64 = 64 * 1024;

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

pub(super) async fn serve(arrival: Arrival, mut send: SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(&arrival, Protocol::Http);
    let in_flight = arrival.offer.begin();
    let counts = (!arrival.head.no_body).then(Arc::<Counts>::default);
    if let Some(counts) = &counts {
        record.follow(counts);
    }
    let traceparent = record.trace_of(&arrival.head.traceparent, &arrival.shard);
    let request = match to_request(&arrival, recv, counts, traceparent) {
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
    arrival: &Arrival,
    recv: RecvHalf,
    counts: Option<Arc<Counts>>,
    traceparent: Bytes,
) -> Result<Request<LocalBody>, Failure> {
    let head = &arrival.head;
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
    let mut headers = fields::from_wire(head.headers.clone()).map_err(|error| bad(&error.to_string()))?;
    fields::tell_application(&mut headers, arrival.permit.source(), &head.authority);
    if let Ok(value) = HeaderValue::from_maybe_shared(traceparent) {
        headers.insert(fields::TRACEPARENT, value);
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
    let Answered { response, sender } = answered;
    let (mut parts, mut body) = response.into_parts();
    let length = fields::content_length(&parts.headers);
    fields::remove_hop_by_hop(&mut parts.headers);
    let mut head = v1::ResponseHead {
        status: parts.status.as_u16().into(),
        headers: fields::to_wire(&parts.headers, &[CONTENT_LENGTH]),
        content_length: length.unwrap_or(0),
        has_content_length: length.is_some(),
        load: Some(arrival.offer.load(arrival.shard.plane.epoch)),
        ..Default::default()
    };
    if fields::size(&head.headers) > fields::MAX_FIELDS {
        let detail = format!("{}: its answer's head has over {} bytes", arrival.offer.address, fields::MAX_FIELDS);
        return Err(Failure::new(ErrorCode::UpstreamProtocol, detail));
    }
    let broken = |error| Failure::new(ErrorCode::UpstreamReset, format!("{}: {error}", arrival.offer.address));
    let caller = |error: StreamError| Failure::new(ErrorCode::Cancelled, error.to_string());
    let first = at_hand(&mut body).await;
    let mut ended = match first {
        None => {
            send.send_head_and(&head, Bytes::new(), false).await.map_err(caller)?;
            false
        }
        Some(None) => {
            head.no_body = true;
            send.send_head_and(&head, Bytes::new(), true).await.map_err(caller)?;
            true
        }
        Some(Some(frame)) => match frame.map_err(broken)?.into_data() {
            Ok(data) => {
                let last = body.is_end_stream();
                record.on_answered(data.len());
                send.send_head_and(&head, data, last).await.map_err(caller)?;
                last
            }
            Err(frame) => {
                send.send_head_and(&head, Bytes::new(), false).await.map_err(caller)?;
                send.send_trailers(&to_trailers(frame)).await.map_err(caller)?;
                true
            }
        },
    };
    while !ended {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame.transpose().map_err(broken)?,
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
                send.send_data(data).await.map_err(caller)?;
            }
            Some(Err(frame)) => {
                send.send_trailers(&to_trailers(frame)).await.map_err(caller)?;
                ended = true;
            }
        }
    }
    arrival.shard.local_http.put_back(arrival.offer.address, sender);
    record.on_done();
    Ok(())
}

fn to_trailers(frame: Frame<Bytes>) -> v1::Trailers {
    let headers = frame.into_trailers().unwrap_or_default();
    v1::Trailers { headers: fields::to_wire(&headers, &[]), load: None }
}

/// The first piece of the body if it is here already, so that it travels in one packet with the head. The library reads
/// a body only once it is asked for, on a task of its own: that one gets a turn or two. `None` if it is not here yet.
async fn at_hand(body: &mut Incoming) -> Option<Option<Result<Frame<Bytes>, hyper::Error>>> {
    const TURNS: usize = 2;
    if body.is_end_stream() {
        return Some(None);
    }
    for turn in 0..=TURNS {
        let polled = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(frame) = polled {
            return Some(frame);
        }
        if turn < TURNS {
            tokio::task::yield_now().await;
        }
    }
    None
}
