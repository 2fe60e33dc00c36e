use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use starling_routing::Entry;

use super::Destination;
use crate::capture;
use crate::shard::Shard;

/// What an address leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A service: its VIP, or a member's address with the port of a service that the member offers.
    Service(Destination),
    /// The node itself, which is asked whether the redirect works.
    Probe,
    /// A VIP that no name was ever answered with: nobody can mean a service by it.
    Nobody,
    /// Nothing of the mesh.
    Beyond(SocketAddr),
}

impl Target {
    /// What this address leads to now.
    pub(super) fn of(shard: &Shard, address: SocketAddr) -> Self {
        let vips = &shard.plane.vips;
        match address.ip().to_canonical() {
            IpAddr::V4(ip) if vips.range().contains(ip) => {
                if capture::is_probe(vips.range(), SocketAddrV4::new(ip, address.port())) {
                    return Self::Probe;
                }
                let service = vips.service_of(ip);
                service.map_or(Self::Nobody, |service| Self::Service(Destination { service, port: address.port() }))
            }
            ip => Self::offered_at(shard, ip, address.port()).unwrap_or(Self::Beyond(address)),
        }
    }

    /// The one service that the member at this address offers on this port. Of two it cannot be told which is meant.
    fn offered_at(shard: &Shard, ip: IpAddr, port: u16) -> Option<Self> {
        if ip.is_loopback() {
            return None;
        }
        let clusters = shard.plane.clusters.load();
        let mut offered = clusters.iter().filter(|cluster| {
            let mut endpoints = cluster.entries().iter().map(Entry::endpoint);
            endpoints.any(|endpoint| endpoint.port == port && endpoint.address.ip() == ip)
        });
        let (first, second) = (offered.next()?, offered.next());
        let service = first.service().clone();
        second.is_none().then_some(Self::Service(Destination { service, port }))
    }
}
