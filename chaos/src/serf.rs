//! A mesh of real agents, a host each, beside as many agents of serf: measured alike, one after the other, in one run.
//!
//! Serf's side is `serf_bench.py` of the peers directory. Ours does step by step what that does: the first agent is up before
//! the others start at an even pace and join it; all are asked over their own interface until each sees all alive; a
//! minute in which nothing happens is counted; members are killed with SIGKILL, one by one.

mod figures;
mod lock;
mod ours;
mod status;
mod theirs;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use figures::{Figures, Idle, Kill};
pub use lock::Lock;
pub use ours::measure;
pub use theirs::{find, measure_serf};

/// A limit: whoever has not joined by then is behind.
const JOIN: Duration = Duration::from_mins(3);
/// What the start took is not what idling takes.
const SETTLE: Duration = Duration::from_secs(10);
/// A limit for a death to be known to all.
const DETECT: Duration = Duration::from_mins(2);
/// Between two kills.
const CALM: Duration = Duration::from_secs(5);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Agents of each, 3 to 200.
    pub agents: usize,
    /// Between two starts.
    pub pace: Duration,
    /// How long they are watched at rest.
    pub idle: Duration,
    /// Members to kill, one after another; two at least must stay.
    pub kills: usize,
}

/// The two, side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Of serf; `None` if it was left out.
    pub serf: Option<Figures>,
    /// Of the mesh.
    pub starling: Figures,
}

impl Comparison {
    /// Did all join, did all notice each death, and was nobody else taken for dead?
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.serf.iter().chain([&self.starling]).all(Figures::is_sound)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<50} {:>10} {:>10} {:>8}", "", "serf", "starling", "ratio")?;
        let serf = self.serf.as_ref().map(Figures::rows).unwrap_or_default();
        for (number, (what, ours)) in self.starling.rows().into_iter().enumerate() {
            let theirs = serf.get(number).and_then(|(_, figure)| *figure);
            let text = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.2}"));
            let ratio = ours.zip(theirs).filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs);
            writeln!(f, "{what:<50} {:>10} {:>10} {:>8}", text(theirs), text(ours), text(ratio))?;
        }
        let sides = [("serf", self.serf.as_ref()), ("starling", Some(&self.starling))];
        for (name, figures) in sides.into_iter().filter_map(|(name, figures)| Some((name, figures?))) {
            if figures.idle.contended {
                writeln!(f, "{name}: others used the machine while it idled; its figures are suspect")?;
            }
            if !figures.is_sound() {
                writeln!(
                    f,
                    "{name}: not all joined, not all noticed each death, or somebody healthy was taken for dead"
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sets_both_side_by_side_and_says_what_is_suspect() {
        let serf = figures::tests::serf();
        let mut starling = serf.clone();
        starling.idle.bytes_per_agent_s *= 2.0;
        starling.idle.gossip_bytes_per_agent_s = Some(100.0);
        starling.idle.contended = true;
        let text = Comparison { serf: Some(serf), starling: starling.clone() }.to_string();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
        assert!(line("idle: bytes a second").ends_with("2.00"), "{text}");
        assert!(line("  of these by gossip, bytes").contains('-'), "{text}");
        assert!(text.contains("starling: others used the machine") && !text.contains("serf: others"), "{text}");
        starling.falsely_failed = 1;
        let alone = Comparison { serf: None, starling };
        assert!(!alone.is_sound() && alone.to_string().contains("taken for dead"));
    }
}
