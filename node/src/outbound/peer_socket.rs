//! The other end of a local program's connection: who holds it, and whether anybody still does.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use tokio::net::TcpStream;

use crate::capture;
use crate::sock_diag::{self, SocketOwner, Tuple};

/// Who holds the other end of this connection; `None` if it is not on this host, or in another network namespace, or gone.
///
/// # Errors
/// If the system does not tell.
pub(crate) fn owner(stream: &TcpStream) -> io::Result<Option<SocketOwner>> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    if !is_of_this_host(local, peer) {
        return Ok(None);
    }
    sock_diag::owner_of(Tuple::new(peer, dialed(stream, local)))
}

/// After the other end said that it sends no more: has it gone altogether (closed, or its program ended), or does it still
/// wait for what comes back? `None` if that cannot be told: it is not on this host, or in another network namespace.
pub(crate) fn is_gone(stream: &TcpStream) -> Option<bool> {
    // A connection that was reset meanwhile has no other end any more, and is in no table.
    let Ok(peer) = stream.peer_addr() else { return Some(true) };
    let local = stream.local_addr().ok()?;
    if !is_of_this_host(local, peer) {
        return None;
    }
    match sock_diag::owner_of(Tuple::new(peer, dialed(stream, local))).ok()? {
        Some(owner) => Some(owner.orphaned),
        // Where not even this end is found, the connection belongs to another network namespace.
        None => sock_diag::owner_of(Tuple::new(local, peer)).ok()?.map(|_| true),
    }
}

/// Whatever arrives at a loopback address, or from the address that it arrives at, began on this host.
fn is_of_this_host(local: SocketAddr, peer: SocketAddr) -> bool {
    let (local, peer) = (local.ip().to_canonical(), peer.ip().to_canonical());
    local.is_loopback() || peer.is_loopback() || local == peer
}

/// What the other end takes for this one's address: a redirect may stand between them.
fn dialed(stream: &impl AsFd, local: SocketAddr) -> SocketAddr {
    capture::original_destination(stream).unwrap_or(local)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async { listener.accept().await });
        (client.unwrap(), accepted.unwrap().0)
    }

    /// Waits for the other end's last word.
    async fn end(server: &mut TcpStream) {
        let read = tokio::time::timeout(Duration::from_secs(10), server.read(&mut [0])).await.expect("an end in time");
        assert_eq!(read.unwrap(), 0);
    }

    #[tokio::test]
    async fn the_other_end_of_a_local_connection_has_this_user_as_its_owner() {
        for address in ["127.0.0.1:0", "127.7.7.7:0", "[::1]:0"] {
            let (_client, server) = pair(address).await;
            let owner = owner(&server).unwrap().unwrap();
            assert_eq!((owner.uid, owner.orphaned), (nix::unistd::geteuid().as_raw(), false), "{address}");
        }
    }

    #[tokio::test]
    async fn who_reset_the_connection_is_gone() {
        let (client, server) = pair("127.0.0.1:0").await;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        server.readable().await.unwrap();
        assert!(server.try_read(&mut [0]).is_err());
        assert_eq!(is_gone(&server), Some(true));
    }

    #[tokio::test]
    async fn who_only_stopped_sending_is_not_gone() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, mut server) = pair(address).await;
            assert_eq!(is_gone(&server), Some(false));
            client.shutdown().await.unwrap();
            end(&mut server).await;
            assert_eq!(is_gone(&server), Some(false), "{address}: it still waits for the answer");
            drop(client);
            assert_eq!(is_gone(&server), Some(true), "{address}");
        }
    }

    #[tokio::test]
    async fn who_closed_is_gone() {
        let (client, mut server) = pair("127.0.0.1:0").await;
        drop(client);
        end(&mut server).await;
        assert_eq!(is_gone(&server), Some(true));
        assert!(owner(&server).unwrap().is_none_or(|owner| owner.orphaned));
    }

    #[test]
    fn only_what_began_on_this_host_can_be_asked_for() {
        let judge = |local: &str, peer: &str| is_of_this_host(local.parse().unwrap(), peer.parse().unwrap());
        assert!(judge("127.0.0.1:4150", "10.0.0.1:40000"), "captured: it left from the host's own address");
        assert!(judge("[::ffff:127.0.0.1]:80", "127.0.0.1:40000"));
        assert!(judge("10.0.0.1:80", "10.0.0.1:40000"));
        assert!(!judge("10.0.0.1:80", "10.0.0.2:40000"));
    }
}
