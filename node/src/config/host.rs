use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;

/// What defaults are taken from: this machine, or a test's idea of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The host name, if it has one.
    pub name: Option<String>,
    /// The address that its default route leaves from, if it has one.
    pub address: Option<IpAddr>,
    /// How many cores this process may use.
    pub cores: NonZeroUsize,
}

impl Host {
    /// Looks at this machine.
    #[must_use]
    pub fn detect() -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            name: name.filter(|name| !name.is_empty()),
            address: default_route_address(),
            cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Connecting a UDP socket sends nothing; it only makes the kernel choose a route and with it a source address. The targets
/// are addresses for documentation (RFC 5737, RFC 3849), which nobody routes specially.
fn default_route_address() -> Option<IpAddr> {
    let source = |local: &str, target: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(local.parse::<SocketAddr>().ok()?).ok()?;
        socket.connect(target.parse::<SocketAddr>().ok()?).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    source("0.0.0.0:0", "192.0.2.1:9").or_else(|| source("[::]:0", "[2001:db8::1]:9"))
}
