//! Streams over one ordered connection, with the meaning that they have in QUIC (RFC 9000, sections 2 to 4): of both
//! directions and of one, opened by either side, each with a window of its own, ended, reset or stopped with a code. A
//! machine without IO; `tcp` runs it. Why not HTTP/2: docs/decisions/0019.

mod application;
mod bounds;
mod frame;
mod incoming;
mod input;
mod machine;
mod outgoing;
mod output;
#[cfg(test)]
mod tests;

pub(crate) use self::bounds::Bounds;
pub(crate) use self::frame::{Direction, StreamId};
pub(crate) use self::machine::Mux;
