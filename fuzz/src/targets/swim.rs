//! Packets of the SWIM engine.

use starling_gossip::raw::{self, SwimState};

use super::people::identity;
use super::{Run, Target};
use crate::fingerprint::{letter, of_answer};

pub(super) fn target() -> Target {
    Target { name: "swim", about: "packets of the SWIM engine", memory: 256 << 10, least_answers: 8, seeds, start }
}

fn seeds() -> Vec<Vec<u8>> {
    let of = [(identity(3), 7, SwimState::Suspect), (identity(4), 0, SwimState::Down)];
    let all = [&of[..], &of[..1], &[]].map(|of| raw::gossip(identity(1), identity(2), of));
    let mut seeds: Vec<Vec<u8>> = all.into_iter().flatten().map(|bytes| bytes.to_vec()).collect();
    // The kind of message follows two identities and an incarnation: let each kind be tried.
    if let Some(gossip) = seeds.last().cloned() {
        seeds.extend(
            (0..gossip.len()).map(|at| [&gossip[..at], &[u8::try_from(at % 16).unwrap_or(0)], &gossip[at..]].concat()),
        );
    }
    seeds
}

fn start() -> Run {
    Box::new(|input| {
        let read = raw::swim(input);
        if let Ok(written) = &read {
            assert_eq!(raw::swim(written).as_ref(), Ok(written), "what is written reads as the same");
        }
        // The kind stands after the first identity, its incarnation, and the second.
        let kind = read.as_ref().ok().and_then(|written| written.get(72)).copied().unwrap_or(0) % 16;
        let kind = char::from(b'a' + kind);
        of_answer(&format!("{kind} {:?}", read.map(|written| letter(written.len()))))
    })
}
