use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{NodeId, SpiffeId};

use crate::{Event, Refusal, Remembered, View};

/// What the driver is to do.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send a datagram from the gossip port.
    Send {
        /// To whom.
        to: SocketAddr,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Ask a member for the credentials of nodes that it named; feed the answer as [`Input::Resolved`](crate::Input::Resolved).
    Resolve {
        /// Whom to ask.
        ask: NodeId,
        /// Where it accepts QUIC.
        at: SocketAddr,
        /// Of which nodes.
        ids: Vec<NodeId>,
    },
    /// Ask a member for values of the catalog; feed each that it gives as [`Input::Value`](crate::Input::Value). A failure
    /// needs no answer.
    Pull {
        /// Whom to ask.
        ask: NodeId,
        /// Where it accepts QUIC.
        at: SocketAddr,
        /// Whose values.
        owner: NodeId,
        /// Under which keys.
        keys: Vec<String>,
    },
    /// Exchange states with a node over QUIC; feed its state as [`Input::Joined`](crate::Input::Joined). Repeated as long as it is wanted:
    /// a failure needs no answer.
    Dial {
        /// Who should be there, if it is known.
        node: Option<NodeId>,
        /// Where it accepts QUIC.
        at: SocketAddr,
    },
    /// Ask a member over QUIC whether it is there: the last resort of a probe, since a blocked gossip port is not death.
    /// Feed what came of it as [`Input::Pong`](crate::Input::Pong), once for each.
    Ping {
        /// Who should be there.
        node: NodeId,
        /// Where it accepts QUIC.
        at: SocketAddr,
        /// What to ask.
        ping: v1::Ping,
    },
    /// Give a member [`Engine::keyring_state`](crate::Engine::keyring_state) over QUIC, and feed its own, which it answers
    /// with, as [`Input::Keys`](crate::Input::Keys). Repeated as long as it is wanted: a failure needs no answer.
    ExchangeKeys {
        /// Who should be there.
        node: NodeId,
        /// Where it accepts QUIC.
        at: SocketAddr,
    },
    /// The group keys changed: persist them, readable by this node's user only.
    Keys(v1::KeyringState),
    /// A join was refused: answer the peer with this.
    Refused {
        /// The name in the peer's TLS certificate.
        peer: SpiffeId,
        /// What to answer.
        refusal: Refusal,
    },
    /// Put a value into chitchat under this node.
    Value {
        /// Its key.
        key: String,
        /// An encoded `mesh.v1.SignedValue`.
        value: Bytes,
    },
    /// There is a new view. At most one at a time.
    View(Arc<View>),
    /// Something to log and to count.
    Event(Event),
    /// Persist this, off the hot path.
    Remember(Remembered),
}
