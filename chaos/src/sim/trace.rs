use std::time::Duration;

/// A hash over all that happened: two runs with one hash were the same run.
///
/// FNV-1a with 64 bits: it tells runs apart, it is no protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace(u64);

impl Trace {
    pub(super) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, at: Duration, host: usize, what: u8, bytes: &[u8]) {
        self.word(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        self.word(host as u64);
        self.word(u64::from(what));
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.word(u64::from_be_bytes(*word));
        }
        for byte in rest {
            self.word(u64::from(*byte));
        }
    }

    pub(super) const fn hash(self) -> u64 {
        self.0
    }

    const fn word(&mut self, word: u64) {
        // A word at a time, with the high bits brought down: a multiplication alone never does that.
        let mixed = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = mixed ^ (mixed >> 29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_anything_changes_the_hash() {
        let hash = |at, host, what, bytes: &[u8]| {
            let mut trace = Trace::new();
            trace.add(Duration::from_nanos(at), host, what, bytes);
            trace.hash()
        };
        let bytes = [7; 21];
        let one = hash(1, 2, 3, &bytes);
        assert_eq!(one, hash(1, 2, 3, &bytes));
        for other in [hash(2, 2, 3, &bytes), hash(1, 3, 3, &bytes), hash(1, 2, 4, &bytes), hash(1, 2, 3, &bytes[1..])] {
            assert_ne!(one, other);
        }
        for n in 0..bytes.len() {
            let mut changed = bytes;
            changed[n] ^= 0x80;
            assert_ne!(one, hash(1, 2, 3, &changed), "byte {n}");
        }
    }
}
