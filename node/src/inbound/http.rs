//! HTTP/1.1 to a local application.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use starling_proto::head::AnswerHead as HopHead;
use starling_proto::mesh::v1;
use starling_proto::{ErrorCode, Protocol};
use starling_transport::{RecvHalf, SendHalf, StreamError};

use super::local_http::{AnswerHead, Exchange, ExchangeError, LocalError, Piece, RequestHead, Upload};
use super::{Arrival, fail};
use crate::failure::Failure;
use crate::hop_body::{HopBody, HopBodyError, Observer};
use crate::record::Record;
use crate::relay::Counts;

/// An answer larger than this may lie in the stream's buffers for long, since its caller reads slowly. It counts as under
/// way until it has arrived, so that a node that stops does not cut it.
const FLUSHED_WITHOUT_CARE: u64 = 64 * 1024;

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
enum Broken {
    /// The caller can be told in place of an answer.
    Unanswered(Failure),
    /// Its answer had begun.
    Cut(Failure),
}

pub(super) async fn serve(arrival: &Arrival, send: &mut SendHalf, recv: RecvHalf) {
    let mut record = Record::inbound(arrival, Protocol::Http);
    let in_flight = arrival.offer.begin();
    match exchange(arrival, send, recv, &mut record).await {
        Ok(()) if record.bytes_out() > FLUSHED_WITHOUT_CARE => {
            drop((record, in_flight));
            let _ = send.stopped().await;
        }
        Ok(()) => {}
        Err(Broken::Cut(failure)) => {
            send.reset(failure.code);
            record.fail(&failure);
        }
        Err(Broken::Unanswered(failure)) => {
            record.fail(&failure);
            fail(send, failure).await;
        }
    }
}

async fn exchange(arrival: &Arrival, send: &mut SendHalf, recv: RecvHalf, record: &mut Record) -> Result<(), Broken> {
    let upload = to_upload(arrival, recv, record).map_err(Broken::Unanswered)?;
    let begun = arrival.shard.local_http.begin(arrival.offer.address, upload, arrival.head.method == "HEAD").await;
    arrival.offer.on_reached(!matches!(begun, Err(LocalError::Connect { .. })));
    let mut exchange = begun.map_err(|error| Broken::Unanswered(error.into()))?;
    let head = ask(arrival, &mut exchange, send).await.map_err(Broken::Unanswered)?;
    arrival.offer.on_answer(arrival.started.elapsed());
    record.on_status(head.status);
    pass_on(arrival, &head, &mut exchange, send, record).await.map_err(Broken::Cut)?;
    arrival.shard.local_http.put_back(arrival.offer.address, exchange).await;
    Ok(())
}

/// The request as the application gets it.
fn to_upload(arrival: &Arrival, recv: RecvHalf, record: &mut Record) -> Result<Upload, Failure> {
    let head = &arrival.head;
    let traceparent = record.trace_of(&head.traceparent, &arrival.shard).context.text();
    let encoded = RequestHead { head, source: arrival.permit.source(), traceparent: &traceparent }.encode();
    let encoded = encoded.map_err(|error| Failure::new(ErrorCode::HopProtocol, error.to_string()))?;
    let body = (!head.no_body).then(|| {
        let length = head.has_content_length.then_some(head.content_length);
        let counts = Arc::<Counts>::default();
        record.follow(&counts);
        (HopBody::new(recv, length, CountUp(counts)), length)
    });
    Ok(Upload::new(encoded, body))
}

/// Waits for the head of the answer, no longer than the caller does: its node holds the deadline, and stops the stream
/// when it passes.
async fn ask(arrival: &Arrival, exchange: &mut Exchange, send: &SendHalf) -> Result<AnswerHead, Failure> {
    tokio::select! {
        biased;
        head = exchange.head() => head.map_err(|error| broken(arrival, error)),
        _ = send.stopped() => Err(Failure::new(ErrorCode::Cancelled, "the caller went away")),
    }
}

fn broken(arrival: &Arrival, source: ExchangeError) -> Failure {
    LocalError::Exchange { address: arrival.offer.address, source }.into()
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
    let head = HopHead {
        status: head.status.as_u16(),
        headers: head.lines(),
        no_body,
        content_length: head.content_length,
        load: arrival.offer.load(arrival.shard.plane.epoch),
    };
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
