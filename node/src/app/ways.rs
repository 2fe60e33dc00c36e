//! The listeners for local programs.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use starling_proto::Protocol;
use tokio_util::sync::CancellationToken;

use super::bind::{Bound, problem};
use super::{StartError, edge};
use crate::admin::WayReport;
use crate::config::{Key, Listen, Listener, Loaded, Namespace};
use crate::ingress::Visit;
use crate::netns::Netns;
use crate::outbound::entry::bind_shared;
use crate::outbound::{Destination, Door, Inlet, Way};
use crate::shard::UdpInlet;

/// A namespace that the node listens in, with the sockets of its DNS server.
pub(super) struct Outpost {
    pub(super) netns: Arc<Netns>,
    /// Is IPv6 listened for on the capture port there?
    pub(super) captures_ipv6: bool,
    pub(super) dns: Option<(TcpListener, UdpSocket)>,
}

impl Bound {
    pub(super) fn ways_in(&mut self, loaded: &Loaded) -> Result<(), StartError> {
        let config = &loaded.config;
        for (index, listener) in config.listeners.iter().enumerate() {
            let destination = Destination { service: listener.service.clone(), port: 0 };
            if listener.protocol == Some(Protocol::Udp) {
                self.datagrams(listener, &destination, &loaded.listener_key(index))?;
                continue;
            }
            let way = Way::To { destination, protocol: listener.protocol };
            let listen = Listen { address: listener.address, given: true };
            let name = format!("listener {}", listener.service);
            let inlet = Inlet { source: listener.source.clone(), ..Inlet::new(Door::Way(way)) };
            self.listen(&name, listen, &loaded.listener_key(index), &inlet)?;
        }
        for (index, ingress) in edge::ingresses(loaded)?.into_iter().enumerate() {
            let key = loaded.ingress_key(index);
            let configured = &config.ingresses[index];
            let listen = Listen { address: configured.address, given: true };
            let source = configured.source.clone();
            let way = Way::Ingress(Visit { ingress: Arc::new(ingress), peer: None });
            self.listen("ingress", listen, &key, &Inlet { source, ..Inlet::new(Door::Way(way)) })?;
        }
        let ways = [
            ("proxy.http", config.proxy.http, Door::Way(Way::Proxy)),
            ("proxy.socks5", config.proxy.socks5, Door::Socks),
            ("capture.listen", config.capture.listen, Door::Captured),
        ];
        for (name, listen, door) in ways {
            if let Some(listen) = listen {
                self.listen(name, listen, &loaded.key(name), &Inlet::new(door))?;
            }
        }
        self.captured_ipv6(config.capture.listen);
        for (index, namespace) in config.capture.namespaces.iter().enumerate() {
            let key = loaded.namespace_key(index);
            let outpost = self.listen_within(loaded, namespace, &key)?;
            self.outposts.push(outpost);
        }
        Ok(())
    }

    /// A redirect of IPv6 ends at `::1`. A host without it has none to redirect.
    fn captured_ipv6(&mut self, listen: Option<Listen>) {
        let Some(listen) = listen.filter(|listen| listen.address.is_ipv4() && self.is_bound(listen.address)) else {
            return;
        };
        let address = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), listen.address.port());
        match bind_for_all(address, self.shard_count()) {
            Ok(sockets) => {
                self.captures_ipv6 = true;
                self.add("capture.listen", address, sockets, &Inlet::new(Door::Captured));
            }
            Err(error) => tracing::debug!(%address, %error, "IPv6 is not captured"),
        }
    }

    /// One socket for each shard: the system keeps the datagrams of one program's socket on one of them.
    fn datagrams(&mut self, listener: &Listener, destination: &Destination, key: &Key) -> Result<(), StartError> {
        let address = listener.address;
        let sockets = bind_udp(address, self.shard_count()).map_err(|error| {
            let what = format!("cannot listen on {address} over UDP: {error}");
            problem(key, what, "choose another address, or stop the program that has it")
        })?;
        let inlet = |socket| UdpInlet {
            socket,
            destination: destination.clone(),
            source: listener.source.clone(),
            stop: CancellationToken::new(),
        };
        let inlets = sockets.into_iter().map(inlet).collect();
        self.add_udp(&format!("listener {}", destination.service), address, inlets);
        Ok(())
    }

    /// One socket for each shard. None if nobody asked for this address and it is taken.
    fn listen(&mut self, name: &str, listen: Listen, key: &Key, inlet: &Inlet) -> Result<(), StartError> {
        let Listen { address, given } = listen;
        match bind_for_all(address, self.shard_count()) {
            Ok(sockets) => self.add(name, address, sockets, inlet),
            Err(error) if given => {
                let what = format!("cannot listen on {address}: {error}");
                return Err(problem(key, what, "choose another address, or stop the program that has it"));
            }
            Err(error) => {
                tracing::warn!(%address, %error, "{name} is done without: its default address is not to be had");
                self.ways.push(WayReport { name: name.to_owned(), address, state: error.to_string() });
            }
        }
        Ok(())
    }

    /// The capture port and DNS within a namespace.
    fn listen_within(&mut self, loaded: &Loaded, namespace: &Namespace, key: &Key) -> Result<Outpost, StartError> {
        let config = &loaded.config;
        let Some(capture) = config.capture.listen else {
            return Err(problem(&loaded.key("capture.listen"), "is off, and a namespace is captured", "leave it out"));
        };
        let netns = Netns::enter(&namespace.path).map(Arc::new).map_err(|error| {
            let what = format!("'{}' cannot be entered: {error}", namespace.path.display());
            let hint =
                "it must be a network namespace, such as `ip netns add NAME` makes, and the agent needs CAP_SYS_ADMIN";
            problem(key, what, hint)
        })?;
        let inlet =
            Inlet { door: Door::Captured, source: Some(namespace.source.clone()), netns: Some(Arc::clone(&netns)) };
        let name = format!("capture of {}", namespace.path.display());
        let (shards, dns) = (self.shard_count(), config.dns.listen.map(|dns| dns.address));
        let ipv6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), capture.address.port());
        let bound = netns.run(move || -> io::Result<_> {
            let dns = dns.map(|address| Ok::<_, io::Error>((TcpListener::bind(address)?, UdpSocket::bind(address)?)));
            // Without IPv6 in there, none is to be redirected.
            Ok((bind_for_all(capture.address, shards)?, bind_for_all(ipv6, shards).ok(), dns.transpose()?))
        });
        let (sockets, ipv6_sockets, dns) = bound.and_then(|bound| bound).map_err(|error| {
            let what = format!("cannot listen on {} within '{}': {error}", capture.address, namespace.path.display());
            problem(key, what, "is its loopback up? `ip -n NAME link set lo up`")
        })?;
        self.add(&name, capture.address, sockets, &inlet);
        let captures_ipv6 = ipv6_sockets.is_some();
        if let Some(sockets) = ipv6_sockets {
            self.add(&name, ipv6, sockets, &inlet);
        }
        Ok(Outpost { netns, captures_ipv6, dns })
    }
}

/// Binds an address for each of `shards`.
fn bind_for_all(address: SocketAddr, shards: usize) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT, so that another node of the same user is noticed and not shared with.
    drop(TcpListener::bind(address)?);
    (0..shards).map(|_| bind_shared(address)).collect()
}

fn bind_udp(address: SocketAddr, shards: usize) -> io::Result<Vec<UdpSocket>> {
    drop(UdpSocket::bind(address)?);
    let bind = |_| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    (0..shards).map(bind).collect()
}
