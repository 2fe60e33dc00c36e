//! QUIC and mutual TLS between nodes, and TCP where UDP is blocked. The only room that knows quinn and rustls: nothing of
//! theirs is in its API.
//!
//! - [`ca`]: the authority of a mesh, as files; [`Identity`]: one node's files; [`Trust`]: whom it believes
//! - [`Tls`]: the two together, shared by all shards of a node
//! - [`Port`], [`Listener`]: one port, shared by the shards; [`Dialer`]: a port of a shard's own to dial from
//! - [`Connection`]: a known peer; [`SendHalf`] and [`RecvHalf`]: one request;
//!   [`DatagramSend`] and [`DatagramRecv`]: what of it may be lost
//! - [`Pool`]: warm connections of one shard to the nodes it talks to
//! - [`drain`]: stop taking work, finish what is there
//!
//! Each shard is one thread with a runtime of its own: everything but [`Tls`] and [`Port`] belongs to one shard.

pub mod ca;
mod carrier;
mod certificate;
mod connect_error;
mod connection;
mod credential;
mod datagrams;
mod dialer;
pub mod drain;
pub mod edge;
mod group_key;
mod identity;
mod limits;
mod listener;
mod mux;
mod noise;
mod paths;
mod pool;
mod port;
mod refusal;
mod silence;
mod stream;
mod tcp;
mod tls;
mod trust;

pub use carrier::{Carrier, Carriers, Census};
pub use certificate::PeerIdentity;
pub use connect_error::{ConnectError, DialerError};
pub use connection::{Connection, Lost, Request};
pub use credential::{CredentialError, MAX_CREDENTIAL, VerifiedCredential};
pub use datagrams::{DatagramRecv, DatagramSend, Unsent};
pub use dialer::Dialer;
pub use identity::{Identity, IdentityError};
pub use limits::Limits;
pub use listener::{Incoming, Listener, ListenerError};
pub use paths::{ByTcp, Paths};
pub use pool::{Pool, PoolSettings, Target};
pub use port::{BindError, MAX_SHARDS, Port, ShardSocket};
pub use refusal::{Refusal, Refusals, RefusedCertificate};
pub use stream::{Frame, Malformed, RecvHalf, SendHalf, Sent, StreamError};
pub use tls::{Tls, TlsError};
pub use trust::{Trust, TrustError};

/// Set on the packets of a node's own TCP connections (`SO_MARK`), so that no redirect of its host brings them back to it. In the
/// low byte, which the marks of Kubernetes, Calico, Cilium and Tailscale leave alone.
pub const MARK: u32 = 0x77;

/// What a connection is for: the two never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// Requests (`starling/1`).
    Data,
    /// Admission, join, catalog (`starling-control/1`).
    Control,
}

impl Alpn {
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Data => b"starling/1".to_vec(),
            Self::Control => b"starling-control/1".to_vec(),
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        [Self::Data, Self::Control].into_iter().find(|alpn| alpn.bytes() == bytes)
    }
}
