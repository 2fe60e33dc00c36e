//! All it can think of.

use std::net::{IpAddr, SocketAddr};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::member::Member;
use crate::mint::Mint;
use crate::{QUIC, datagrams, streams};

/// Identities it made up that greet a victim at a time.
const GREETING: usize = 200;
/// And that it names in a state: a few more than are looked at.
const NAMED: usize = 20;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Attack {
    Lie,
    Threaten,
    Accuse,
    Forge,
    Replay,
    Flood,
    FalseState,
    Greet,
    Name,
    Ask,
    Chitchat,
}

impl Attack {
    /// Datagrams first.
    pub(crate) const ALL: [Self; 11] = [
        Self::Lie,
        Self::Threaten,
        Self::Accuse,
        Self::Forge,
        Self::Replay,
        Self::Flood,
        Self::Greet,
        Self::FalseState,
        Self::Name,
        Self::Ask,
        Self::Chitchat,
    ];

    /// One on somebody: mostly small ones.
    pub(crate) fn draw(rng: &mut StdRng, victims: &[IpAddr]) -> (Self, IpAddr) {
        let among = if rng.random_bool(0.7) { 0..5 } else { 5..Self::ALL.len() };
        (Self::ALL[rng.random_range(among)], victims[rng.random_range(0..victims.len())])
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lie => "lies about members",
            Self::Threaten => "told that it is down",
            Self::Accuse => "accusations",
            Self::Forge => "in the name of others",
            Self::Replay => "replays",
            Self::Flood => "floods",
            Self::FalseState => "false states",
            Self::Greet => "minted identities",
            Self::Name => "minted identities named",
            Self::Ask => "great questions",
            Self::Chitchat => "messages of chitchat",
        }
    }

    /// How many packets, identities or messages of it were sent; of what has an answer, how many were answered.
    pub(crate) async fn perform(self, member: &mut Member, victim: IpAddr, mint: &mut Mint) -> u64 {
        let Some(to) = member.at(victim) else { return 0 };
        let at = SocketAddr::new(victim, QUIC);
        match self {
            Self::Lie => datagrams::lie(member, to).await,
            Self::Threaten => datagrams::threaten(member, to).await,
            Self::Accuse => datagrams::accuse(member, to).await,
            Self::Forge => datagrams::forge(member, to).await,
            Self::Replay => datagrams::replay(member, to).await,
            Self::Flood => datagrams::flood(member, to).await,
            Self::FalseState => streams::false_state(member, at).await,
            Self::Greet => datagrams::greet(member, to, mint.take(GREETING)).await,
            Self::Name => streams::name(member, at, mint.take(NAMED)).await,
            Self::Ask => streams::ask(member, at).await,
            Self::Chitchat => streams::chitchat(member, to).await,
        }
    }
}
