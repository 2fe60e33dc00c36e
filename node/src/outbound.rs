//! Requests that leave local applications: where they go is known by the way they came in.

mod answer_body;
mod asked;
mod attempt;
mod call;
mod caller;
mod caller_body;
mod destination;
mod detect;
mod edge;
pub(crate) mod entry;
mod http1;
mod http2;
mod interim;
mod peer_socket;
mod pump;
mod reach;
mod requests;
mod tcp;
pub(crate) mod udp;
mod upload;

pub(crate) use caller::Caller;
pub(crate) use caller_body::CallerBody;
pub(crate) use destination::{Destination, Way};
pub(crate) use http1::request::MOST_FIELDS;
pub(crate) use upload::Upload;
