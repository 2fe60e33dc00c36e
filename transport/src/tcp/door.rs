use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::line::{Line, Side};
use super::{Registry, prepare};
use crate::certificate::PeerIdentity;
use crate::refusal::Refusal;
use crate::tls::{RefusedPeer, Verdict};
use crate::{Alpn, Limits, Tls};

/// Where peers come in over TCP: one for each shard.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    /// The system could not give us a connection: try again after a pause.
    pause: bool,
}

/// After the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

impl Door {
    pub(crate) fn open(listener: StdListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, pause: false })
    }

    /// The next who knocks. May be dropped and called again.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if self.pause {
                tokio::time::sleep(PAUSE).await;
                self.pause = false;
            }
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(_) => self.pause = true,
            }
        }
    }
}

/// Shakes hands with whoever knocked: who it is and what it wants, or why it may not come in.
pub(crate) async fn admit(
    (stream, remote): (TcpStream, SocketAddr),
    tls: &Tls,
    limits: &Limits,
    registry: &Registry,
) -> Result<(Line, PeerIdentity, Alpn), Refusal> {
    prepare(&stream, limits.idle_timeout).map_err(|_| Refusal::Aborted)?;
    let verdict = Verdict::default();
    let shook = TlsAcceptor::from(tls.tcp_server(&verdict)).accept(stream).await;
    let (stream, peer) = match (shook, verdict.take()) {
        (Ok(stream), Some(Ok(peer))) => (stream, peer),
        (_, Some(Err(RefusedPeer::Certificate(refused)))) => return Err(refused.reason),
        (_, Some(Err(RefusedPeer::Name { .. }))) => return Err(Refusal::WrongPeer),
        (Err(error), _) => return Err(failed(&error)),
        (Ok(_), None) => return Err(Refusal::NoCertificate),
    };
    let alpn = stream.get_ref().1.alpn_protocol().and_then(Alpn::from_bytes).ok_or(Refusal::NoProtocol)?;
    let line = Line::start(stream, remote, Side { alpn, is_dialer: false }, limits, registry);
    Ok((line, peer, alpn))
}

fn failed(error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => Refusal::NoCertificate,
        Some(rustls::Error::NoApplicationProtocol) => Refusal::NoProtocol,
        // No TLS at all.
        Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. }) => Refusal::Noise,
        _ => Refusal::Aborted,
    }
}
