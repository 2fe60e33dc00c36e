use std::time::Instant;

use rand::Rng;
use starling_proto::{Endpoint, EndpointKey};

use crate::{Cluster, Entry, Pick, PickError};

/// How good a choice is; an endpoint is taken from the best rank that has any. Within a rank two drawn by lot are
/// compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Healthy, not draining, not ejected (or nobody cares: panic), not avoided.
    Good,
    /// It failed a lot, of late.
    Ejected,
    /// Its owner asks for no new requests.
    Draining,
    /// Its owner says that it can't serve.
    Unhealthy,
    /// Nothing comes back from its node now.
    Avoided,
}

impl Cluster {
    /// Chooses the endpoint for one try: of two drawn by lot the one with the lower (in flight + 1) x latency ("power of
    /// two choices" over peak EWMA).
    ///
    /// - `exclude`: those that this request has tried: never chosen again
    /// - `avoid`: says of an endpoint that its connection is silent: chosen only if nothing else is left. It must
    ///   be cheap: usually called twice, at most two times more than there are endpoints
    /// - ejected ones are left out, and those that are draining or unhealthy, unless nothing better is left; if over
    ///   half are ejected, none counts as ejected
    ///
    /// No allocation. The usual case reads two endpoints; only when one of the two can't be used, all.
    ///
    /// # Errors
    /// If there is no endpoint, or all were excluded.
    pub fn pick(
        &self,
        exclude: &[EndpointKey],
        avoid: impl Fn(&Endpoint) -> bool,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Result<Pick, PickError> {
        let at = self.timeline.nanos(now);
        let random = rng.next_u64();
        let is_free = |entry: &Entry| {
            !entry.stats().is_ejected(at) && !exclude.contains(&entry.endpoint().key) && !avoid(entry.endpoint())
        };
        let entry = match self.two_choices(random, is_free, at) {
            Some(entry) => entry,
            None => self.best_of_all(exclude, &avoid, rng, at)?,
        };
        // The low bits of a draw that used the high ones: good enough to spread the end of an ejection.
        #[allow(clippy::cast_possible_truncation)]
        let jitter = random as u16;
        Ok(Pick::new(entry.clone(), self.timeline, at, jitter))
    }

    /// The usual case: two of those that are ready, if both are free.
    fn two_choices(&self, random: u64, is_free: impl Fn(&Entry) -> bool, now: u64) -> Option<&Entry> {
        let (first, second) = match &self.entries[..self.ready] {
            [] => return None,
            [only] => return is_free(only).then_some(only),
            ready => {
                let [low, high] = halves(random);
                let first = below(low, ready.len());
                let second = below(high, ready.len() - 1);
                (&ready[first], &ready[if second >= first { second + 1 } else { second }])
            }
        };
        (is_free(first) && is_free(second)).then(|| cheaper(first, second, now))
    }

    /// Something is wrong with some: looks at all, and draws two of the best rank (reservoir sampling).
    #[cold]
    #[inline(never)]
    fn best_of_all(
        &self,
        exclude: &[EndpointKey],
        avoid: &impl Fn(&Endpoint) -> bool,
        rng: &mut impl Rng,
        now: u64,
    ) -> Result<&Entry, PickError> {
        let panic = self.panics_at(now);
        let mut best: Option<(Rank, &Entry, Option<&Entry>)> = None;
        let mut seen = 0;
        for entry in self.entries.iter().filter(|entry| !exclude.contains(&entry.endpoint().key)) {
            let rank = rank(entry, panic, avoid, now);
            match &mut best {
                Some((best_rank, ..)) if rank > *best_rank => {}
                Some((best_rank, first, second)) if rank == *best_rank => {
                    seen += 1;
                    // The n-th of its rank takes one of the two places with probability 2/n.
                    match (&second, below(halves(rng.next_u64())[0], seen)) {
                        (None, _) | (Some(_), 1) => *second = Some(entry),
                        (Some(_), 0) => *first = entry,
                        _ => {}
                    }
                }
                _ => (best, seen) = (Some((rank, entry, None)), 1),
            }
        }
        match best {
            None if self.is_empty() => Err(PickError::Empty),
            None => Err(PickError::AllTried),
            Some((_, only, None)) => Ok(only),
            // Of equals the first is taken: neither may always stand there.
            Some((_, first, Some(second))) if rng.next_u32() & 1 == 0 => Ok(cheaper(first, second, now)),
            Some((_, first, Some(second))) => Ok(cheaper(second, first, now)),
        }
    }
}

fn rank(entry: &Entry, panic: bool, avoid: &impl Fn(&Endpoint) -> bool, now: u64) -> Rank {
    let endpoint = entry.endpoint();
    if avoid(endpoint) {
        Rank::Avoided
    } else if !endpoint.healthy {
        Rank::Unhealthy
    } else if endpoint.draining {
        Rank::Draining
    } else if entry.stats().is_ejected(now) && !panic {
        Rank::Ejected
    } else {
        Rank::Good
    }
}

fn cheaper<'c>(first: &'c Entry, second: &'c Entry, now: u64) -> &'c Entry {
    if second.cost(now) < first.cost(now) { second } else { first }
}

/// Both halves of a random number.
#[allow(clippy::cast_possible_truncation)]
const fn halves(random: u64) -> [u32; 2] {
    [random as u32, (random >> 32) as u32]
}

/// A number below `n`, as even as 32 random bits can make it.
#[allow(clippy::cast_possible_truncation)]
const fn below(random: u32, n: usize) -> usize {
    ((random as u64 * n as u64) >> 32) as usize
}

#[cfg(test)]
mod tests;
