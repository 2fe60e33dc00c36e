//! Names and wire formats of the mesh. This room knows nobody: every other room may depend on it.
//!
//! - [`mesh`]: the protobuf messages, compiled from `mesh/v1/*.proto`
//! - [`NodeId`], [`Generation`], [`NodeAddress`], [`MemberIdentity`]: who a node is and where
//! - [`ServiceName`], [`ServicePattern`], [`SpiffeId`], [`TrustDomain`]: what things are called
//! - [`Endpoint`]: one instance of a service, as the data plane sees it
//! - [`decode`]: decoders with a bound; [`frame`] and [`head`]: what a hop stream is made of; [`error_code`]: what went wrong, in a word

pub mod decode;
mod endpoint;
pub mod error_code;
pub mod frame;
mod group_key;
pub mod head;
mod id;
mod member;
mod service;
mod spiffe;

/// The generated protobuf messages.
pub mod mesh {
    /// Version 1 of every message.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/mesh.v1.rs"));
    }
}

pub use endpoint::{Endpoint, EndpointKey, Protocol, UnknownProtocol};
pub use error_code::ErrorCode;
pub use id::{Generation, NodeId, NodeIdError};
pub use member::{MemberIdentity, MemberIdentityError, NodeAddress};
pub use service::{ServiceName, ServiceNameError, ServicePattern};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
