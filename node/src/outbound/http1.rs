//! HTTP/1.1 from local programs, as a server (RFC 9112). It is written for what a proxy owes both sides: what could be read
//! in two ways is refused and counted, interim answers and trailers pass, a client that ends its own direction still gets
//! its answer, and each failure is told in the mesh's own words (decision 21).

mod date;
mod inlet;
mod outlet;
pub(crate) mod request;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, Version, header};
use tokio::time::{Instant, Interval};

use self::inlet::{Inlet, NoHead};
use self::outlet::{Asked, Outlet, Unsent};
use self::request::Head;
use super::answer_body::AnswerBody;
use super::asked::SwitchTo;
use super::caller_body::CallerBody;
use super::interim::Interims;
use super::requests::{self, Answer};
use super::tcp::Tunnel;
use super::{Caller, Way, call, http2};
use crate::answer::Tongue;
use crate::failure::Failure;
use crate::fields;
use crate::rejected::Rejected;
use crate::shard::Shard;
use crate::wire::Wire;

pub(super) use inlet::Inlet as Http1Inlet;
pub(crate) use inlet::RequestBody;

/// What a client that was refused may still send before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// One connection.
struct Connection {
    shard: Arc<Shard>,
    caller: Caller,
    way: Way,
    wire: Arc<Wire>,
    inlet: Inlet,
}

/// What becomes of a connection after a request.
enum Next {
    /// Another request.
    Request,
    /// It is closed once the client has heard all.
    Close,
    /// It is gone.
    Over,
    /// It carries bytes of another protocol.
    Tunnel(Box<Tunnel>),
    /// It carries HTTP/2: from its beginning, or from this request on.
    Http2(Option<http2::Upgrade>),
}

/// Serves one connection until it ends; on drain, until its current request is answered. `early` was read of it before.
pub(super) async fn serve(shard: Arc<Shard>, wire: Wire, early: Bytes, way: Way, caller: Caller) {
    let _holding = shard.plane.drain.hold();
    let wire = Arc::new(wire);
    let end_is_gone = matches!(way, Way::Ingress(_));
    let inlet = Inlet::new(Arc::clone(&wire), early, end_is_gone);
    let connection = Connection { shard, caller, way, wire, inlet };
    let interims = Interims::wanted();
    let period = connection.shard.plane.limits.header_timeout;
    let mut looks = tokio::time::interval_at(Instant::now() + period, period);
    loop {
        let next = match connection.head(&mut looks).await {
            Ok(Some(head)) => connection.answer(head, &interims).await,
            Ok(None) | Err(NoHead::Gone) => Next::Over,
            Err(NoHead::Http2) => Next::Http2(None),
            Err(NoHead::Rejected(why)) => connection.reject(why).await,
        };
        match next {
            Next::Request => {}
            Next::Close => return connection.close().await,
            Next::Over => return connection.inlet.cut(),
            Next::Tunnel(tunnel) => {
                if let Some((wire, early)) = connection.into_wire() {
                    tunnel.carry(wire, early).await;
                }
                return;
            }
            Next::Http2(upgrade) => return Box::pin(connection.go_on_as_http2(upgrade)).await,
        }
    }
}

impl Connection {
    /// The next request; `None` if none follows. A timer for each head would cost more than all else that a head does: a
    /// connection is looked at now and then, so that a limit holds for once to twice its time.
    async fn head(&self, looks: &mut Interval) -> Result<Option<Head>, NoHead> {
        let mut drain = self.shard.plane.drain.clone();
        let limits = &self.shard.plane.limits;
        let (mut idle, mut slow) = (Duration::ZERO, false);
        loop {
            tokio::select! {
                biased;
                head = self.inlet.head(limits) => return head.map(Some),
                () = drain.started(), if !self.inlet.has_begun() => return Ok(None),
                _ = looks.tick() => {
                    if self.inlet.has_begun() {
                        if std::mem::replace(&mut slow, true) {
                            return Err(NoHead::Rejected(Rejected::SlowHead));
                        }
                    } else {
                        idle += looks.period();
                        // Where others wait for a place, those that only might be used again make room.
                        if idle > limits.idle_timeout || self.shard.places.available_permits() == 0 {
                            return Ok(None);
                        }
                    }
                }
            }
        }
    }

    async fn answer(&self, head: Head, interims: &Interims) -> Next {
        let Head { mut parts, keeps_alive, .. } = head;
        let draining = self.shard.plane.drain.is_started();
        let asked = Asked {
            is_head: parts.method == Method::HEAD,
            version: parts.version,
            keeps_alive: keeps_alive && !draining,
        };
        let plane = &self.shard.plane;
        let body = self.inlet.body(plane.limits.body_timeout, &plane.telemetry);
        if body.is_none()
            && let Some(upgrade) = http2::Upgrade::of(&parts)
        {
            return Next::Http2(Some(upgrade));
        }
        let may_withhold = parts.headers.contains_key(header::EXPECT);
        let switches = switch_to(&parts).filter(|_| body.is_none());
        if let Some(protocol) = &switches {
            parts.extensions.insert(protocol.clone());
        }
        let request = Request::from_parts(parts, body.map_or(CallerBody::None, CallerBody::Http1));
        let unwanted = Interims::unwanted();
        let interims = if asked.version == Version::HTTP_11 { interims } else { &unwanted };
        let Some(answer) = self.wait(request, interims).await else { return Next::Over };
        match answer {
            Answer::Whole(answer) => {
                // A body that nobody wants: the client may never send it, or never end it, and what comes instead of it would
                // be taken for a part of it (RFC 9110, section 10.1.1).
                let unwanted = may_withhold || answer.status().as_u16() >= 400;
                let is_wanted = !unwanted || self.inlet.is_body_over();
                self.send(answer, Asked { keeps_alive: asked.keeps_alive && is_wanted, ..asked }, is_wanted).await
            }
            Answer::Tunnel(head, tunnel) => {
                let (parts, ()) = head.into_parts();
                let protocol = switches.map_or_else(Bytes::new, |protocol| protocol.0);
                match self.outlet().send_switch(&parts, &protocol).await {
                    Ok(()) => Next::Tunnel(Box::new(tunnel)),
                    Err(_) => Next::Over,
                }
            }
        }
    }

    /// Waits for the answer, and passes on what comes before it; `None` if the client went away.
    async fn wait(&self, request: Request<CallerBody>, interims: &Interims) -> Option<Answer> {
        let mut answering = Box::pin(requests::answer(&self.shard, &self.caller, &self.way, request, interims));
        // What came too late for the request before is not for this one.
        drop(interims.take());
        loop {
            let answer = tokio::select! {
                biased;
                answer = &mut answering => Some(answer),
                () = interims.came() => None,
                () = self.inlet.gone() => return None,
            };
            // Those that came before the answer go before it.
            for interim in interims.take() {
                self.outlet().send_interim(&interim).await.ok()?;
            }
            if answer.is_some() {
                return answer;
            }
        }
    }

    /// Sends the answer. An early one leaves a rest of the request, which the service still gets if it `is_wanted`.
    async fn send(&self, answer: Response<AnswerBody>, asked: Asked, is_wanted: bool) -> Next {
        match self.outlet().send(answer, asked, &self.inlet).await {
            Ok(true) if self.inlet.finish(self.shard.plane.limits.body_timeout).await => Next::Request,
            Ok(_) => {
                if is_wanted {
                    self.inlet.released().await;
                }
                Next::Close
            }
            Err(Unsent::Gone) => Next::Over,
            Err(unsent) => {
                if matches!(unsent, Unsent::Slow) {
                    self.shard.plane.telemetry.on_rejected(Rejected::SlowReader);
                }
                self.wire.abort();
                Next::Over
            }
        }
    }

    fn outlet(&self) -> Outlet<'_> {
        Outlet::new(&self.wire, self.shard.plane.limits.send_timeout)
    }

    /// Tells a client what is wrong with what it sent.
    async fn reject(&self, why: Rejected) -> Next {
        self.shard.plane.telemetry.on_rejected(why);
        tracing::debug!(reason = why.as_str(), peer = ?self.caller.peer, "a local client sent no valid HTTP/1.1");
        let failure = Failure::new(why.code(), why.detail());
        let answer = call::own(&failure, "", Tongue::Http);
        let asked = Asked { is_head: false, version: Version::HTTP_11, keeps_alive: false };
        match self.outlet().send(answer, asked, &self.inlet).await {
            Ok(_) => Next::Close,
            Err(_) => Next::Over,
        }
    }

    /// Ends a connection so that its last answer arrives.
    async fn close(self) {
        self.inlet.cut();
        self.wire.end();
        let _ = tokio::time::timeout(LINGER, self.inlet.linger()).await;
    }

    /// The connection itself, with what was read of it, once nothing else reads it.
    fn into_wire(self) -> Option<(Wire, Bytes)> {
        let early = self.inlet.take_early();
        drop(self.inlet);
        Some((Arc::into_inner(self.wire)?, early))
    }

    async fn go_on_as_http2(self, upgrade: Option<http2::Upgrade>) {
        let (shard, way, caller) = (Arc::clone(&self.shard), self.way.clone(), self.caller.clone());
        let mut early = None;
        if let Some(upgrade) = upgrade {
            if self.outlet().send_raw(Bytes::from_static(http2::SWITCH)).await.is_err() {
                return;
            }
            let patience = shard.plane.limits.header_timeout;
            match tokio::time::timeout(patience, upgrade.begin(&self.inlet)).await {
                Ok(Ok(first)) => early = Some(first),
                _ => return shard.plane.telemetry.on_rejected(Rejected::Http2),
            }
        }
        let Some((wire, read)) = self.into_wire() else { return };
        http2::serve_wire(shard, wire, early.unwrap_or(read), way, caller).await;
    }
}

/// The protocol that a request asks to switch to (RFC 9110, section 7.8).
fn switch_to(parts: &Parts) -> Option<SwitchTo> {
    let mut upgrades = parts.headers.get_all(header::UPGRADE).iter();
    let (Some(upgrade), None) = (upgrades.next(), upgrades.next()) else { return None };
    let asks = fields::lists(&parts.headers, header::CONNECTION, "upgrade");
    let is_one = !upgrade.is_empty() && !upgrade.as_bytes().contains(&b',');
    let can = asks && is_one && parts.version == Version::HTTP_11 && parts.method != Method::CONNECT;
    (can && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c"))
        .then(|| SwitchTo(upgrade.as_bytes().to_ascii_lowercase().into()))
}
