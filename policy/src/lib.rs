//! Verdicts on streams between nodes.
//!
//! Pure: no sockets, no clock, no randomness. What is allowed follows from the inputs alone.
//!
//! - [`authorize`]: may this stream be served? A [`Permit`](authorize::Permit), or a [`Denied`](authorize::Denied) that
//!   says why
//!
//! So far a verdict is about identity only: nobody speaks for a service that its certificate does not name. Any
//! service of the mesh may call any other until signed policy documents come; their format is fixed in
//! `mesh/v1/policy.proto`.

pub mod authorize;
