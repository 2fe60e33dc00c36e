//! One HTTP request of a local application: tried until it is answered, or until trying makes no sense.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use starling_proto::ErrorCode;
use starling_routing::{Cluster, Deadline, Outcome, RetryPolicy, Tries, Verdict, is_idempotent, parse_timeout};

use super::activity::Serving;
use super::answer_body::{AnswerBody, Download};
use super::asked::Asked;
use super::attempt::Answered;
use super::upload::Upload;
use super::{Caller, Destination};
use crate::answer;
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
    pub(super) upload: Option<Upload<Incoming>>,
    pub(super) idempotent: bool,
    pub(super) deadline: Deadline,
    pub(super) tries: Tries,
    pub(super) record: Record,
    pub(super) serving: Serving,
}

/// Answers a request for `to`.
pub(super) async fn answer(
    shard: &Shard,
    caller: &Caller,
    to: &Destination,
    request: Request<Incoming>,
    serving: Serving,
) -> Response<AnswerBody> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut record = Record::outbound(shard, &to.service, &parts, caller, started);
    let service = &to.service;
    let Some(cluster) = shard.plane.clusters.load().cluster(service).cloned() else {
        let failure = Failure::new(ErrorCode::NoSuchService, format!("nobody in the mesh offers {service}"));
        return refuse(record, to, &failure);
    };
    cluster.budget().on_request(started);
    let (deadline, tries) = match wishes(&parts, started, shard.plane.timeout()) {
        Ok(wishes) => wishes,
        Err(detail) => return refuse(record, to, &Failure::new(ErrorCode::BadRequest, detail)),
    };
    let hop = record.trace(&parts.headers, shard);
    let upload = (!body.is_end_stream()).then(|| Upload::new(body));
    if let Some(upload) = &upload {
        record.follow_upload(upload);
    }
    let asked = Asked::new(shard, caller, to, &parts, hop, upload.is_none());
    // The library lets heads of up to twice its own limit through.
    if asked.size() > fields::MAX_FIELDS {
        let detail = format!("a request's head may have {} bytes", fields::MAX_FIELDS);
        return refuse(record, to, &Failure::new(ErrorCode::HeaderTooLarge, detail));
    }
    let idempotent = is_idempotent(parts.method.as_str());
    let mut call = Call { shard, cluster, asked, upload, idempotent, deadline, tries, record, serving };
    match call.run().await {
        Ok(answered) => call.pass_on(to, answered),
        Err(failure) => refuse(call.record, to, &failure),
    }
}

/// What the caller asks for in header fields of ours: a deadline, a number of retries.
fn wishes(parts: &Parts, now: Instant, timeout: std::time::Duration) -> Result<(Deadline, Tries), String> {
    let mut deadline = Deadline::default_within(timeout, now);
    if let Some(value) = parts.headers.get(fields::STARLING_TIMEOUT) {
        let wish = parse_timeout(value.as_bytes()).map_err(|error| format!("starling-timeout: {error}"))?;
        deadline = Deadline::declared(wish, now);
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

    fn pass_on(mut self, to: &Destination, answered: Answered) -> Response<AnswerBody> {
        let Answered { head, recv, mut pick, outstanding } = answered;
        let now = Instant::now();
        let status = u16::try_from(head.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let headers = fields::from_wire(head.headers, 1);
        let (Some(status), Ok(mut headers)) = (status, headers) else {
            pick.on_outcome(Outcome::Failed, now);
            return refuse(self.record, to, &Failure::new(ErrorCode::HopProtocol, "the far node's answer is not HTTP"));
        };
        pick.on_outcome(Outcome::of_status(status.as_u16()), now);
        self.record.on_status(status);
        if head.has_content_length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(head.content_length));
        }
        // What an application repeats of an answer that it got is not the mesh's word on this one.
        headers.remove(fields::STARLING_ERROR);
        let download = Download { pick, record: self.record, _outstanding: outstanding, _serving: self.serving };
        let body = if head.no_body {
            HopBody::empty(download)
        } else {
            HopBody::new(recv, head.has_content_length.then_some(head.content_length), download)
        };
        let body = if self.deadline.is_declared() {
            AnswerBody::Timed(body, Box::pin(tokio::time::sleep_until(self.deadline.at().into())))
        } else {
            AnswerBody::Hop(body)
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// The mesh's own answer, recorded.
pub(super) fn refuse(mut record: Record, to: &Destination, failure: &Failure) -> Response<AnswerBody> {
    record.fail(failure);
    own(answer::to_error(failure, &to.service.to_string()))
}

pub(super) fn own(response: Response<Bytes>) -> Response<AnswerBody> {
    response.map(|bytes| AnswerBody::Own(Some(bytes)))
}
