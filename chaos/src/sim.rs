//! A mesh of hundreds of nodes on virtual time: the real engine, a simulated network, faults, and figures.
//!
//! A [`Scenario`] is a file; [`play`] plays it and gives a [`Report`]. A run is a function of its scenario and its seed:
//! the same seed gives the same trace.
//!
//! What is real: the engine, with its packets, signatures and encryption. What is modelled: datagrams, the requests over
//! control streams (their flights, handshakes and deadlines), when `node` dials seeds, the disk, the process. What is
//! absent: chitchat (it keeps a clock and randomness of its own), certificates, TLS, the data plane.

mod control;
mod cost;
mod faults;
mod host;
mod ledger;
mod paths;
mod play;
mod queue;
mod report;
mod scenario;
mod seek;
mod span;
mod trace;
mod traffic;
mod world;

pub use play::play;
pub use report::{Report, Verdict};
pub use scenario::{Bound, Dials, EngineSettings, Fault, Network, Plane, Scenario, ScenarioError, Way, Weather};
pub use span::{Span, SpanError};
