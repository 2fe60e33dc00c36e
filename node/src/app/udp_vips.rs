//! Services of datagrams at their addresses. A redirect would hide what a datagram was sent to, so the node binds each of
//! them itself, whether the redirect is installed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use starling_gossip::View;
use starling_proto::Protocol;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::outbound::Destination;
use crate::plane::Plane;
use crate::shard::UdpInlet;

/// How often a port that is taken is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Each takes a descriptor.
const MOST: usize = 512;

/// Keeps the sockets in line with what the mesh offers. Runs until the mesh side ends.
pub(super) async fn serve(
    plane: Arc<Plane>,
    mut views: watch::Receiver<Arc<View>>,
    shards: Vec<mpsc::Sender<UdpInlet>>,
) {
    let mut open: BTreeMap<SocketAddrV4, CancellationToken> = BTreeMap::new();
    let mut failed: BTreeSet<SocketAddrV4> = BTreeSet::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            changed = views.changed() => if changed.is_err() { return },
        }
        let view = Arc::clone(&views.borrow_and_update());
        let wanted = wanted(&plane, &view);
        open.retain(|address, stop| {
            let stays = wanted.contains_key(address);
            if !stays {
                stop.cancel();
            }
            stays
        });
        failed.retain(|address| wanted.contains_key(address));
        for (address, destination) in wanted {
            if open.contains_key(&address) || open.len() >= MOST {
                continue;
            }
            match bind(address) {
                Ok(socket) => {
                    failed.remove(&address);
                    let stop = CancellationToken::new();
                    // All flows to one address stay on one shard, which knows them.
                    let shard = usize::from(address.ip().octets()[3]) % shards.len().max(1);
                    let inlet = UdpInlet { socket, destination, source: None, stop: stop.clone() };
                    if shards.get(shard).is_some_and(|shard| shard.try_send(inlet).is_ok()) {
                        open.insert(address, stop);
                    }
                }
                Err(error) if failed.insert(address) => {
                    tracing::warn!(%address, %error, "datagrams to a service are not taken at its address");
                }
                Err(_) => {}
            }
        }
    }
}

fn wanted(plane: &Plane, view: &View) -> BTreeMap<SocketAddrV4, Destination> {
    let mut wanted = BTreeMap::new();
    for (service, endpoints) in &view.services {
        let Some(vip) = plane.vips.vip_of(service) else { continue };
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.protocol == Protocol::Udp) {
            let destination = Destination { service: service.clone(), port: endpoint.port };
            wanted.insert(SocketAddrV4::new(vip, endpoint.port), destination);
        }
    }
    wanted
}

fn bind(address: SocketAddrV4) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
