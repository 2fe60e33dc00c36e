//! Changes inputs at random.

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

/// No input grows beyond this, in bytes.
pub(crate) const LONGEST: usize = 70_000;
/// Numbers at which things break.
const EDGES: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];

/// A changed copy of `input`; `other` is one that parts may come from.
pub(crate) fn mutate(input: &[u8], other: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 << rng.random_range(0..4) {
        change(&mut bytes, other, rng);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut impl Rng) {
    if bytes.is_empty() {
        bytes.extend_from_slice(&other[..other.len().min(64)]);
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..11) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes[at] = bytes[at].wrapping_add(rng.random_range(0..3)).wrapping_sub(1),
        3 => number(bytes, at, rng),
        4 => bytes.insert(at, rng.random()),
        5 => drop(bytes.drain(at..(at + rng.random_range(1..17)).min(bytes.len()))),
        6 => bytes.truncate(at),
        7 => {
            // The same once more.
            let end = (at + rng.random_range(1..65)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        8 if !other.is_empty() => {
            // Another's end.
            let from = rng.random_range(0..other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        9 if !other.is_empty() => {
            // Another's middle.
            let from = rng.random_range(0..other.len());
            let end = (from + rng.random_range(1..65)).min(other.len());
            let over = (at + (end - from)).min(bytes.len());
            bytes.splice(at..over, other[from..end].iter().copied());
        }
        _ => {
            let count = *[1, 16, 300, 5_000].choose(rng).unwrap_or(&1);
            let byte = rng.random();
            bytes.splice(at..at, std::iter::repeat_n(byte, count));
        }
    }
}

/// Writes a number over what is there, in one of the ways that numbers travel.
fn number(bytes: &mut Vec<u8>, at: usize, rng: &mut impl Rng) {
    let value = match EDGES.choose(rng) {
        Some(edge) if rng.random_bool(0.8) => *edge,
        _ => u64::MAX,
    };
    let width = *[1, 2, 4, 8, 0].choose(rng).unwrap_or(&1);
    let encoded = match width {
        0 => varint(value),
        width if rng.random_bool(0.5) => value.to_le_bytes()[..width].to_vec(),
        width => value.to_be_bytes()[8 - width..].to_vec(),
    };
    let end = (at + encoded.len()).min(bytes.len());
    bytes.splice(at..end, encoded);
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn one_seed_makes_one_series_and_nothing_grows_without_bound() {
        let series = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut input = b"something to begin with".to_vec();
            for _ in 0..2_000 {
                input = mutate(&input, b"and something else", &mut rng);
                assert!(input.len() <= LONGEST);
            }
            input
        };
        assert_eq!(series(1), series(1));
        assert_ne!(series(1), series(2));
    }

    #[test]
    fn numbers_travel_as_protobuf_writes_them() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
