//! The data plane of whole nodes over real sockets: what goes in at one node comes out at another, or is said to have
//! failed, and why.

mod backend;
mod caller;
mod frames;
mod health;
mod hosts;
mod process;

mod bodies;
mod detect;
mod drain;
mod edge;
mod errors;
mod fields;
mod grpc;
mod hostile_applications;
mod hostile_clients;
mod http2;
mod identity;
mod interim;
mod limits;
mod malformed;
mod retries;
mod smuggling;
mod tcp;
mod telemetry;
mod udp;
mod vanish;
mod ways;
mod websocket;
