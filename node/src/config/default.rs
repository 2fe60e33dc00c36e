//! What holds where the configuration is silent, and why.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Where the packages put it.
pub const FILE: &str = "/etc/starling/starling.toml";
/// What a node must remember: its generation, its members, the addresses of its services.
pub const DATA_DIR: &str = "/var/lib/starling";
/// Written by `starling ca issue`, owned by the user that the agent runs as.
pub const IDENTITY_DIR: &str = "/etc/starling/identity";
/// `/run` is emptied at boot, so a socket there is never older than the boot.
pub const ADMIN_SOCKET: &str = "/run/starling/admin.sock";
/// Loopback: the port has no authentication.
pub const ADMIN_LISTEN: SocketAddr = loopback(4191);
/// The port that serf and memberlist users already open for gossip.
pub const GOSSIP_PORT: u16 = 7946;
/// The next one.
pub const QUIC_PORT: u16 = 7947;
/// Not 53 (root's, and often taken), not 5353 (mDNS).
pub const DNS_LISTEN: SocketAddr = loopback(5391);
/// No public top-level domain; nothing else answers for it.
pub const DNS_SUFFIX: &str = "mesh";
/// Beside the other ports of the node, and away from the proxies' usual 3128 and 8080.
pub const PROXY_HTTP: SocketAddr = loopback(4140);
/// The next one.
pub const PROXY_SOCKS5: SocketAddr = loopback(4141);
/// Where `starling capture install` redirects the VIP range to.
pub const CAPTURE_LISTEN: SocketAddr = loopback(4150);
/// Long enough for most pages, short enough that a stuck request gives its place back.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// A try takes half of what is left of the deadline, and never more than this, so that a second try has time to succeed.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// A QUIC handshake takes one round trip: a second is beyond any link between two nodes that work.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What SIGTERM grants to requests under way; process managers kill after 90 s (systemd) or 30 s (Kubernetes).
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// One request in a hundred: enough to see where time goes, cheap enough to leave on.
pub const SAMPLING: f64 = 0.01;
/// What common servers allow (nginx: 4 buffers of 8 KiB; Apache: 8 KiB a field; Envoy: 60 KiB), with room.
pub const HEADER_BYTES: usize = 64 * 1024;
/// Browsers send some 20; Apache's limit.
pub const HEADER_FIELDS: usize = 100;
/// A head fits into a few packets: whoever takes longer holds a place for nothing (slowloris).
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The default of nginx (`client_body_timeout`).
pub const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Envoy's for a stream that stands still. Shorter would end a download that somebody paused; for ever, and clients that read nothing would keep
/// their places and what a hop holds for them.
pub const SEND_TIMEOUT: Duration = Duration::from_mins(5);
/// Longer than clients keep unused connections, so that it is they who close them and no request meets a closed one.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// RFC 9113, section 6.5.2, asks for at least 100.
pub const STREAMS: u32 = 256;
/// Each may hold a stream and a queue: what a busy resolver needs, and no more than some tens of megabytes.
pub const FLOWS: usize = 4096;
/// Longer than a resolver or a game waits for an answer; what RFC 4787 asks of NATs is 2 minutes at least, for who cannot begin anew.
pub const FLOW_TIMEOUT: Duration = Duration::from_mins(2);
