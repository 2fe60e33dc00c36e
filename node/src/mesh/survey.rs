//! A look at the paths between this node and others: does gossip pass, both ways, and QUIC; what do their clocks say;
//! which keys do they hold?

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::seq::IteratorRandom;
use starling_gossip::{HeldKey, Member, State};
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeAddress, NodeId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::driver::{Heard, Job};
use super::peers::Peers;
use super::{Mesh, MeshError};

/// Each is sent so many datagrams, so that a lost one is not taken for a blocked port.
const NUDGES: u32 = 3;
/// This far apart.
const NUDGE_PAUSE: Duration = Duration::from_millis(100);
/// Datagrams of the others have this long to arrive after they answered over QUIC.
const AFTERMATH: Duration = Duration::from_millis(300);
/// Members that are down and looked at: one that answers all the same is not down.
const MAX_DOWN: usize = 8;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// What this node is.
    pub own: MemberIdentity,
    /// The group keys that this node opens, the one that it seals with first.
    pub keys: Vec<HeldKey>,
    /// How many others are up.
    pub up: usize,
    /// Those that were looked at.
    pub looks: Vec<Look>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Who.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: NodeAddress,
    /// What it was taken for.
    pub state: State,
    /// Did a gossip datagram of it arrive since the survey began?
    pub heard: bool,
    /// What it answered over QUIC, or why it did not.
    pub answer: Result<Answer, String>,
}

/// What a member answered over QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// From the question to the answer.
    pub took: Duration,
    /// What its clock said; none: it does not say.
    pub skew: Option<Skew>,
    /// The group keys that it opens, the one that it seals with first; empty: it does not say.
    pub keys: Vec<HeldKey>,
    /// Did a gossip datagram of this node arrive there since the survey began? None: it does not say.
    pub hears: Option<bool>,
    /// What this node is as far as it knows. None: it does not say, or does not know it.
    pub knows_us_as: Option<MemberIdentity>,
}

/// How far the clock of another stands ahead of this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Milliseconds; below zero: behind.
    pub ahead_ms: i64,
    /// It may be more or less by this: the answer was under way at an unknown time of it.
    pub give_or_take_ms: i64,
}

impl Mesh {
    /// Looks at up to `most` others that are up, drawn at random, and at a few that are down. Takes some seconds at the
    /// most.
    ///
    /// # Errors
    /// If the driver has ended.
    pub async fn survey(&self, most: usize) -> Result<Survey, MeshError> {
        let (targets, up) = self.targets(most);
        let nodes: Vec<NodeId> = targets.iter().map(|member| member.id).collect();
        let began = Instant::now();
        for _ in 0..NUDGES {
            self.send(Job::Nudge { nodes: nodes.clone() }).await?;
            tokio::time::sleep(NUDGE_PAUSE).await;
        }
        let mut asking = JoinSet::new();
        for member in &targets {
            let (peers, at, node) = (Arc::clone(&self.inner.peers), member.address.quic(), member.id);
            asking.spawn(async move { (node, ask(&peers, at, node, began).await) });
        }
        let mut answers = std::collections::BTreeMap::new();
        while let Some(answered) = asking.join_next().await {
            answers.extend(answered.ok());
        }
        tokio::time::sleep(AFTERMATH).await;
        let (reply, heard) = oneshot::channel();
        self.send(Job::Heard { nodes, reply }).await?;
        let Heard { last: heard, keys, own } = self.reply(heard).await?;
        let looks = targets.into_iter().zip(heard).map(|(member, heard)| Look {
            heard: heard.is_some_and(|at| at >= began),
            answer: answers.remove(&member.id).unwrap_or_else(|| Err("it was not asked".to_owned())),
            id: member.id,
            name: member.name,
            address: member.address,
            state: member.state,
        });
        Ok(Survey { own, keys, up, looks: looks.collect() })
    }

    /// Whom to look at, by name, and how many others are up.
    fn targets(&self, most: usize) -> (Vec<Member>, usize) {
        let view = self.inner.view.load_full();
        let others = || view.members.values().filter(|member| member.id != view.this);
        let up = others().filter(|member| member.state.is_up()).count();
        let mut rng = rand::rng();
        let mut targets = others().filter(|member| member.state.is_up()).cloned().sample(&mut rng, most);
        targets.extend(others().filter(|member| member.state == State::Down).cloned().sample(&mut rng, MAX_DOWN));
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        (targets, up)
    }
}

async fn ask(peers: &Arc<Peers>, at: std::net::SocketAddr, node: NodeId, began: Instant) -> Result<Answer, String> {
    // A connection that must be made first would count as time under way.
    peers.look(at, node).await.map_err(|error| error.to_string())?;
    let (asked, clock) = (Instant::now(), SystemTime::now());
    let pong = peers.look(at, node).await.map_err(|error| error.to_string())?;
    Ok(answer(&pong, asked.elapsed(), clock, asked.duration_since(began)))
}

/// What an answer says that took `took` from `asked` on; the survey began `since` before that.
fn answer(pong: &v1::Pong, took: Duration, asked: SystemTime, since: Duration) -> Answer {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let ours = millis(asked.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2);
    let theirs = i64::try_from(pong.clock).unwrap_or(i64::MAX);
    // Both clocks and the half are cut to whole milliseconds.
    let skew = Skew { ahead_ms: theirs.saturating_sub(ours), give_or_take_ms: millis(took / 2) + 2 };
    let says = pong.clock != 0;
    let hears = pong.heard_ago_ms.is_some_and(|ago| u128::from(ago) <= (since + took).as_millis());
    Answer {
        took,
        skew: says.then_some(skew),
        keys: HeldKey::named(&pong.key_epochs, &pong.key_prints).collect(),
        hears: says.then_some(hears),
        knows_us_as: pong.asker.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_exchange() {
        let asked = UNIX_EPOCH + MS(1_000_000);
        for (clock, took, ahead_ms) in [(1_000_010, 20, 0), (1_005_010, 20, 5_000), (970_050, 100, -30_000)] {
            let pong = v1::Pong { clock, ..Default::default() };
            let skew = answer(&pong, MS(took), asked, MS(300)).skew.unwrap();
            assert_eq!(skew.ahead_ms, ahead_ms);
            assert!(skew.give_or_take_ms >= i64::try_from(took / 2).unwrap());
        }
        let absurd = v1::Pong { clock: u64::MAX, ..Default::default() };
        assert!(answer(&absurd, MS(20), asked, MS(300)).skew.unwrap().ahead_ms > 1 << 60);
    }

    #[test]
    fn what_was_heard_before_the_survey_does_not_count() {
        let asked = UNIX_EPOCH + MS(1_000_000);
        let hears = |heard_ago_ms| {
            let pong = v1::Pong { clock: 1, heard_ago_ms, ..Default::default() };
            answer(&pong, MS(20), asked, MS(300)).hears
        };
        assert_eq!((hears(None), hears(Some(5)), hears(Some(320))), (Some(false), Some(true), Some(true)));
        assert_eq!(hears(Some(5_000)), Some(false));
    }

    #[test]
    fn a_node_of_an_older_version_says_neither() {
        let answer = answer(&v1::Pong::default(), MS(20), UNIX_EPOCH, MS(300));
        assert_eq!((answer.skew, answer.hears, answer.keys.len()), (None, None, 0));
    }
}
