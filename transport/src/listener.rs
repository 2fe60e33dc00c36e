use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, Endpoint, Runtime, ServerConfig, TokioRuntime, VarInt};
use starling_proto::ErrorCode;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::carrier::Wire;
use crate::noise::Watched;
use crate::port::ShardSocket;
use crate::refusal::Refusal;
use crate::tcp::{self, Door, Registry};
use crate::tls::{RefusedPeer, Verdict};
use crate::{Alpn, BindError, Connection, Limits, Port, Tls};

/// Accepts connections of peers on one shard's sockets of a [`Port`], over QUIC and over TCP.
///
/// A peer may open no stream before its certificate is accepted. Handshakes are bounded in number and time, and
/// begin only while [`Self::accept`] is called.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    door: Option<Door>,
    by_tcp: Registry,
    tls: Tls,
    limits: Limits,
    config: ServerConfig,
    handshakes: JoinSet<Option<Incoming>>,
    draining: bool,
}

/// A peer that came in, by what it wants.
#[derive(Debug)]
pub enum Incoming {
    /// It sends requests.
    Data(Connection),
    /// It sends control messages.
    Control(Connection),
}

/// A listener could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen: {0}")]
pub struct ListenerError(#[from] std::io::Error);

/// A peer must finish its handshake within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

impl Listener {
    /// Listens on the current runtime, which all its connections belong to.
    ///
    /// # Errors
    /// If the runtime cannot take the socket.
    pub fn start(socket: ShardSocket, tls: &Tls, limits: &Limits) -> Result<Self, ListenerError> {
        let config = tls.listening(limits);
        let endpoint_config = tls.listening_endpoint(socket.shard);
        let runtime = Arc::new(TokioRuntime);
        let door = socket.tcp.map(Door::open).transpose()?;
        let socket = Watched::new(runtime.wrap_udp_socket(socket.socket)?, Arc::clone(tls.refusals()));
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config, Some(config.clone()), Arc::new(socket), runtime)?;
        let (tls, limits) = (tls.clone(), limits.clone());
        let (by_tcp, handshakes) = (Registry::new(), JoinSet::new());
        Ok(Self { endpoint, door, by_tcp, tls, limits, config, handshakes, draining: false })
    }

    /// Binds a port for one shard and listens on it.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn bind(address: SocketAddr, tls: &Tls, limits: &Limits) -> Result<Self, BindError> {
        let socket = Port::bind(address, 1, limits.carriers)?.into_sockets().remove(0);
        Self::start(socket, tls, limits).map_err(|ListenerError(source)| BindError::Io { address, source })
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("a bound socket has an address")
    }

    /// The next peer with a good certificate; `None` once the listener is closed. Refused ones are counted in
    /// [`Tls::refusals`]. May be dropped and called again.
    pub async fn accept(&mut self) -> Option<Incoming> {
        loop {
            tokio::select! {
                biased;
                Some(finished) = self.handshakes.join_next() => {
                    if let Ok(Some(incoming)) = finished {
                        return Some(incoming);
                    }
                }
                incoming = self.endpoint.accept() => self.begin(incoming?),
                knocked = next(&mut self.door) => self.begin_tcp(knocked),
            }
        }
    }

    /// May nobody come in now?
    fn refuses(&self) -> Option<Refusal> {
        let is_full =
            self.handshakes.len() >= self.limits.handshakes || self.open_connections() >= self.limits.connections;
        if self.draining { Some(Refusal::Draining) } else { is_full.then_some(Refusal::TooMany) }
    }

    /// Whoever may not come in over TCP is let go of without a word, before there is any work for it.
    fn begin_tcp(&mut self, knocked: (TcpStream, SocketAddr)) {
        if let Some(refusal) = self.refuses() {
            return self.tls.refusals().count(refusal);
        }
        let (tls, limits, registry) = (self.tls.clone(), self.limits.clone(), self.by_tcp.clone());
        self.handshakes.spawn(async move {
            let admitting = tcp::admit(knocked, &tls, &limits, &registry);
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, admitting).await.unwrap_or(Err(Refusal::Timeout)) {
                Ok((line, peer, alpn)) => Some(Incoming::new(Connection::new(Wire::Tcp(line), peer, alpn, &tls, None))),
                Err(refusal) => {
                    tls.refusals().count(refusal);
                    None
                }
            }
        });
    }

    fn begin(&mut self, incoming: quinn::Incoming) {
        if let Some(refusal) = self.refuses() {
            self.tls.refusals().count(refusal);
            return incoming.refuse();
        }
        let busy = self.handshakes.len();
        if busy >= self.limits.handshakes / 2 && incoming.may_retry() {
            // It may come from a forged address: let it show that it hears us before we do any work for it.
            let _ = incoming.retry();
            return;
        }
        let verdict = Verdict::default();
        let mut config = self.config.clone();
        config.crypto = self.tls.server(&verdict);
        match incoming.accept_with(Arc::new(config)) {
            Ok(connecting) => {
                let (tls, limits) = (self.tls.clone(), self.limits.clone());
                self.handshakes.spawn(async move {
                    let outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await;
                    match admit(outcome.ok(), &verdict, &tls, &limits) {
                        Ok(incoming) => Some(incoming),
                        Err(refusal) => {
                            tls.refusals().count(refusal);
                            None
                        }
                    }
                });
            }
            Err(error) => self.tls.refusals().count(failed(&error)),
        }
    }

    /// Refuses new connections from now on; those that are open go on. [`Self::accept`] must still be called.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Closes the listener and all its connections at once.
    pub fn close(&self, code: ErrorCode, reason: &str) {
        self.endpoint.close(VarInt::from_u32(code.number()), reason.as_bytes());
        self.by_tcp.close(code.number(), reason);
    }

    /// Connections that are open, or not yet forgotten.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections() + self.by_tcp.len()
    }

    /// Waits until closed connections have told their peers.
    pub async fn wait_idle(&self) {
        tokio::join!(self.endpoint.wait_idle(), self.by_tcp.wait_idle());
    }
}

/// The next who knocks; never, where there is no door.
async fn next(door: &mut Option<Door>) -> (TcpStream, SocketAddr) {
    match door {
        Some(door) => door.accept().await,
        None => std::future::pending().await,
    }
}

impl Incoming {
    fn new(connection: Connection) -> Self {
        match connection.alpn() {
            Alpn::Data => Self::Data(connection),
            Alpn::Control => Self::Control(connection),
        }
    }
}

/// What becomes of a handshake; `None`: it took too long.
fn admit(
    outcome: Option<Result<quinn::Connection, ConnectionError>>,
    verdict: &Verdict,
    tls: &Tls,
    limits: &Limits,
) -> Result<Incoming, Refusal> {
    let found = verdict.take();
    match (outcome, found) {
        (Some(Ok(quic)), Some(Ok(peer))) => {
            let data = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
            let alpn = data.and_then(|data| Alpn::from_bytes(data.protocol.as_deref()?)).ok_or(Refusal::NoProtocol)?;
            let (both, one) = limits.remote_streams(alpn, true);
            quic.set_max_concurrent_uni_streams(one);
            quic.set_max_concurrent_bi_streams(both);
            Ok(Incoming::new(Connection::new(Wire::Quic(quic), peer, alpn, tls, None)))
        }
        (_, Some(Err(RefusedPeer::Certificate(refused)))) => Err(refused.reason),
        (_, Some(Err(RefusedPeer::Name { .. }))) => Err(Refusal::WrongPeer),
        (None, _) => Err(Refusal::Timeout),
        (Some(Err(error)), _) => Err(failed(&error)),
        (Some(Ok(_)), None) => Err(Refusal::NoCertificate),
    }
}

fn failed(error: &ConnectionError) -> Refusal {
    match error {
        ConnectionError::TransportError(error) => by_alert(error.code.into()),
        ConnectionError::TimedOut => Refusal::Timeout,
        _ => Refusal::Aborted,
    }
}

/// Our own TLS alert tells what the peer lacked (RFC 8446, section 6; RFC 9001, section 4.8).
fn by_alert(code: u64) -> Refusal {
    const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
    const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
    match code {
        CERTIFICATE_REQUIRED => Refusal::NoCertificate,
        NO_APPLICATION_PROTOCOL => Refusal::NoProtocol,
        _ => Refusal::Aborted,
    }
}
