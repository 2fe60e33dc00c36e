//! The node: what wires the rooms of the mesh together into one program.

pub mod admin;
mod answer;
pub mod app;
mod blocks;
pub mod capture;
pub mod cli;
pub mod config;
pub mod demo;
mod descriptors;
mod dial;
pub mod dns;
mod failure;
mod fields;
mod hex;
mod hop_body;
mod inbound;
pub mod keyring;
pub mod mesh;
mod netns;
mod outbound;
mod plane;
mod record;
mod relay;
mod shard;
mod sock_diag;
pub mod telemetry;
pub mod watchdog;
