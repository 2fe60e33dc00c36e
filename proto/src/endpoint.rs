use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mesh::v1;
use crate::{NodeId, ServiceName, SpiffeId};

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP, spoken to the application as HTTP/1.1.
    Http,
    /// HTTP, spoken to the application as HTTP/2 without TLS (RFC 9113, section 3.3: prior knowledge).
    Http2,
    /// gRPC: HTTP/2, with the failures of the mesh in gRPC's words.
    Grpc,
    /// Opaque bytes over TCP.
    Tcp,
    /// Datagrams.
    Udp,
    /// What the first bytes of each connection show: HTTP/1.1, HTTP/2 or opaque bytes.
    Detect,
}

/// A protocol that this version does not carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a protocol this version carries; known: http, http2, grpc, tcp, udp, detect")]
pub struct UnknownProtocol(String);

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let known = Self::ALL.iter().find(|protocol| protocol.as_str() == text);
        known.copied().ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

impl Protocol {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Http, Self::Http2, Self::Grpc, Self::Tcp, Self::Udp, Self::Detect];

    /// The word in configurations, log lines and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Detect => "detect",
        }
    }

    /// Is it HTTP, of whatever version: requests and answers, each on a stream of its own?
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Http => Self::Http,
            Protocol::Http2 => Self::Http2,
            Protocol::Grpc => Self::Grpc,
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Detect => Self::Detect,
        }
    }
}

impl TryFrom<v1::Protocol> for Protocol {
    type Error = UnknownProtocol;

    fn try_from(protocol: v1::Protocol) -> Result<Self, UnknownProtocol> {
        match protocol {
            v1::Protocol::Http => Ok(Self::Http),
            v1::Protocol::Http2 => Ok(Self::Http2),
            v1::Protocol::Grpc => Ok(Self::Grpc),
            v1::Protocol::Tcp => Ok(Self::Tcp),
            v1::Protocol::Udp => Ok(Self::Udp),
            v1::Protocol::Detect => Ok(Self::Detect),
            other @ v1::Protocol::Unspecified => Err(UnknownProtocol(other.as_str_name().to_owned())),
        }
    }
}

/// What tells one endpoint from every other in the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The node that offers it.
    pub node: NodeId,
    /// The service.
    pub service: ServiceName,
    /// Which instance, where a node offers several.
    pub instance: u32,
}

/// One instance of a service, as the data plane sees it: plain data, taken from gossip's `View`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Who it is.
    pub key: EndpointKey,
    /// The name in the certificate of its node: the connection is checked against it.
    pub spiffe: SpiffeId,
    /// Where its node accepts QUIC.
    pub address: SocketAddr,
    /// The port callers use.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where its node stands; empty if it does not say.
    pub zone: Arc<str>,
    /// Free words of its owner.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its owner says that it can serve.
    pub healthy: bool,
    /// Its owner asks for no new requests.
    pub draining: bool,
    /// Capacity relative to others, 100 being the usual.
    pub weight: u32,
}
