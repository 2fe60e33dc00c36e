//! Which peers are reached over TCP only: what one dialer of a node finds out serves all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use starling_proto::SpiffeId;
use tokio::sync::watch;

/// Peers that are reached over TCP only, by where they were dialed. Shared by the shards of a node.
#[derive(Debug)]
pub struct Paths(watch::Sender<Arc<ByTcp>>);

/// Who, by where it was dialed.
pub type ByTcp = BTreeMap<SocketAddr, SpiffeId>;

/// Beyond so many, nothing is remembered of another: it is dialed as if UDP might pass.
const MOST: usize = 4_096;

impl Default for Paths {
    fn default() -> Self {
        Self(watch::channel(Arc::default()).0)
    }
}

impl Paths {
    /// Those that are reached over TCP only now, each time that changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ByTcp>> {
        self.0.subscribe()
    }

    /// Those that are reached over TCP only now.
    pub fn by_tcp(&self) -> Arc<ByTcp> {
        Arc::clone(&self.0.borrow())
    }

    pub(crate) fn is_by_tcp(&self, address: SocketAddr) -> bool {
        self.0.borrow().contains_key(&address)
    }

    /// TCP passed where UDP did not in time.
    pub(crate) fn on_tcp(&self, address: SocketAddr, peer: &SpiffeId) {
        self.0.send_if_modified(|known| {
            if known.get(&address) == Some(peer) || known.len() >= MOST {
                return false;
            }
            Arc::make_mut(known).insert(address, peer.clone());
            true
        });
    }

    /// UDP passes.
    pub(crate) fn on_quic(&self, address: SocketAddr) {
        self.0.send_if_modified(|known| {
            // Without a copy for the many who were never among them.
            known.contains_key(&address) && Arc::make_mut(known).remove(&address).is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn peer() -> SpiffeId {
        "spiffe://demo.example/node/n1".parse().unwrap()
    }

    #[test]
    fn a_peer_is_by_tcp_from_when_udp_was_late_until_it_passes() {
        let paths = Paths::default();
        let mut news = paths.subscribe();
        paths.on_quic(address(1));
        assert!(!news.has_changed().unwrap(), "that UDP passes is no news");
        paths.on_tcp(address(1), &peer());
        assert!(paths.is_by_tcp(address(1)) && !paths.is_by_tcp(address(2)));
        assert_eq!(**news.borrow_and_update(), ByTcp::from([(address(1), peer())]));
        paths.on_tcp(address(1), &peer());
        assert!(!news.has_changed().unwrap(), "it was known");
        paths.on_quic(address(1));
        assert!(news.borrow_and_update().is_empty());
    }

    #[test]
    fn peers_without_end_do_not_fill_the_memory() {
        let paths = Paths::default();
        (0..=u16::MAX).for_each(|port| paths.on_tcp(address(port), &peer()));
        assert_eq!(paths.by_tcp().len(), MOST);
    }
}
