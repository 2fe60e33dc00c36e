//! One HTTP request of a local application: tried until it is answered, or until trying makes no sense.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use starling_proto::ErrorCode;
use starling_routing::{
    Cluster, Deadline, Outcome, RetryPolicy, Tries, Verdict, is_idempotent, parse_grpc_timeout, parse_timeout,
};

use super::answer_body::{AnswerBody, Download, outcome};
use super::asked::Asked;
use super::attempt::Answered;
use super::interim::Interims;
use super::requests::Answer;
use super::tcp::Tunnel;
use super::upload::Upload;
use super::{Caller, CallerBody, Destination};
use crate::answer::{self, Tongue};
use crate::failure::Failure;
use crate::fields;
use crate::hop_body::HopBody;
use crate::record::Record;
use crate::shard::Shard;

/// A request on its way.
pub(super) struct Call<'c> {
    pub(super) shard: &'c Shard,
    pub(super) cluster: Arc<Cluster>,
    pub(super) asked: Asked<'c>,
    /// `None`: there is no body.
    pub(super) upload: Option<Upload<CallerBody>>,
    pub(super) idempotent: bool,
    pub(super) deadline: Deadline,
    pub(super) tries: Tries,
    pub(super) record: Record,
    pub(super) interims: &'c Interims,
    tongue: Tongue,
}

/// Answers a request for `to`.
pub(super) async fn answer(
    shard: &Shard,
    caller: &Caller,
    to: &Destination,
    request: Request<CallerBody>,
    interims: &Interims,
) -> Answer {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let tongue = Tongue::of(&parts.headers);
    let mut record = Record::outbound(shard, &to.service, &parts, caller, started);
    let service = &to.service;
    let Some(cluster) = shard.plane.clusters.load().cluster(service).cloned() else {
        let failure = Failure::new(ErrorCode::NoSuchService, format!("nobody in the mesh offers {service}"));
        return Answer::Whole(refuse(record, to, &failure, tongue));
    };
    cluster.budget().on_request(started);
    let (deadline, tries) = match wishes(&parts, started, shard.plane.timeout()) {
        Ok(wishes) => wishes,
        Err(detail) => {
            let failure = Failure::new(ErrorCode::BadRequest, detail);
            return Answer::Whole(refuse(record, to, &failure, tongue));
        }
    };
    let hop = record.trace(&parts.headers, shard);
    let upload = (!body.is_end_stream()).then(|| Upload::new(body));
    if let Some(upload) = &upload {
        record.follow_upload(upload);
    }
    let asked = Asked::new(shard, caller, to, &parts, hop, upload.is_none(), interims.are_wanted());
    if asked.size() > fields::MAX_FIELDS {
        let detail = format!("a request's head may have {} bytes", fields::MAX_FIELDS);
        let failure = Failure::new(ErrorCode::HeaderTooLarge, detail);
        return Answer::Whole(refuse(record, to, &failure, tongue));
    }
    let idempotent = is_idempotent(parts.method.as_str());
    let mut call = Call { shard, cluster, asked, upload, idempotent, deadline, tries, record, interims, tongue };
    match call.run().await {
        Ok(answered) => call.pass_on(to, answered),
        Err(failure) => Answer::Whole(refuse(call.record, to, &failure, tongue)),
    }
}

/// What the caller asks for in header fields of ours: a deadline, a number of retries.
fn wishes(parts: &Parts, now: Instant, timeout: std::time::Duration) -> Result<(Deadline, Tries), String> {
    let mut deadline = Deadline::default_within(timeout, now);
    if let Some(value) = parts.headers.get(fields::STARLING_TIMEOUT) {
        let wish = parse_timeout(value.as_bytes()).map_err(|error| format!("starling-timeout: {error}"))?;
        deadline = Deadline::declared(wish, now);
    }
    if let Some(value) = parts.headers.get("grpc-timeout") {
        let wish =
            parse_grpc_timeout(value.as_bytes()).ok_or("grpc-timeout: write up to 8 digits and one of HMSmun")?;
        deadline = deadline.narrowed(Deadline::declared(wish, now));
    }
    let mut policy = RetryPolicy::default();
    if let Some(value) = parts.headers.get(fields::STARLING_RETRIES) {
        policy = RetryPolicy::parse(value.as_bytes()).ok_or("starling-retries: write one digit")?;
    }
    Ok((deadline, Tries::new(policy)))
}

impl Call<'_> {
    async fn run(&mut self) -> Result<Answered, Failure> {
        loop {
            let lost = match self.attempt().await {
                Ok(answered) => return Ok(answered),
                Err(lost) => lost,
            };
            let after = match (lost.again_after, &lost.endpoint) {
                (Some(after), _) => after,
                (None, Some(endpoint)) => match self.on_failure(endpoint, lost.failure.code) {
                    Verdict::Retry { after, .. } => after,
                    Verdict::GiveUp(_) => return Err(lost.failure),
                },
                (None, None) => return Err(lost.failure),
            };
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
        }
    }

    fn pass_on(mut self, to: &Destination, answered: Answered) -> Answer {
        let Answered { head, recv, send, mut pick, outstanding } = answered;
        let now = Instant::now();
        let status = u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let headers = fields::from_wire(head.headers, 1);
        let (Some(status), Ok(mut headers)) = (status, headers) else {
            pick.on_outcome(Outcome::Failed, now);
            let failure = Failure::new(ErrorCode::HopProtocol, "the far node's answer is not HTTP");
            return Answer::Whole(refuse(self.record, to, &failure, self.tongue));
        };
        let of_fields = headers.get("grpc-status").and_then(|value| outcome(b"grpc-status", value.as_bytes()));
        pick.on_outcome(of_fields.unwrap_or(Outcome::of_status(status.as_u16())), now);
        self.record.on_status(status);
        if head.has_content_length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(head.content_length));
        }
        // What an application repeats of an answer that it got is not the mesh's word on this one.
        headers.remove(fields::STARLING_ERROR);
        if let Some(mut send) = send {
            if status == StatusCode::SWITCHING_PROTOCOLS {
                let mut response = Response::new(());
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                let holding = self.shard.plane.drain.hold();
                return Answer::Tunnel(
                    response,
                    Tunnel { send, recv, spoken: Bytes::new(), pick, record: self.record, holding },
                );
            }
            // It asked for another protocol and got an answer: nothing follows the request.
            let _ = send.finish();
        }
        let download = Download { pick, record: self.record, _outstanding: outstanding };
        let body = if head.no_body {
            HopBody::empty(download)
        } else {
            // Its end may come behind its head, as a frame of its own.
            let leaves_out = self.asked.leaves_out_body(status).then_some(0);
            let declared = || head.has_content_length.then_some(head.content_length);
            HopBody::new(recv, leaves_out.or_else(declared), download)
        };
        let body = if self.deadline.is_declared() {
            AnswerBody::Timed(body, Box::pin(tokio::time::sleep_until(self.deadline.at().into())))
        } else {
            AnswerBody::Hop(body)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Answer::Whole(response)
    }
}

/// The mesh's own answer, recorded.
pub(super) fn refuse(mut record: Record, to: &Destination, failure: &Failure, tongue: Tongue) -> Response<AnswerBody> {
    record.fail(failure);
    own(failure, &to.service.to_string(), tongue)
}

/// The mesh's own answer.
pub(super) fn own(failure: &Failure, service: &str, tongue: Tongue) -> Response<AnswerBody> {
    answer::to_error(failure, service, tongue).map(|bytes| AnswerBody::Own(Some(bytes)))
}
