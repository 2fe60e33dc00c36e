//! Requests that leave local applications: where they go is known by the way they came in.

mod answer_body;
mod asked;
mod attempt;
mod attest;
mod call;
mod caller;
mod caller_body;
mod destination;
mod detect;
mod edge;
pub(crate) mod entry;
mod http1;
mod http2;
mod inlet;
mod interim;
mod pass;
mod peer_socket;
mod pump;
mod reach;
mod requests;
mod socks5;
mod target;
mod tcp;
pub(crate) mod udp;
mod upload;

pub(crate) use attest::Attestor;
pub(crate) use caller::Caller;
pub(crate) use caller_body::CallerBody;
pub(crate) use destination::{Destination, Way};
pub(crate) use http1::request::MOST_FIELDS;
pub(crate) use inlet::{Door, Inlet};
pub(crate) use pass::Passed;
pub(crate) use upload::Upload;
