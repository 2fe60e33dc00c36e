//! What is noted of one request while it runs. When it is over, metrics, access log and trace are made from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use starling_proto::{Endpoint, ErrorCode, Protocol, ServiceName};

use crate::answer::Tongue;
use crate::failure::Failure;
use crate::inbound::Arrival;
use crate::outbound::{Caller, CallerBody, Upload};
use crate::relay::Counts;
use crate::shard::Shard;
use crate::telemetry::{Direction, Hop, OpenConnection, OpenFlow, Peer, RequestRecord, Telemetry};

/// A request that is not over yet. Dropped, it is over: as it was marked, or cut by whoever waited for it.
///
/// It is handed from hand to hand, and therefore small.
pub(crate) struct Record(Box<Running>);

enum Open {
    Connection(OpenConnection),
    Flow(#[allow(dead_code, reason = "it works by being dropped")] OpenFlow),
}

struct Running {
    telemetry: Arc<Telemetry>,
    started: Instant,
    ended: Option<Instant>,
    counts: Option<Arc<Counts>>,
    switched: bool,
    forgotten: bool,
    upload: Option<Upload<CallerBody>>,
    open: Option<Open>,
    inner: RequestRecord,
}

impl Record {
    /// A request of a local application.
    pub(crate) fn outbound(shard: &Shard, to: &ServiceName, parts: &Parts, caller: &Caller, started: Instant) -> Self {
        let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let inner = RequestRecord {
            method: Some(parts.method.clone()),
            target: Bytes::copy_from_slice(target.as_bytes()),
            peer: caller.peer.map_or(Peer::Unknown, Peer::Local),
            ..blank(Direction::Outbound, spoken(parts), caller.source.clone(), to.clone())
        };
        Self::new(&shard.plane.telemetry, inner, None, started)
    }

    /// A TCP connection, or a flow of datagrams, of a local application.
    pub(crate) fn outbound_opaque(
        shard: &Shard,
        to: &ServiceName,
        caller: &Caller,
        protocol: Protocol,
        started: Instant,
    ) -> Self {
        let source = caller.source.clone();
        let open = open(&shard.plane.telemetry, Direction::Outbound, protocol, source.as_ref(), to);
        let peer = caller.peer.map_or(Peer::Unknown, Peer::Local);
        let inner = RequestRecord { peer, ..blank(Direction::Outbound, protocol, source, to.clone()) };
        Self::new(&shard.plane.telemetry, inner, open, started)
    }

    /// A request, or a TCP connection, that another node sent.
    pub(crate) fn inbound(arrival: &Arrival) -> Self {
        let protocol = arrival.spoken();
        let head = &arrival.head;
        let telemetry = &arrival.shard.plane.telemetry;
        let source = arrival.permit.source().cloned();
        let to = &arrival.offer.service;
        let open = open(telemetry, Direction::Inbound, protocol, source.as_ref(), to);
        let own = Some(arrival.shard.plane.identity.spiffe().clone());
        let inner = RequestRecord {
            method: protocol.is_http().then(|| Method::from_bytes(&head.method).unwrap_or_default()),
            target: head.target.clone(),
            peer: Peer::Node(arrival.peer.spiffe.clone()),
            endpoint: own,
            attempts: 1,
            ..blank(Direction::Inbound, protocol, source, to.clone())
        };
        Self::new(telemetry, inner, open, arrival.started)
    }

    fn new(telemetry: &Arc<Telemetry>, inner: RequestRecord, open: Option<Open>, started: Instant) -> Self {
        let telemetry = Arc::clone(telemetry);
        Self(Box::new(Running {
            telemetry,
            started,
            ended: None,
            counts: None,
            switched: false,
            forgotten: false,
            upload: None,
            open,
            inner,
        }))
    }

    /// Finds the request's place in its trace, or begins one; the next hop is told its context.
    pub(crate) fn trace(&mut self, headers: &HeaderMap, shard: &Shard) -> Hop {
        let hop = Hop::of_headers(headers, self.0.telemetry.sampler(), &mut *shard.rng());
        self.0.inner.trace = Some(hop);
        hop
    }

    /// The same for a request that another node sent.
    pub(crate) fn trace_of(&mut self, traceparent: &[u8], shard: &Shard) -> Hop {
        let incoming = (!traceparent.is_empty()).then_some(traceparent);
        let hop = Hop::of_request(incoming, self.0.telemetry.sampler(), &mut *shard.rng());
        self.0.inner.trace = Some(hop);
        hop
    }

    /// It is sent to this endpoint.
    pub(crate) fn on_try(&mut self, endpoint: &Endpoint) {
        let inner = &mut self.0.inner;
        inner.attempts += 1;
        inner.endpoint = Some(endpoint.spiffe.clone());
    }

    /// It was answered with this status.
    pub(crate) fn on_status(&mut self, status: StatusCode) {
        self.0.inner.status = status.as_u16();
    }

    /// So many bytes of the answer's body went to the caller.
    pub(crate) fn on_answered(&mut self, bytes: usize) {
        self.0.inner.bytes_out += bytes as u64;
    }

    /// Bytes of the answer's body that went to the caller so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.0.inner.bytes_out
    }

    /// Its bytes are counted there.
    pub(crate) fn follow(&mut self, counts: &Arc<Counts>) {
        self.0.counts = Some(Arc::clone(counts));
    }

    /// Its body is read there.
    pub(crate) fn follow_upload(&mut self, upload: &Upload<CallerBody>) {
        self.0.upload = Some(upload.clone());
    }

    /// It failed; the first failure counts.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        let inner = &mut self.0.inner;
        if inner.error.is_none() {
            tracing::debug!(service = %inner.dst, %failure, "a request failed");
            inner.error = Some(failure.code);
            if inner.protocol.is_http() && inner.status == 0 {
                inner.status = failure.code.status();
            }
        }
    }

    /// From here on its connection carries another protocol, whose bytes are counted there.
    pub(crate) fn on_switched(&mut self, counts: &Arc<Counts>) {
        self.follow(counts);
        self.0.switched = true;
    }

    /// It came to nothing, and nothing is told of it.
    pub(crate) fn forget(&mut self) {
        self.0.forgotten = true;
    }

    /// All that its connection carried has gone by, or it was broken off. Gives the code of a failure: a caller or an
    /// application that hangs up in the middle is none, but how many protocols end.
    pub(crate) fn on_carried(&mut self, carried: Result<(), impl Into<Failure>>) -> Option<ErrorCode> {
        match carried.map_err(Into::into) {
            Err(failure) if failure.code != ErrorCode::Cancelled => {
                self.fail(&failure);
                Some(failure.code)
            }
            Ok(()) | Err(_) => {
                self.on_done();
                None
            }
        }
    }

    /// It is answered whole.
    pub(crate) fn on_done(&mut self) {
        self.0.ended = Some(Instant::now());
    }
}

/// What counts as open while a record lives.
fn open(
    telemetry: &Arc<Telemetry>,
    direction: Direction,
    protocol: Protocol,
    src: Option<&ServiceName>,
    dst: &ServiceName,
) -> Option<Open> {
    match protocol {
        Protocol::Udp => Some(Open::Flow(telemetry.on_flow())),
        Protocol::Tcp | Protocol::Detect => Some(Open::Connection(telemetry.on_tcp(direction, src, dst))),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => None,
    }
}

/// What a caller speaks.
fn spoken(parts: &Parts) -> Protocol {
    match (Tongue::of(&parts.headers), parts.version) {
        (Tongue::Grpc, _) => Protocol::Grpc,
        (Tongue::Http, Version::HTTP_2) => Protocol::Http2,
        (Tongue::Http, _) => Protocol::Http,
    }
}

fn blank(direction: Direction, protocol: Protocol, src: Option<ServiceName>, dst: ServiceName) -> RequestRecord {
    RequestRecord {
        direction,
        protocol,
        at: SystemTime::now(),
        duration: std::time::Duration::ZERO,
        src,
        dst,
        endpoint: None,
        peer: Peer::Unknown,
        method: None,
        target: Bytes::new(),
        status: 0,
        error: None,
        bytes_in: 0,
        bytes_out: 0,
        attempts: 0,
        trace: None,
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let inner = &mut self.inner;
        inner.duration = self.ended.unwrap_or_else(Instant::now).duration_since(self.started);
        if let Some(upload) = &self.upload {
            inner.bytes_in = upload.bytes_read();
        }
        if let Some(counts) = &self.counts {
            let (sent, received) = (counts.sent.load(Ordering::Relaxed), counts.received.load(Ordering::Relaxed));
            match (inner.protocol, inner.direction) {
                (Protocol::Http | Protocol::Http2 | Protocol::Grpc, _) if !self.switched => inner.bytes_in = received,
                (_, Direction::Outbound) => (inner.bytes_in, inner.bytes_out) = (sent, received),
                (_, Direction::Inbound) => (inner.bytes_in, inner.bytes_out) = (received, sent),
            }
            if let Some(Open::Connection(open)) = &self.open {
                open.on_bytes(sent, received);
            }
        }
        let cut = inner.protocol.is_http() && self.ended.is_none() && inner.error.is_none();
        if cut {
            inner.error = Some(ErrorCode::Cancelled);
            if inner.status == 0 {
                inner.status = ErrorCode::Cancelled.status();
            }
        }
        if !self.forgotten {
            self.telemetry.on_request(inner);
        }
    }
}
