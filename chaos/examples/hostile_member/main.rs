//! A member that means harm: it holds a good identity and the group key, is admitted, answers probes, and does all it can
//! think of meanwhile: `hostile_member IDENTITY OWN_IP SECONDS VICTIM_IP...`. Says when it begins; its last line counts what
//! it did, by kind. For the tests of whole nodes.

mod datagrams;
mod member;
mod mint;
mod streams;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::RngExt;

use member::Member;

pub(crate) const GOSSIP: u16 = 7_946;
pub(crate) const QUIC: u16 = 7_947;
/// Between two attacks.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity, own, seconds, victims @ ..] = &arguments[..] else {
        anyhow::bail!("hostile_member IDENTITY OWN_IP SECONDS VICTIM_IP...")
    };
    let victims: Vec<IpAddr> = victims.iter().map(|ip| ip.parse()).collect::<Result<_, _>>()?;
    let identity = Path::new(identity);
    let mut member = Member::start(identity, own.parse()?).await?;
    let minted = mint::credentials(identity, 30).context("minted identities")?;
    while member.joined.len() < victims.len() {
        for victim in &victims {
            member.join(SocketAddr::new(*victim, QUIC)).await;
        }
        member.run_until(Instant::now() + Duration::from_millis(300)).await;
    }
    println!("joined");
    let (mut did, end) = (BTreeMap::<&str, u64>::new(), Instant::now() + Duration::from_secs(seconds.parse()?));
    while Instant::now() < end {
        let victim = victims[member.rng.random_range(0..victims.len())];
        let what = if member.rng.random_bool(0.8) {
            datagrams::attack(&mut member, victim)
        } else {
            streams::attack(&mut member, victim, &minted).await
        };
        *did.entry(what).or_default() += 1;
        member.run_until(Instant::now() + PAUSE).await;
    }
    let did: Vec<String> = did.iter().map(|(what, times)| format!("\"{what}\": {times}")).collect();
    println!("{{{}}}", did.join(", "));
    Ok(())
}
