//! Weather for a mesh: real processes on real hosts, each host a network namespace, and load that notices.
//!
//! - [`Net`]: hosts on one bridge; [`Cut`]: a partition that heals when dropped
//! - [`Host`], [`Process`], [`Program`]: what runs there, killed with the host
//! - [`OpenLoop`], [`Report`]: requests at a rate that does not wait for answers
//! - [`MeshOfHosts`], [`NodeConfig`]: a mesh of `starling` agents, a host each
//! - [`reach`]: what a mesh must reach on five hosts, with figures
//! - [`footprint`]: what a node costs its host
//! - [`churn`]: requests over connections that are opened, cut and half-closed at random, on loopback
//! - [`first_byte`]: how soon a service that speaks first is heard over a long path
//! - [`serf`]: a hundred real nodes beside as many agents of serf
//! - [`sim`]: a mesh of hundreds of engines on virtual time, with no process at all
//! - [`wait_until`]: a condition with a deadline; [`binary`]: the programs under test
//!
//! A host is a holder process in namespaces of its own. All that runs on the host is found by its network namespace,
//! and the holder ends it when the [`Net`] is dropped or its process dies, even by SIGKILL. Nothing has a name
//! on the machine outside, so runs never collide and nothing stays behind.

pub mod binary;
pub mod churn;
pub mod first_byte;
pub mod footprint;
mod host;
mod load;
mod mesh;
mod net;
mod pair;
pub mod reach;
pub mod serf;
mod services;
pub mod sim;
mod usage;
mod wait;

pub use host::{Host, Output, Process, Program};
pub use load::{Connections, Failure, OpenLoop, Report, RunningLoad};
pub use mesh::{MeshNode, MeshOfHosts, MeshPlan, NodeConfig, ServiceConfig};
pub use net::{Cut, HostsError, Net};
pub use wait::wait_until;
