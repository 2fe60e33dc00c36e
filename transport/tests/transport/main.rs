//! The room as its users see it: real sockets on loopback, certificates made on the spot.

mod carriers;
mod credentials;
mod datagrams;
mod files;
mod fixture;
mod handshake;
mod hostile;
mod pooling;
mod relay;
mod restart;
mod shards;
mod silence;
mod stand_in;
mod streams;
mod tcp_relay;
