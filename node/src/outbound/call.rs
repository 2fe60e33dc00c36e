//! One HTTP request of a local application: tried until it is answered, or until trying makes no sense.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_routing::{Cluster, Deadline, Outcome, RetryPolicy, Tries, Verdict, is_idempotent, parse_timeout};

use super::Destination;
use super::answer_body::{AnswerBody, Download};
use super::attempt::Answered;
use super::upload::Upload;
use crate::answer;
use crate::failure::Failure;
use crate::fields;
use crate::hop_body::HopBody;
use crate::record::Record;
use crate::shard::Shard;

/// A request on its way.
pub(super) struct Call {
    pub(super) shard: Arc<Shard>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) head: v1::StreamHeader,
    /// `None`: there is no body.
    pub(super) upload: Option<Upload<Incoming>>,
    pub(super) idempotent: bool,
    pub(super) deadline: Deadline,
    pub(super) tries: Tries,
    pub(super) record: Record,
}

/// Answers a request for `to`.
pub(super) async fn answer(
    shard: &Arc<Shard>,
    to: &Destination,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Response<AnswerBody> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let mut record = Record::outbound(shard, &to.service, &parts, peer, started);
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
    let traceparent = record.trace(&mut parts.headers, shard);
    let upload = (!body.is_end_stream()).then(|| Upload::new(body));
    if let Some(upload) = &upload {
        record.follow_upload(upload);
    }
    let head = stream_header(shard, to, &mut parts, traceparent, upload.is_none());
    // The library lets heads of up to twice its own limit through.
    if head.target.len() + fields::size(&head.headers) > fields::MAX_FIELDS {
        let detail = format!("a request's head may have {} bytes", fields::MAX_FIELDS);
        return refuse(record, to, &Failure::new(ErrorCode::HeaderTooLarge, detail));
    }
    let idempotent = is_idempotent(parts.method.as_str());
    Call { shard: Arc::clone(shard), cluster, head, upload, idempotent, deadline, tries, record }.run(to).await
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

fn stream_header(
    shard: &Shard,
    to: &Destination,
    parts: &mut Parts,
    traceparent: Bytes,
    no_body: bool,
) -> v1::StreamHeader {
    fields::remove_hop_by_hop(&mut parts.headers);
    fields::remove_claims(&mut parts.headers);
    let authority = authority(shard, to, parts);
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let length = if no_body { None } else { fields::content_length(&parts.headers) };
    v1::StreamHeader {
        protocol: v1::Protocol::Http.into(),
        source: shard.plane.source.as_ref().map(|s| s.path().to_owned()).unwrap_or_default(),
        destination: to.service.path().to_owned(),
        destination_port: to.port.into(),
        method: Bytes::copy_from_slice(parts.method.as_str().as_bytes()),
        target: Bytes::copy_from_slice(target.as_bytes()),
        authority,
        headers: fields::to_wire(&parts.headers, &[HOST, CONTENT_LENGTH, fields::TRACEPARENT]),
        traceparent,
        no_body,
        content_length: length.unwrap_or(0),
        has_content_length: length.is_some(),
        ..Default::default()
    }
}

/// What the application asked for: the target's own word counts before `Host` (RFC 9112, section 3.2.2). HTTP/1.0 may
/// name nothing; what it reaches is then named by the mesh.
fn authority(shard: &Shard, to: &Destination, parts: &Parts) -> Bytes {
    if let Some(authority) = parts.uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        return Bytes::copy_from_slice(host.as_bytes());
    }
    match parts.headers.get(HOST) {
        Some(host) if !host.is_empty() => Bytes::copy_from_slice(host.as_bytes()),
        _ => Bytes::from(format!("{}.{}", to.service, shard.plane.suffix)),
    }
}

impl Call {
    async fn run(mut self, to: &Destination) -> Response<AnswerBody> {
        loop {
            let lost = match self.attempt().await {
                Ok(answered) => return self.pass_on(to, answered),
                Err(lost) => lost,
            };
            let after = match (lost.again_after, &lost.endpoint) {
                (Some(after), _) => after,
                (None, Some(endpoint)) => match self.on_failure(endpoint, lost.failure.code) {
                    Verdict::Retry { after, .. } => after,
                    Verdict::GiveUp(_) => return refuse(self.record, to, &lost.failure),
                },
                (None, None) => return refuse(self.record, to, &lost.failure),
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
        let headers = fields::from_wire(head.headers);
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
        let download = Download { pick, record: self.record, _outstanding: outstanding };
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
