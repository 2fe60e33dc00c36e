//! Requests that leave local applications: where they go is known by the way they came in.

mod activity;
mod answer_body;
mod asked;
mod attempt;
mod attest;
mod call;
mod caller;
mod destination;
pub(crate) mod entry;
mod http;
mod inlet;
mod pass;
mod peer_socket;
mod pump;
mod reach;
mod socks5;
mod target;
mod tcp;
mod upload;

pub(crate) use attest::Attestor;
pub(crate) use caller::Caller;
pub(crate) use destination::{Destination, Way};
pub(crate) use inlet::{Door, Inlet};
pub(crate) use pass::Passed;
pub(crate) use upload::Upload;
