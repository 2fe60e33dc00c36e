use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use starling_proto::SpiffeId;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::line::{Line, Side};
use super::{Registry, prepare};
use crate::certificate::PeerIdentity;
use crate::tls::{SERVER_NAME, Verdict};
use crate::{Alpn, ConnectError, Limits, Lost, MARK, Tls};

/// Whom to dial, and from where.
pub(crate) struct Dial<'d> {
    pub(crate) local: IpAddr,
    pub(crate) address: SocketAddr,
    pub(crate) expected: Option<&'d SpiffeId>,
    pub(crate) alpn: Alpn,
}

/// Makes a connection. Completes once each side has accepted the other's certificate. Takes as long as it takes: the caller
/// has the patience.
pub(crate) async fn dial(
    dial: Dial<'_>,
    tls: &Tls,
    limits: &Limits,
    registry: &Registry,
) -> Result<(Line, PeerIdentity), ConnectError> {
    let Dial { local, address, expected, alpn } = dial;
    let stream = connect(local, address, limits)
        .await
        .map_err(|error| ConnectError::Address { address, reason: format!("TCP: {error}") })?;
    let verdict = Verdict::default();
    let connector = TlsConnector::from(tls.tcp_client(alpn, expected, &verdict));
    let name = ServerName::try_from(SERVER_NAME).expect("a constant that is a name");
    let began = Instant::now();
    let shook = connector.connect(name, stream).await;
    let took = began.elapsed();
    let peer = match (shook, verdict.take()) {
        (_, Some(Err(refused))) => return Err(ConnectError::refused(refused)),
        (Ok(stream), Some(Ok(peer))) if stream.get_ref().1.alpn_protocol() == Some(&alpn.bytes()) => (stream, peer),
        (Ok(_), Some(Ok(_))) => return Err(ConnectError::Handshake("the peer speaks another protocol".to_owned())),
        (Ok(_), None) => return Err(ConnectError::Handshake("the peer showed no certificate".to_owned())),
        (Err(error), found) => return Err(failed(&error, found.is_some())),
    };
    let (stream, peer) = peer;
    let line = Line::start(stream, address, Side { alpn, is_dialer: true }, limits, registry);
    line.on_rtt(took);
    match line.ready().await {
        Ok(()) => Ok((line, peer)),
        Err(Lost::Protocol(words)) => Err(ConnectError::Refused(words)),
        Err(Lost::Here) => Err(ConnectError::Closed),
        Err(lost) => Err(ConnectError::Refused(lost.to_string())),
    }
}

async fn connect(local: IpAddr, address: SocketAddr, limits: &Limits) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Best effort: without privilege there is none.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&socket).set_mark(MARK);
    if !local.is_unspecified() {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    let stream = socket.connect(address).await?;
    prepare(&stream, limits.idle_timeout)?;
    Ok(stream)
}

/// `answered`: the peer showed its certificate before.
fn failed(error: &io::Error, answered: bool) -> ConnectError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (inner, error.kind()) {
        (Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)), _) => {
            ConnectError::Refused("the peer speaks none of our protocols".to_owned())
        }
        (Some(rustls::Error::AlertReceived(alert)), _) => ConnectError::Refused(format!("{alert:?}")),
        // It let go of us before it said a word.
        (_, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) if !answered => {
            ConnectError::Busy
        }
        _ => ConnectError::Handshake(error.to_string()),
    }
}
