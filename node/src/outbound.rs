//! Requests that leave local applications: where they go is known by the way they came in.

mod activity;
mod answer_body;
mod asked;
mod attempt;
mod call;
mod caller;
mod destination;
pub(crate) mod entry;
mod http;
mod pump;
mod reach;
mod tcp;
mod upload;

pub(crate) use caller::Caller;
pub(crate) use destination::{Destination, Way};
pub(crate) use upload::Upload;
