//! Who is alive in the mesh, and what they offer. Sans-IO: no sockets, no clock, no randomness of its own.
//!
//! A driver (in `node`) feeds an [`Engine`] with [`Input`]s, carries out the [`Output`]s it returns, and calls it
//! again at [`Engine::poll_timeout`]. Readers borrow the immutable [`View`].
//!
//! Every datagram goes the same way in: `envelope` (group key), `admission` (who sent it, from where, never twice),
//! `swim` (hearsay is taken out), `membership` (foca decides who is alive), `view` (what readers see).

mod admission;
mod allowance;
pub mod catalog;
mod conduct;
mod config;
mod contact;
mod credential;
mod engine;
mod envelope;
mod event;
mod hearsay;
mod hints;
mod key;
mod keyring;
mod lifeguard;
pub mod log;
mod membership;
mod notice;
#[cfg(feature = "raw")]
pub mod raw;
mod redial;
mod remembered;
mod replay;
mod rumour;
mod seeds;
mod swim;
mod timers;
mod view;

#[cfg(test)]
mod sim;

pub use conduct::Offence;
pub use config::{Config, Timings};
pub use credential::{CredentialVerifier, VerifiedCredential};
pub use engine::{Counters, Engine, Input, KeyReport, Liveness, Output, PeerKeys, Sizes};
pub use event::{Event, Refusal, Rejection};
pub use key::{KeyError, SigningKey, verify};
pub use keyring::{ChangeError, HeldKey, Keyring, KeyringError, StatedKey, Statement, StatementError};
pub use lifeguard::{Lifeguard, MAX_HEALTH};
pub use remembered::{Remembered, RememberedMember};
pub use seeds::{Backoff, Seeds, Sought};
pub use view::{Changes, Member, State, View};
