//! The addresses that stand for services, on a host without the redirect: the node listens on them itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use starling_gossip::View;
use starling_proto::Protocol;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::capture::{self, VipListeners};
use crate::plane::Plane;
use crate::shard::VipConnection;

/// How often it is looked whether the redirect was installed or removed, and whether a port has become free.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A pause after "too many open files" and the like.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Which shard gets the next connection.
struct Inlets {
    shards: Vec<mpsc::Sender<VipConnection>>,
    next: AtomicUsize,
}

impl Inlets {
    fn hand_over(&self, connection: VipConnection) {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len().max(1);
        if let Some(inlet) = self.shards.get(shard)
            && let Err(error) = inlet.try_send(connection)
        {
            tracing::warn!(%error, "a connection to a VIP is dropped: its shard is busy");
        }
    }
}

/// Keeps the listeners in line with what the mesh offers. Runs until the mesh side ends.
pub(super) async fn serve(
    plane: Arc<Plane>,
    mut views: watch::Receiver<Arc<View>>,
    shards: Vec<mpsc::Sender<VipConnection>>,
) {
    let inlets = Arc::new(Inlets { shards, next: AtomicUsize::new(0) });
    let mut listeners = VipListeners::new();
    let mut accepting: BTreeMap<SocketAddrV4, AbortHandle> = BTreeMap::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut redirected = capture::redirect_works(plane.vips.range()).await;
    loop {
        let tick = tokio::select! {
            biased;
            _ = ticks.tick() => true,
            changed = views.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        let view = Arc::clone(&views.borrow_and_update());
        if tick {
            redirected = capture::redirect_works(plane.vips.range()).await;
        }
        let wanted = if redirected { BTreeSet::new() } else { wanted(&plane, &view) };
        let changes = listeners.update(&wanted);
        for failure in changes.failed {
            tracing::warn!("{failure}");
        }
        for closed in changes.closed {
            if let Some(task) = accepting.remove(&closed) {
                task.abort();
            }
        }
        for (address, listener) in changes.opened {
            let task = tokio::spawn(accept(listener, address, Arc::clone(&inlets)));
            accepting.insert(address, task.abort_handle());
        }
    }
}

/// The VIP and ports of every service that has an address.
fn wanted(plane: &Plane, view: &View) -> BTreeSet<SocketAddrV4> {
    let mut wanted = BTreeSet::new();
    for (service, endpoints) in &view.services {
        if let Some(vip) = plane.vips.vip_of(service) {
            let of_tcp = endpoints.iter().filter(|endpoint| endpoint.protocol != Protocol::Udp);
            wanted.extend(of_tcp.map(|endpoint| SocketAddrV4::new(vip, endpoint.port)));
        }
    }
    wanted
}

async fn accept(listener: std::net::TcpListener, address: SocketAddrV4, inlets: Arc<Inlets>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, %address, "a VIP cannot be listened on"),
    };
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                inlets.hand_over((stream, address));
            }
            Err(error) => {
                tracing::warn!(%error, %address, "cannot accept a connection");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}
