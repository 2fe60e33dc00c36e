//! Names into addresses: every service of the mesh has a stable loopback address of this host, its VIP.
//!
//! - [`VipRange`]: which addresses are for services, and which three are kept back
//! - [`VipTable`]: service <-> VIP, stable over restarts; read without a lock
//! - [`Zone`]: one query in, one verdict out; pure
//! - [`Upstreams`]: the host's own resolvers, asked for names outside the mesh
//! - [`DnsServer`]: the sockets

mod counts;
mod server;
mod upstream;
mod vip_range;
mod vip_table;
mod zone;

pub use counts::DnsCounts;
pub use server::DnsServer;
pub use upstream::Upstreams;
pub use vip_range::{VipRange, VipRangeError};
pub use vip_table::{Observed, VipTable};
pub use zone::{Verdict, Zone, ZoneError};
