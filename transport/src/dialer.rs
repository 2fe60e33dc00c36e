use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use starling_proto::SpiffeId;

use crate::carrier::{RecvStream, SendStream, Wire};
use crate::connect_error::{ConnectError, DialerError};
use crate::port::bound;
use crate::silence::{Board, Watch};
use crate::tcp::{self, Registry};
use crate::tls::{SERVER_NAME, Verdict};
use crate::{Alpn, Carriers, Connection, Limits, Paths, Tls};

/// Dials peers, from a port of its own: answers to two shards must never share a pair of addresses. One for each shard.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    by_tcp: Registry,
    local: IpAddr,
    tls: Tls,
    limits: Limits,
    watch: Watch,
}

/// QUIC is alone for so long; then TCP is tried beside it. Twice what a handshake takes between near hosts that are busy; a
/// first packet that is lost is sent again later than this, and then TCP may well be first, for some seconds.
const HEAD_START: Duration = Duration::from_millis(200);
/// The same for a peer that UDP did not reach when it was last tried.
const SHORT_HEAD_START: Duration = Duration::from_millis(20);

/// Whom to dial.
#[derive(Debug, Clone, Copy)]
struct Target<'t> {
    address: SocketAddr,
    expected: Option<&'t SpiffeId>,
    alpn: Alpn,
    timeout: Duration,
}

impl Dialer {
    /// Binds a free port of this address on the current runtime, which all its connections belong to.
    ///
    /// # Errors
    /// If the address is not one of this host.
    pub fn bind(local: IpAddr, tls: &Tls, limits: &Limits) -> Result<Self, DialerError> {
        let address = SocketAddr::new(local, 0);
        let start = || {
            let runtime = Arc::new(TokioRuntime);
            Endpoint::new(EndpointConfig::default(), None, bound(address, false)?, runtime)
        };
        let endpoint = start().map_err(|source| DialerError { address, source })?;
        let (by_tcp, tls, limits) = (Registry::new(), tls.clone(), limits.clone());
        Ok(Self { endpoint, by_tcp, local, tls, limits, watch: Watch::start() })
    }

    /// Where it dials from, over QUIC.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("a bound socket has an address")
    }

    /// Makes a connection: over QUIC, or over TCP if that is first. Completes once each side has accepted the other's
    /// certificate, so that a refusal shows here and not in the first request.
    ///
    /// # Errors
    /// If nobody answers within `timeout`, either side refuses the other, or somebody other than `expected` answers.
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<&SpiffeId>,
        alpn: Alpn,
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        let target = Target { address, expected, alpn, timeout };
        match self.limits.carriers {
            Carriers::Both => self.race(target).await,
            Carriers::Quic => self.over_quic(target).await,
            Carriers::Tcp => self.over_tcp(target).await,
        }
    }

    /// Makes a connection over QUIC and nothing else: to take the place of one over TCP.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_quic(
        &self,
        address: SocketAddr,
        expected: Option<&SpiffeId>,
        alpn: Alpn,
        timeout: Duration,
    ) -> Result<Connection, ConnectError> {
        let made = self.over_quic(Target { address, expected, alpn, timeout }).await;
        if made.is_ok() {
            self.tls.paths().on_quic(address);
        }
        made
    }

    /// QUIC first; TCP beside it once it is late. The first that is made is taken, QUIC of two at once.
    async fn race(&self, target: Target<'_>) -> Result<Connection, ConnectError> {
        let Target { address, timeout, .. } = target;
        let paths = self.tls.paths();
        let head_start = if paths.is_by_tcp(address) { SHORT_HEAD_START } else { HEAD_START };
        let mut quic = pin!(self.over_quic(target));
        if head_start < timeout
            && let Ok(made) = tokio::time::timeout(head_start, &mut quic).await
        {
            // Who answers over UDP, be it with a refusal, is not cut off from it.
            return made.inspect(|_| paths.on_quic(address));
        }
        let over_tcp = async {
            if head_start >= timeout {
                return std::future::pending().await;
            }
            self.over_tcp(Target { timeout: timeout.saturating_sub(head_start), ..target }).await
        };
        let mut over_tcp = pin!(over_tcp);
        let mut tcp_failed = None;
        loop {
            tokio::select! {
                biased;
                made = &mut quic => return match (made, tcp_failed) {
                    (Ok(connection), _) => {
                        paths.on_quic(address);
                        Ok(connection)
                    }
                    // What somebody said is more than that somebody else was silent.
                    (Err(ConnectError::Timeout(_)), Some(said @ (ConnectError::Untrusted(_) | ConnectError::WrongPeer { .. }
                        | ConnectError::Refused(_) | ConnectError::Busy))) => Err(said),
                    (Err(error), _) => Err(error),
                },
                made = &mut over_tcp, if tcp_failed.is_none() => match made {
                    Ok(connection) => {
                        paths.on_tcp(address, &connection.peer().spiffe);
                        return Ok(connection.into_stand_in());
                    }
                    Err(error) => tcp_failed = Some(error),
                },
            }
        }
    }

    async fn over_tcp(&self, target: Target<'_>) -> Result<Connection, ConnectError> {
        let Target { address, expected, alpn, timeout } = target;
        let dial = tcp::Dial { local: self.local, address, expected, alpn };
        let dialing = tcp::dial(dial, &self.tls, &self.limits, &self.by_tcp);
        let (line, peer) =
            tokio::time::timeout(timeout, dialing).await.unwrap_or(Err(ConnectError::Timeout(timeout)))?;
        Ok(Connection::new(Wire::Tcp(line), peer, alpn, &self.tls, Some(self.board().clone())))
    }

    async fn over_quic(&self, target: Target<'_>) -> Result<Connection, ConnectError> {
        let Target { address, expected, alpn, timeout } = target;
        let verdict = Verdict::default();
        let config = self.tls.client(alpn, expected, &verdict, &self.limits);
        let connecting = self
            .endpoint
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| ConnectError::at_start(error, address))?;
        let handshake = async {
            let quic = connecting.await?;
            // The peer allows streams only after it has accepted our certificate.
            let (send, recv) = quic.open_bi().await?;
            Ok::<_, quinn::ConnectionError>((quic, (SendStream::Quic(send), RecvStream::Quic(recv))))
        };
        let outcome = tokio::time::timeout(timeout, handshake).await;
        let found = verdict.take();
        match (outcome, found) {
            (Ok(Ok((quic, spare))), Some(Ok(peer))) => {
                let board = Some(self.board().clone());
                Ok(Connection::new(Wire::Quic(quic), peer, alpn, &self.tls, board).with_spare(spare))
            }
            (_, Some(Err(refused))) => Err(ConnectError::refused(refused)),
            (Ok(Ok(_)), None) => Err(ConnectError::Handshake("the peer showed no certificate".to_owned())),
            (Ok(Err(error)), _) => Err(ConnectError::in_handshake(error, timeout)),
            (Err(_), _) => Err(ConnectError::Timeout(timeout)),
        }
    }

    /// Which peers are reached over TCP only, as all dialers of this node found out.
    pub fn paths(&self) -> &Arc<Paths> {
        self.tls.paths()
    }

    /// Where changes of silence are told.
    pub(crate) fn board(&self) -> &Arc<Board> {
        self.watch.board()
    }

    /// Closes all its connections and dials no more.
    pub fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
        self.by_tcp.close(0, "");
    }

    /// Waits until closed connections have told their peers.
    pub async fn wait_idle(&self) {
        tokio::join!(self.endpoint.wait_idle(), self.by_tcp.wait_idle());
    }
}
