//! The room as its users see it: real sockets on loopback, certificates made on the spot.

mod credentials;
mod files;
mod fixture;
mod handshake;
mod hostile;
mod pooling;
mod relay;
mod restart;
mod shards;
mod silence;
mod streams;
