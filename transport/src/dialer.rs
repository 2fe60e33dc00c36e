use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, TokioRuntime, VarInt};
use starling_proto::SpiffeId;

use crate::connect_error::{ConnectError, DialerError};
use crate::port::bound;
use crate::silence::{Board, Watch};
use crate::tls::Verdict;
use crate::{Alpn, Connection, Limits, Tls};

/// Dials peers, from a port of its own: answers to two shards must never share a pair of addresses. One for each shard.
#[derive(Debug)]
pub struct Dialer {
    endpoint: Endpoint,
    tls: Tls,
    limits: Limits,
    watch: Watch,
}

/// rustls wants a name even when it is not sent and not checked; peers are checked by their SPIFFE id.
const SERVER_NAME: &str = "node.mesh.invalid";

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
        Ok(Self { endpoint, tls: tls.clone(), limits: limits.clone(), watch: Watch::start() })
    }

    /// Where it dials from.
    ///
    /// # Panics
    /// Never: a bound socket has an address.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("a bound socket has an address")
    }

    /// Makes a connection. Completes once each side has accepted the other's certificate, so that a refusal shows here
    /// and not in the first request.
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
        let verdict = Verdict::default();
        let config = self.tls.client(alpn, expected, &verdict, &self.limits);
        let connecting = self
            .endpoint
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| ConnectError::at_start(error, address))?;
        let handshake = async {
            let quic = connecting.await?;
            // The peer allows streams only after it has accepted our certificate.
            let spare = quic.open_bi().await?;
            Ok::<_, quinn::ConnectionError>((quic, spare))
        };
        let outcome = tokio::time::timeout(timeout, handshake).await;
        let found = verdict.take();
        match (outcome, found) {
            (Ok(Ok((quic, spare))), Some(Ok(peer))) => {
                Ok(Connection::new(quic, peer, alpn, Some(self.watch.board().clone())).with_spare(spare))
            }
            (_, Some(Err(refused))) => Err(ConnectError::refused(refused)),
            (Ok(Ok(_)), None) => Err(ConnectError::Handshake("the peer showed no certificate".to_owned())),
            (Ok(Err(error)), _) => Err(ConnectError::in_handshake(error, timeout)),
            (Err(_), _) => Err(ConnectError::Timeout(timeout)),
        }
    }

    /// Where changes of silence are told.
    pub(crate) fn board(&self) -> &Arc<Board> {
        self.watch.board()
    }

    /// Closes all its connections and dials no more.
    pub fn close(&self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }

    /// Waits until closed connections have told their peers.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}
