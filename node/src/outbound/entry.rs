//! Where connections of local applications come in.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use starling_proto::Protocol;
use tokio::net::{TcpListener, TcpStream};

use super::target::Target;
use super::{Caller, Destination, Door, Inlet, Way, detect, edge, http1, pass, socks5, tcp};
use crate::capture;
use crate::shard::Shard;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// A pause after "too many open files" and the like, so that it never becomes a busy loop.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Binds a TCP address that several shards listen on, each with a socket of its own.
///
/// # Errors
/// As the system says.
pub(crate) fn bind_shared(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the node drains, while the shard has places; `take` gets each connection.
pub(crate) async fn accept<F>(
    shard: Arc<Shard>,
    listener: std::net::TcpListener,
    take: impl Fn(Arc<Shard>, TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a listener cannot be used"),
    };
    let mut drain = shard.plane.drain.clone();
    loop {
        let accepting = async {
            let (stream, _) = listener.accept().await?;
            // While there is none the rest waits in the backlog.
            let place = Arc::clone(&shard.places).acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((stream, place))
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = drain.started() => return,
        };
        match accepted {
            Ok((stream, place)) => {
                let _ = stream.set_nodelay(true);
                let serving = take(Arc::clone(&shard), stream);
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Serves a connection that came in there.
pub(crate) async fn serve(shard: Arc<Shard>, stream: TcpStream, inlet: Inlet) {
    match &inlet.door {
        Door::Way(way) => {
            let caller = Caller::of(&shard, &stream, &inlet);
            serve_way(shard, stream, way.clone(), caller).await;
        }
        Door::Socks => {
            let caller = Caller::of(&shard, &stream, &inlet);
            socks5::serve(shard, stream, &inlet, caller).await;
        }
        Door::Captured => match capture::original_destination(&stream) {
            Ok(destination) => serve_address(shard, stream, destination, &inlet).await,
            Err(error) => tracing::debug!(%error, "a connection to the capture port was not redirected"),
        },
    }
}

/// Serves a connection of `caller` that goes by `way`.
pub(super) async fn serve_way(shard: Arc<Shard>, stream: TcpStream, way: Way, caller: Caller) {
    match &way {
        Way::To { destination, protocol } => match protocol.unwrap_or_else(|| spoken(&shard, destination)) {
            Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
                http1::serve(shard, stream.into(), Bytes::new(), way, caller).await;
            }
            Protocol::Detect => detect::serve(Arc::clone(&shard), stream, destination.clone(), caller).await,
            Protocol::Tcp | Protocol::Udp => {
                let destination = destination.clone();
                tcp::serve(shard, stream.into(), Bytes::new(), destination, caller).await;
            }
        },
        Way::Proxy => http1::serve(shard, stream.into(), Bytes::new(), way, caller).await,
        Way::Ingress(visit) => {
            let ingress = Arc::clone(&visit.ingress);
            edge::serve(shard, stream, ingress, caller).await;
        }
    }
}

/// Serves a connection to a VIP.
pub(crate) async fn serve_vip(shard: Arc<Shard>, stream: TcpStream, vip: SocketAddrV4) {
    serve_address(shard, stream, vip.into(), &Inlet::new(Door::Captured)).await;
}

/// Serves a connection that was going to this address.
async fn serve_address(shard: Arc<Shard>, stream: TcpStream, to: SocketAddr, inlet: &Inlet) {
    match Target::of(&shard, to) {
        Target::Service(destination) => {
            let caller = Caller::of(&shard, &stream, inlet);
            serve_way(shard, stream, Way::To { destination, protocol: None }, caller).await;
        }
        Target::Probe => drop(capture::answer_probe(stream).await),
        Target::Nobody => {}
        Target::Beyond(address) => pass::serve(&shard, stream, address, inlet.netns.as_ref()).await,
    }
}

/// What a service says it speaks. Of one that nobody offers it is not known: HTTP can at least say so.
pub(super) fn spoken(shard: &Shard, to: &Destination) -> Protocol {
    let clusters = shard.plane.clusters.load();
    let entries = clusters.cluster(&to.service).map_or(&[][..], |cluster| cluster.entries());
    entries.first().map_or(Protocol::Http, |entry| entry.endpoint().protocol)
}
