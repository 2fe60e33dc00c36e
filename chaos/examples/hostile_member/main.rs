//! A member that means harm: it holds a good identity and the group key, is admitted, answers probes, and does all it can
//! think of meanwhile: `hostile_member IDENTITY OWN_IP SECONDS VICTIM_IP...`. Says when it begins; its last line counts what
//! it did, by kind. For the tests of whole nodes.

mod attack;
mod datagrams;
mod member;
mod mint;
mod streams;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use attack::Attack;
use member::Member;
use mint::Mint;

pub(crate) const GOSSIP: u16 = 7_946;
pub(crate) const QUIC: u16 = 7_947;
/// Between two attacks.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// Times that each victim meets each kind of attack at least.
const ROUNDS: usize = 4;
/// Identities it makes up.
const MINTED: usize = 2_500;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, own, seconds, victims @ ..] = &arguments[..] else {
        anyhow::bail!("hostile_member IDENTITY OWN_IP SECONDS VICTIM_IP...")
    };
    let victims: Vec<IpAddr> = victims.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
    let identity = Path::new(identity);
    let mut mint = Mint::strike(identity, MINTED).context("minted identities")?;
    let mut member = Member::start(identity, own.parse()?).await?;
    while member.joined.len() < victims.len() {
        for victim in &victims {
            member.join(SocketAddr::new(*victim, QUIC)).await;
        }
        member.run_until(Instant::now() + Duration::from_millis(300)).await;
    }
    println!("joined");
    let (mut did, end) = (BTreeMap::<&str, u64>::new(), Instant::now() + Duration::from_secs(seconds.parse()?));
    // Each kind on each victim so often, whatever time that takes; then as chance has it.
    let round = || Attack::ALL.into_iter().flat_map(|attack| victims.iter().map(move |victim| (attack, *victim)));
    let mut first = (0..ROUNDS).flat_map(|_| round());
    loop {
        let (attack, victim) = match first.next() {
            Some(next) => next,
            None if Instant::now() < end => Attack::draw(&mut member.rng, &victims),
            None => break,
        };
        *did.entry(attack.name()).or_default() += attack.perform(&mut member, victim, &mut mint).await;
        member.run_until(Instant::now() + PAUSE).await;
    }
    did.insert("asked for others", member.misled);
    let did: Vec<String> = did.iter().map(|(what, times)| format!("\"{what}\": {times}")).collect();
    println!("{{{}}}", did.join(", "));
    Ok(())
}
