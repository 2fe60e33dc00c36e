//! SWIM as it travels: foca's packets, which this room reads and trims before foca sees them.

mod codec;
mod identity;
mod packet;

pub(crate) use codec::Bincode;
pub(crate) use identity::SwimIdentity;
pub(crate) use packet::SwimPacket;

/// The most foca may fill, in bytes: what is left of a datagram is for what every packet says of its sender, and for
/// notices.
pub(crate) const MAX_SWIM: usize = 960;
