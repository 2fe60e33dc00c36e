//! What keeps a node from blaming others for its own troubles (Lifeguard, Dadgar, Phillips, Currey, DSN 2018), and a
//! mesh from believing one that does. Each part is a small machine that is told what happened and when.

mod claim;
mod health;
mod hold;
mod suspicion;
mod unrest;
mod watch;

pub(crate) use claim::{Claim, Patience, Verdict};
pub use health::MAX_HEALTH;
pub(crate) use health::{Health, Sign};
pub(crate) use hold::Hold;
pub(crate) use suspicion::{Suspicion, WITNESSES, expected};
pub(crate) use unrest::Unrest;
pub(crate) use watch::{Outcome, Watch};

/// Does this node doubt itself?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifeguard {
    /// Yes.
    #[default]
    On,
    /// No: plain SWIM. Every probe takes as long, a suspect always has [`Timings::suspicion_max`], anybody's word that
    /// a member is down counts at once, nobody is asked over QUIC, and timers are never held. For comparison only.
    ///
    /// [`Timings::suspicion_max`]: crate::Timings::suspicion_max
    Off,
}
