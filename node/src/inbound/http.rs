//! HTTP to a local application that speaks HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use starling_proto::ErrorCode;
use starling_proto::head::AnswerHead as HopHead;
use starling_proto::mesh::v1;
use starling_transport::{RecvHalf, SendHalf, StreamError};

use super::local_http::{AnswerHead, Asked, Exchange, ExchangeError, LocalError, RequestHead, Upload};
use super::{Arrival, fail};
use crate::failure::Failure;
use crate::hop_body::{HopBody, HopBodyError, Observer};
use crate::http1::Piece;
use crate::record::Record;
use crate::relay::{Counts, relay, wire_ends};

/// An answer larger than this may lie in the stream's buffers for long, since its caller reads slowly. It counts as under
/// way until it has arrived, so that a node that stops does not cut it.
const FLUSHED_WITHOUT_CARE: u64 = 64 * 1024;

/// Interim answers (1xx) to one request, at most. Who tells progress by them tells it now and then.
pub(super) const MOST_INTERIMS: usize = 100;

/// The request's body on its way to the application.
pub(crate) type LocalBody = HopBody<CountUp>;

/// Counts what goes by.
pub(crate) struct CountUp(Arc<Counts>);

impl Observer for CountUp {
    fn on_data(&mut self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn on_end(&mut self, _: Option<v1::Load>) {}

    fn on_failure(&mut self, _: &HopBodyError) {}
}

/// What became of a request that was not served.
pub(super) enum Broken {
    /// The caller can be told in place of an answer.
    Unanswered(Failure),
    /// Its answer had begun.
    Cut(Failure),
}

/// What became of one that was.
enum Served {
    /// Its answer is sent.
    Whole,
    /// Its connection carries another protocol from here on.
    Switched(Box<Exchange>, RecvHalf),
}

pub(super) async fn serve(arrival: &Arrival, mut send: SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(arrival);
    let in_flight = arrival.offer.begin();
    match exchange(arrival, &mut send, recv, &mut record).await {
        Ok(Served::Whole) => {
            drop(in_flight);
            flush(record, &send).await;
        }
        Ok(Served::Switched(exchange, recv)) => Box::pin(switch(exchange, send, recv, record)).await,
        Err(broken) => tell(broken, record, send).await,
    }
}

/// Waits until a large answer has arrived.
pub(super) async fn flush(record: Record, send: &SendHalf) {
    let bytes = record.bytes_out();
    drop(record);
    if bytes > FLUSHED_WITHOUT_CARE {
        let _ = send.stopped().await;
    }
}

/// Tells the caller that its request, or its answer, broke off.
pub(super) async fn tell(broken: Broken, mut record: Record, mut send: SendHalf) {
    match broken {
        Broken::Cut(failure) => {
            send.reset(failure.code);
            record.fail(&failure);
        }
        Broken::Unanswered(failure) => {
            record.fail(&failure);
            fail(&mut send, failure).await;
        }
    }
}

async fn switch(exchange: Box<Exchange>, send: SendHalf, recv: RecvHalf, mut record: Record) {
    let counts = Arc::<Counts>::default();
    record.on_switched(&counts);
    let (wire, early) = exchange.into_switched();
    record.on_carried(relay(wire_ends(wire), early, send, recv, &counts).await);
}

async fn exchange(
    arrival: &Arrival,
    send: &mut SendHalf,
    recv: RecvHalf,
    record: &mut Record,
) -> Result<Served, Broken> {
    let head = &arrival.head;
    let asked = Asked { is_head: head.method == "HEAD", switches: !head.upgrade.is_empty() && head.no_body };
    let encoded = encoded(arrival, record).map_err(Broken::Unanswered)?;
    let (body, recv) = if head.no_body { (None, Some(recv)) } else { (Some(body(head, recv, record)), None) };
    let upload = Upload::new(encoded, body);
    let begun = begin(arrival, upload, asked).await;
    arrival.offer.on_reached(!matches!(begun, Err(LocalError::Connect { .. })));
    let mut exchange = begun.map_err(|error| Broken::Unanswered(error.into()))?;
    let head = ask(arrival, &mut exchange, send).await.map_err(Broken::Unanswered)?;
    arrival.offer.on_answer(arrival.started.elapsed());
    record.on_status(head.status);
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(recv) = recv
    {
        let head = hop_head(arrival, &head, false);
        let sent = send.send_head(head).await;
        sent.map_err(|error| Broken::Cut(Failure::new(ErrorCode::Cancelled, error.to_string())))?;
        return Ok(Served::Switched(Box::new(exchange), recv));
    }
    pass_on(arrival, &head, &mut exchange, send, record).await.map_err(Broken::Cut)?;
    arrival.shard.local_http.put_back(&arrival.offer.application, exchange).await;
    Ok(Served::Whole)
}

async fn begin(arrival: &Arrival, upload: Upload, asked: Asked) -> Result<Exchange, LocalError> {
    let Arrival { shard, offer, .. } = arrival;
    shard.local_http.begin(&offer.application, &shard.outside, upload, asked).await
}

/// The head of the request as the application gets it.
fn encoded(arrival: &Arrival, record: &mut Record) -> Result<Bytes, Failure> {
    let head = &arrival.head;
    let traceparent = record.trace_of(&head.traceparent, &arrival.shard).context.text();
    let encoded = RequestHead {
        head,
        source: arrival.permit.source().filter(|_| arrival.offer.application.is_local()),
        authority: arrival.offer.application.authority(),
        traceparent: &traceparent,
    }
    .encode();
    encoded.map_err(|error| Failure::new(ErrorCode::HopProtocol, error.to_string()))
}

/// The body that follows a head, with its declared length.
pub(super) fn body(head: &v1::StreamHeader, recv: RecvHalf, record: &mut Record) -> (LocalBody, Option<u64>) {
    let length = head.has_content_length.then_some(head.content_length);
    let counts = Arc::<Counts>::default();
    record.follow(&counts);
    (HopBody::new(recv, length, CountUp(counts)), length)
}

/// Waits for the head of the answer, no longer than the caller does: its node holds the deadline, and stops the stream
/// when it passes. Interim answers are passed on, to whoever takes them.
async fn ask(arrival: &Arrival, exchange: &mut Exchange, send: &mut SendHalf) -> Result<AnswerHead, Failure> {
    let mut interims = 0;
    loop {
        let head = tokio::select! {
            biased;
            head = exchange.head() => head.map_err(|error| broken(arrival, error))?,
            _ = send.stopped() => return Err(Failure::new(ErrorCode::Cancelled, "the caller went away")),
        };
        if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(head);
        }
        interims += 1;
        if interims > MOST_INTERIMS {
            return Err(too_many_interims(arrival));
        }
        if arrival.head.takes_interim {
            let sent = exchange.run(send.send_head(hop_head(arrival, &head, true))).await;
            sent.map_err(|error| broken(arrival, error))??;
        }
    }
}

/// It would go on for ever.
pub(super) fn too_many_interims(arrival: &Arrival) -> Failure {
    let what = format!("{} sent over {MOST_INTERIMS} interim answers to one request", arrival.offer.application);
    Failure::new(ErrorCode::UpstreamProtocol, what)
}

fn broken(arrival: &Arrival, source: ExchangeError) -> Failure {
    LocalError::Exchange { application: arrival.offer.application.to_string(), source }.into()
}

fn hop_head<'h>(
    arrival: &Arrival,
    head: &'h AnswerHead,
    no_body: bool,
) -> HopHead<impl Iterator<Item = (&'h [u8], &'h [u8])>> {
    HopHead {
        status: head.status.as_u16(),
        headers: head.lines(),
        no_body,
        content_length: head.content_length,
        load: arrival.offer.load(arrival.shard.plane.epoch),
    }
}

/// Sends the answer's head and streams its body.
async fn pass_on(
    arrival: &Arrival,
    head: &AnswerHead,
    exchange: &mut Exchange,
    send: &mut SendHalf,
    record: &mut Record,
) -> Result<(), Failure> {
    let broken = |error| broken(arrival, error);
    let caller = |error: StreamError| Failure::new(ErrorCode::Cancelled, error.to_string());
    // What came with the head travels with it in one packet.
    let mut next = exchange.piece_at_hand().map_err(broken)?;
    let data = match next.take() {
        Some(Piece::Data(data)) => data,
        other => {
            next = other;
            Bytes::new()
        }
    };
    record.on_answered(data.len());
    let no_body = next == Some(Piece::End);
    let mut ended = no_body || (next.is_none() && exchange.is_over());
    let head = hop_head(arrival, head, no_body);
    exchange.run(send.send_head_and(head, data, ended)).await.map_err(broken)?.map_err(caller)?;
    while !ended {
        let piece = if let Some(piece) = next.take() {
            piece
        } else {
            tokio::select! {
                biased;
                piece = exchange.piece() => piece.map_err(broken)?,
                // The application may be silent for long: its next piece is not what tells it that nobody listens.
                gone = send.stopped() => return Err(caller(gone.err().unwrap_or(StreamError::Closed))),
            }
        };
        ended = !matches!(piece, Piece::Data(_));
        let sent = match piece {
            Piece::Data(data) => {
                record.on_answered(data.len());
                exchange.run(send.send_data(data)).await
            }
            Piece::Trailers(trailers) => exchange.run(send.send_trailers(&trailers)).await,
            Piece::End => Ok(send.finish()),
        };
        sent.map_err(broken)?.map_err(caller)?;
    }
    record.on_done();
    Ok(())
}
