//! Connections that the node opens on behalf of local programs, so that no redirect of its own brings them back to it.
//!
//! They bear a mark that the rules of `starling capture install` let through. Where the node may not set it, its user
//! has to be let through (`--agent-user`); if neither holds, [`is_own`] tells what came back, and it goes no further.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::netns::Netns;

pub(crate) use starling_transport::MARK;

/// How long a host outside of the mesh may take to accept: what Linux gives a connection whose SYN is lost three times.
const PATIENCE: Duration = Duration::from_secs(15);

/// Local ports of connections under way that bear no mark.
static UNMARKED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A connection of the node's own.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) stream: TcpStream,
    _unmarked: Option<Unmarked>,
}

/// A place in [`UNMARKED`].
#[derive(Debug)]
struct Unmarked(u16);

impl Drop for Unmarked {
    fn drop(&mut self) {
        UNMARKED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Connects to an address outside of the mesh, out of this namespace or the node's own.
///
/// # Errors
/// As the system says; `TimedOut` after 15 s.
pub(crate) async fn beyond(address: SocketAddr, within: Option<&Arc<Netns>>) -> io::Result<Dialed> {
    let socket = match within {
        Some(netns) => netns.have_run(move || open(address)).await??,
        None => open(address)?,
    };
    let unmarked = if within.is_none() && needs_mark(address) && socket.mark().is_ok_and(|mark| mark != MARK) {
        Some(own_port(&socket, address)?)
    } else {
        None
    };
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    let stream = tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let _ = stream.set_nodelay(true);
    Ok(Dialed { stream, _unmarked: unmarked })
}

/// Connects to what the node itself needs: an application of its services, a resolver, a collector.
///
/// # Errors
/// As the system says.
pub(crate) async fn own(address: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(open(address)?.into()).connect(address).await
}

/// The same by name: the first of its addresses that accepts.
///
/// # Errors
/// As the system says of the last one.
pub(crate) async fn own_by_name(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host((host, port)).await? {
        match own(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Is this the node's own connection, come back to it by a redirect that does not let it through?
pub(crate) fn is_own(peer: SocketAddr) -> bool {
    UNMARKED.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer.port())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if needs_mark(address) {
        // Without privilege there is none.
        let _ = socket.set_mark(MARK);
    }
    Ok(socket)
}

/// Loopback is never captured, but for VIPs, and nobody dials those here.
fn needs_mark(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Takes a port before the first packet leaves, which may come back at once.
fn own_port(socket: &Socket, address: SocketAddr) -> io::Result<Unmarked> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let port = socket.local_addr()?.as_socket().map_or(0, |local| local.port());
    UNMARKED.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    Ok(Unmarked(port))
}
