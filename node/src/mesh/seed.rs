use std::fmt;
use std::net::SocketAddr;

/// Where a node that may admit this one is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seed {
    /// A QUIC address.
    Addr(SocketAddr),
    /// Every address of a DNS name, asked again each time.
    Dns {
        /// The name.
        name: String,
        /// The QUIC port at each of its addresses.
        port: u16,
    },
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(address) => address.fmt(f),
            Self::Dns { name, port } => write!(f, "dns:{name}:{port}"),
        }
    }
}
