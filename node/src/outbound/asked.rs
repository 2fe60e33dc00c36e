//! What an application asked for, as the far node is told.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Version};
use starling_proto::head::{Head, RequestHead};
use starling_proto::mesh::v1::Protocol;

use super::{Caller, Destination};
use crate::fields::{self, PassedOn};
use crate::shard::Shard;
use crate::telemetry::{Hop, TRACEPARENT, TRACESTATE, TraceContext};

/// A request's head: that of the library, and what the mesh makes of it. Each try writes it anew.
pub(super) struct Asked<'r> {
    source: &'r str,
    to: &'r Destination,
    parts: &'r Parts,
    passed_on: PassedOn<'r>,
    authority: Cow<'r, [u8]>,
    /// Its place in its trace, as the far node is told.
    traceparent: [u8; TraceContext::LEN],
    /// The trace begins here.
    begins_trace: bool,
    no_body: bool,
    takes_interim: bool,
}

/// The protocol that a request asks to switch to, in lower case.
#[derive(Debug, Clone)]
pub(super) struct SwitchTo(pub(super) Bytes);

impl<'r> Asked<'r> {
    /// The head of a request for `to`, at the place `hop` in its trace.
    pub(super) fn new(
        shard: &'r Shard,
        caller: &'r Caller,
        to: &'r Destination,
        parts: &'r Parts,
        hop: Hop,
        no_body: bool,
        takes_interim: bool,
    ) -> Self {
        Self {
            source: caller.source_path(),
            to,
            parts,
            passed_on: PassedOn::of(&parts.headers),
            authority: authority(shard, to, parts),
            traceparent: hop.context.text(),
            begins_trace: hop.started,
            no_body,
            takes_interim,
        }
    }

    /// Has an answer with this status no body, whatever length it tells (RFC 9110, section 8.6)?
    pub(super) fn leaves_out_body(&self, status: StatusCode) -> bool {
        self.parts.method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
    }

    /// Does it ask for another protocol?
    pub(super) fn is_upgrade(&self) -> bool {
        !self.upgrade().is_empty()
    }

    fn upgrade(&self) -> &[u8] {
        self.parts.extensions.get::<SwitchTo>().map_or(&[], |protocol| &protocol.0)
    }

    /// The bytes of its target and fields, as HTTP/1.1 writes them.
    pub(super) fn size(&self) -> usize {
        self.target().len() + fields::size(self.lines())
    }

    /// What one try sends to one instance, with so much time left.
    pub(super) fn head(&self, attempt: u32, instance: u32, deadline_ms: u32) -> impl Head {
        RequestHead {
            protocol: if self.parts.version == Version::HTTP_2 { Protocol::Http2 } else { Protocol::Http },
            source: self.source,
            destination: self.to.service.path(),
            destination_port: self.to.port,
            instance,
            method: self.parts.method.as_str().as_bytes(),
            target: self.target().as_bytes(),
            authority: &self.authority,
            headers: self.lines(),
            deadline_ms,
            attempt,
            traceparent: &self.traceparent,
            no_body: self.no_body,
            content_length: self.content_length(),
            upgrade: self.upgrade(),
            takes_interim: self.takes_interim,
        }
    }

    /// What is said of the body's length. Servers want to hear that a body which they expect is empty (RFC 9110, section 8.6).
    fn content_length(&self) -> Option<u64> {
        let said = fields::content_length(&self.parts.headers);
        let expected = || [Method::POST, Method::PUT, Method::PATCH].contains(&self.parts.method);
        if self.no_body && !self.is_upgrade() { said.map(|_| 0).or_else(|| expected().then_some(0)) } else { said }
    }

    fn target(&self) -> &'r str {
        self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // Who takes no interim answer would wait for 100 (Continue) in vain.
        let is_apart = |name: &HeaderName| {
            is_apart(name) || (self.begins_trace && *name == TRACESTATE) || (!self.takes_interim && *name == EXPECT)
        };
        self.passed_on.lines(is_apart)
    }
}

/// Fields that the hop carries in a place of their own, and those that only the mesh may say.
fn is_apart(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, TRACEPARENT, fields::STARLING_SOURCE].contains(name)
}

/// What the application asked for: the target's own word counts before `Host` (RFC 9112, section 3.2.2). HTTP/1.0 may
/// name nothing; what it reaches is then named by the mesh.
fn authority<'r>(shard: &Shard, to: &Destination, parts: &'r Parts) -> Cow<'r, [u8]> {
    if let Some(authority) = parts.uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        return host.as_bytes().into();
    }
    match parts.headers.get(HOST) {
        Some(host) if !host.is_empty() => host.as_bytes().into(),
        _ => format!("{}.{}", to.service, shard.plane.suffix).into_bytes().into(),
    }
}
