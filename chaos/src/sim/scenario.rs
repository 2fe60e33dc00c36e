use std::time::Duration;

use serde::Deserialize;

use super::span::Span;

/// What happens to a simulated mesh, and what it must reach: a file in TOML.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is about, in a sentence.
    pub about: String,
    /// How many nodes, the seeds included.
    pub nodes: usize,
    /// How many of them are seeds.
    #[serde(default = "Scenario::default_seeds")]
    pub seeds: usize,
    /// Which seeds a node dials.
    #[serde(default)]
    pub dials: Dials,
    /// The nodes start within this time, evenly spread.
    #[serde(default = "Scenario::default_start_over")]
    pub start_over: Span,
    /// Time zero of the faults: `true` waits until all list all as alive, and `quiet` more; `false` is the first start.
    #[serde(default = "Scenario::default_joined")]
    pub joined: bool,
    /// All know all from the start, as if each had joined by each: for the SWIM part alone, without a bootstrap.
    #[serde(default)]
    pub acquainted: bool,
    /// How long the mesh is left alone before time zero. The idle figures are of its second half.
    #[serde(default)]
    pub quiet: Span,
    /// How long it goes on from time zero.
    pub length: Span,
    /// The network.
    #[serde(default)]
    pub network: Network,
    /// What differs from the engine's defaults.
    #[serde(default)]
    pub engine: EngineSettings,
    /// A second run with this engine, to be compared with.
    pub baseline: Option<EngineSettings>,
    /// Runs whose samples are put together, each with a seed of its own.
    #[serde(default = "Scenario::default_runs")]
    pub runs: u64,
    /// The faults.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// What must be reached.
    #[serde(default, rename = "bound")]
    pub bounds: Vec<Bound>,
}

/// Which seeds a node dials. Seeds always dial the other seeds, and nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dials {
    /// All of them.
    #[default]
    All,
    /// One: node n dials seed n modulo the number of seeds.
    One,
}

/// The network between any two nodes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// One way, evenly between the two: packets overtake one another.
    pub latency: [Span; 2],
    /// Share of packets that get lost.
    pub loss: f64,
    /// Share of datagrams that arrive twice.
    pub duplicate: f64,
    /// Share of datagrams that come late, by up to a second.
    pub late: f64,
    /// What a node takes to accept one connection and to answer its join; joins wait for one another.
    pub accept: Span,
    /// Live data connections of each node to others.
    pub links: usize,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: [Span::micros(100), Span::millis(2)],
            loss: 0.0,
            duplicate: 0.0,
            late: 0.0,
            accept: Span::millis(2),
            links: 0,
        }
    }
}

/// What differs from the engine's defaults.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// `false`: plain SWIM.
    pub lifeguard: Option<bool>,
    /// How long a suspect has, at least and at most.
    pub suspicion: Option<[Span; 2]>,
    /// The most members.
    pub member_limit: Option<usize>,
}

/// Something that happens to some nodes, once or again and again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What it does.
    pub does: Weather,
    /// When, from time zero.
    #[serde(default)]
    pub at: Span,
    /// For how long; to the end if it is not said.
    #[serde(rename = "for")]
    pub lasts: Option<Span>,
    /// Again after this, at other nodes if they are picked.
    pub every: Option<Span>,
    /// How many times in all.
    #[serde(default = "Fault::once")]
    pub times: usize,
    /// How many nodes, picked by the seed among those that no other fault picked; seeds are not picked.
    pub count: Option<usize>,
    /// Which share of the nodes, picked in the same way.
    pub share: Option<f64>,
    /// Which nodes; the seeds come first.
    pub nodes: Option<Vec<usize>>,
}

/// What can happen to a node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Weather {
    /// Killed; started again after it.
    Crash {
        /// Its disk is gone when it comes back.
        #[serde(default)]
        fresh: bool,
    },
    /// SIGSTOP, and SIGCONT after it.
    Suspend,
    /// A process that seldom gets the CPU: blocked, and at work, in turns of random length between the two.
    Starve {
        /// Blocked for.
        blocked: [Span; 2],
        /// At work for.
        works: [Span; 2],
    },
    /// A process that runs, and whose packets are stuck, both ways, in turns of random length between the two: what
    /// Lifeguard's authors did to their nodes.
    Stall {
        /// Stuck for.
        blocked: [Span; 2],
        /// Moving for.
        works: [Span; 2],
    },
    /// Loses packets of everyone but itself.
    Loss {
        /// Share of those to it.
        #[serde(default)]
        ingress: f64,
        /// Share of those from it.
        #[serde(default)]
        egress: f64,
    },
    /// Cut from all nodes that are not in the same fault.
    Cut {
        /// Which way packets do not pass.
        #[serde(default)]
        way: Way,
        /// Which packets do not pass.
        #[serde(default)]
        plane: Plane,
        /// On for this long, off for as long, and so on.
        flip: Option<Span>,
    },
    /// The clock on the wall jumps.
    Clock {
        /// By so many seconds.
        by: i64,
    },
    /// Leaves, and its process ends two seconds later.
    Leave,
}

/// A direction, as seen from the nodes of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Both.
    #[default]
    Both,
    /// What is sent to them.
    In,
    /// What they send.
    Out,
}

/// What a packet belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plane {
    /// Either.
    #[default]
    All,
    /// The gossip port.
    Gossip,
    /// The QUIC port.
    Quic,
}

/// What a figure must reach. A figure that could not be measured misses it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Its name in the report.
    pub figure: String,
    /// At most this.
    pub most: Option<f64>,
    /// At least this.
    pub least: Option<f64>,
}

/// Why a scenario can't be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is no TOML, or not of this shape.
    #[error("{0}")]
    Shape(#[from] toml::de::Error),
    /// It asks for what makes no sense.
    #[error("{0}")]
    Sense(String),
}

impl Scenario {
    /// Reads one, with `nodes` in place of what it says if that is given.
    pub fn try_new(text: &str, nodes: Option<usize>) -> Result<Self, ScenarioError> {
        let mut scenario: Self = toml::from_str(text)?;
        scenario.nodes = nodes.unwrap_or(scenario.nodes);
        scenario.check().map_err(ScenarioError::Sense)?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=60_000).contains(&self.nodes) || !(1..=self.nodes).contains(&self.seeds) {
            return Err("nodes: 1 to 60000, and seeds: 1 to as many".to_owned());
        }
        if self.network.latency[0] > self.network.latency[1] {
            return Err("network.latency: the smaller one first".to_owned());
        }
        for (n, fault) in self.faults.iter().enumerate() {
            let picks = [fault.count.is_some(), fault.share.is_some(), fault.nodes.is_some()];
            if picks.iter().filter(|given| **given).count() != 1 {
                return Err(format!("fault {}: one of count, share and nodes", n + 1));
            }
            if fault.nodes.iter().flatten().any(|node| *node >= self.nodes) {
                return Err(format!("fault {}: there are {} nodes", n + 1, self.nodes));
            }
            if fault.times > 1 && fault.every.is_none() {
                return Err(format!("fault {}: times needs every", n + 1));
            }
        }
        if let Some(bound) = self.bounds.iter().find(|bound| bound.most.is_none() && bound.least.is_none()) {
            return Err(format!("bound on {}: most or least", bound.figure));
        }
        Ok(())
    }

    const fn default_seeds() -> usize {
        1
    }

    const fn default_start_over() -> Span {
        Span(Duration::from_secs(1))
    }

    const fn default_joined() -> bool {
        true
    }

    const fn default_runs() -> u64 {
        1
    }
}

impl Fault {
    const fn once() -> usize {
        1
    }
}
