use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use starling_proto::mesh::v1;
use starling_proto::{Endpoint, Generation, NodeAddress, NodeId, ServiceName, SpiffeId};

/// What the mesh looks like from here: immutable, published as a whole, borrowed by many.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Rises with every publication.
    pub version: u64,
    /// The node that looks.
    pub this: NodeId,
    /// All members, this node included.
    pub members: BTreeMap<NodeId, Member>,
    /// The endpoints of every service whose owner is alive, or to whom a live connection exists; own ones included.
    /// In the order of their keys.
    pub services: BTreeMap<ServiceName, Arc<[Endpoint]>>,
}

/// One member.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// The node's name in the mesh.
    pub name: String,
    /// The name in its certificate.
    pub spiffe: SpiffeId,
    /// Where it is reached.
    pub address: NodeAddress,
    /// Is it alive?
    pub state: State,
    /// Which boot.
    pub generation: Generation,
    /// How often it refuted a suspicion since it (re)joined.
    pub incarnation: u32,
    /// When it entered this state, as seen from here.
    pub since: Instant,
    /// Where it stands; empty if it does not say.
    pub zone: Arc<str>,
    /// Version of its software; empty if it does not say.
    pub version: String,
    /// What it last said of its load.
    pub load: v1::LoadSummary,
    /// It is up, and yet fails probes of one member after another, and refutes each time. Its endpoints count as unhealthy
    /// in [`View::services`] where a service has others that can serve.
    pub flaky: bool,
}

/// Is a member alive?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It answers.
    Alive,
    /// A probe of it went unanswered: it counts as alive until it is down.
    Suspect,
    /// It answered nobody for too long.
    Down,
    /// It left on purpose.
    Left,
}

impl State {
    /// Does it count as alive?
    #[must_use]
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        })
    }
}

impl From<State> for v1::MemberStatus {
    fn from(state: State) -> Self {
        match state {
            State::Alive => Self::Alive,
            State::Suspect => Self::Suspect,
            State::Down => Self::Down,
            State::Left => Self::Left,
        }
    }
}

/// What changed from one view to the next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Members that are new or whose entry changed, but for their load.
    pub members: Vec<NodeId>,
    /// Members that are no longer listed.
    pub forgotten: Vec<NodeId>,
    /// Services that are new, gone, or whose endpoints changed.
    pub services: Vec<ServiceName>,
}

impl View {
    /// What is different here from an `older` view.
    #[must_use]
    pub fn diff(&self, older: &Self) -> Changes {
        let loadless = |member: &Member| Member { load: v1::LoadSummary::default(), ..member.clone() };
        let changed = |(id, member): (&NodeId, &Member)| {
            let same = older.members.get(id).is_some_and(|before| loadless(before) == loadless(member));
            (!same).then_some(*id)
        };
        let gone = older.members.keys().filter(|id| !self.members.contains_key(id));
        let mut services: Vec<ServiceName> = older.services.keys().chain(self.services.keys()).cloned().collect();
        services.sort();
        services.dedup();
        services.retain(|name| self.services.get(name) != older.services.get(name));
        Changes {
            members: self.members.iter().filter_map(changed).collect(),
            forgotten: gone.copied().collect(),
            services,
        }
    }
}
