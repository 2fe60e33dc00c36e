//! Who takes which port: two of one node's own sockets must not collide, and no service may lead back into the node.

use std::net::{IpAddr, SocketAddr};

use starling_proto::Protocol;
use starling_transport::Carriers;

use super::problem::Key;
use super::repeated::{ListenerKeys, ServiceKeys};
use super::section::Ledger;
use super::{Config, Listen};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Tcp,
    Udp,
}

struct Claim {
    key: Key,
    address: SocketAddr,
    layer: Layer,
    /// By default: nobody wrote it.
    default: bool,
}

pub(super) fn check(
    config: &Config,
    ledger: &Ledger,
    services: &[ServiceKeys],
    listeners: &[ListenerKeys],
    ingresses: &[Key],
) {
    let claims = claims(config, ledger, listeners, ingresses);
    for (index, later) in claims.iter().enumerate() {
        let earlier = claims[..index].iter().find(|earlier| earlier.layer == later.layer && collide(earlier, later));
        if let Some(earlier) = earlier {
            // The complaint goes to the one that somebody wrote.
            let (at, other) = if later.default { (earlier, later) } else { (later, earlier) };
            let default = if other.default { ", by default" } else { "" };
            let layer = if at.layer == Layer::Tcp { "TCP" } else { "UDP" };
            let what =
                format!("{} over {layer} is taken by {}{default} ({})", at.address, other.key.path, other.key.place);
            ledger.report(at.key.problem(what, "choose another port for one of them"));
        }
        if later.layer == Layer::Tcp {
            in_range(config, ledger, &later.key, later.address);
        }
    }
    for (service, keys) in config.services.iter().zip(services) {
        in_range(config, ledger, &keys.address, service.address);
        let own = claims.iter().find(|claim| claim.layer == Layer::Tcp && overlap(claim.address, service.address));
        if let Some(own) = own {
            let what = format!("{} is this node's own {}, not a program's", service.address, own.key.path);
            ledger.report(keys.address.problem(what, "write where the program itself listens"));
        }
    }
}

fn claims(config: &Config, ledger: &Ledger, listeners: &[ListenerKeys], ingresses: &[Key]) -> Vec<Claim> {
    let mesh = config.mesh.bind;
    let of_mesh = |key: &str, port, layer| {
        let key = ledger.key(key);
        let default = key.place.line.is_none() && !key.place.is_text();
        Claim { key, address: SocketAddr::new(mesh, port), layer, default }
    };
    let mut claims = vec![
        of_mesh("mesh.gossip_port", config.mesh.gossip_port, Layer::Udp),
        of_mesh("mesh.quic_port", config.mesh.quic_port, Layer::Udp),
    ];
    if config.mesh.carriers != Carriers::Quic {
        claims.push(of_mesh("mesh.quic_port", config.mesh.quic_port, Layer::Tcp));
    }
    let mut claim = |key: &str, listen: Option<Listen>, layer| {
        claims.extend(listen.map(|Listen { address, given }| Claim {
            key: ledger.key(key),
            address,
            layer,
            default: !given,
        }));
    };
    claim("admin.listen", config.admin.listen, Layer::Tcp);
    claim("dns.listen", config.dns.listen, Layer::Udp);
    claim("dns.listen", config.dns.listen, Layer::Tcp);
    claim("proxy.http", config.proxy.http, Layer::Tcp);
    claim("proxy.socks5", config.proxy.socks5, Layer::Tcp);
    claim("capture.listen", config.capture.listen, Layer::Tcp);
    claims.extend(config.listeners.iter().zip(listeners).map(|(listener, keys)| Claim {
        key: keys.address.clone(),
        address: listener.address,
        layer: if listener.protocol == Some(Protocol::Udp) { Layer::Udp } else { Layer::Tcp },
        default: false,
    }));
    claims.extend(config.ingresses.iter().zip(ingresses).map(|(ingress, key)| Claim {
        key: key.clone(),
        address: ingress.address,
        layer: Layer::Tcp,
        default: false,
    }));
    claims
}

fn collide(a: &Claim, b: &Claim) -> bool {
    let both_wild = a.address.ip().is_unspecified() || b.address.ip().is_unspecified();
    a.address.port() == b.address.port() && (a.address.ip() == b.address.ip() || both_wild)
}

/// Would a connection to `target` arrive at a socket bound to `bound`?
fn overlap(bound: SocketAddr, target: SocketAddr) -> bool {
    bound.port() == target.port()
        && (bound.ip() == target.ip() || (bound.ip().is_unspecified() && target.ip().is_loopback()))
}

fn in_range(config: &Config, ledger: &Ledger, key: &Key, address: SocketAddr) {
    let range = config.dns.vip_range;
    if matches!(address.ip(), IpAddr::V4(ip) if range.contains(ip)) {
        let what = format!("{address} lies in dns.vip_range, {range}, whose addresses stand for services");
        ledger.report(key.problem(what, "write an address outside of it, such as 127.0.0.1"));
    }
}
