//! How busy this host is, for others to know.

use std::fs;

/// The processor's time since the host started, in ticks of all its cores together (proc(5), `/proc/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Ticks {
    /// From the text of `/proc/stat`. Of its fields the fourth and fifth are idle; the ninth and tenth are in the first two.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        let fields: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
        let idle = fields.get(3)? + fields.get(4)?;
        let all = fields.iter().sum::<u64>();
        Some(Self { busy: all - idle, all })
    }

    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }
}

/// From this share of all cores on, in thousandths, a host is overloaded to a degree; fully when all of it is busy.
const OVERLOAD_FROM: u32 = 700;
/// A share that differs by less from what was told last is not worth a word to all: in thousandths.
const STEP: u32 = 50;
/// The average moves by this part of each new sample: it follows in some four seconds.
const SMOOTH: u32 = 4;

/// The host's processors, sampled once a second.
#[derive(Debug, Default)]
pub(super) struct HostLoad {
    before: Option<Ticks>,
    average: u32,
    told: u32,
}

impl HostLoad {
    /// Takes a sample and gives the busy share of all cores, in thousandths, in coarse steps.
    pub(super) fn sample(&mut self) -> u32 {
        self.feed(Ticks::now())
    }

    fn feed(&mut self, now: Option<Ticks>) -> u32 {
        if let (Some(before), Some(now)) = (self.before, now) {
            let all = now.all.saturating_sub(before.all).max(1);
            let busy = now.busy.saturating_sub(before.busy).saturating_mul(1_000) / all;
            let busy = u32::try_from(busy).unwrap_or(u32::MAX).min(1_000);
            self.average = (self.average * (SMOOTH - 1) + busy) / SMOOTH;
        }
        self.before = now.or(self.before);
        if self.average.abs_diff(self.told) >= STEP {
            self.told = self.average;
        }
        self.told
    }
}

/// What that share is of an overload, 0 to 100.
pub(super) const fn overload(busy: u32) -> u32 {
    busy.saturating_sub(OVERLOAD_FROM) * 100 / (1_000 - OVERLOAD_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_proc_stat_is_read() {
        let text = "cpu  100 5 50 800 40 3 2 0 9 9\ncpu0 1 2 3 4\n";
        assert_eq!(Ticks::parse(text), Some(Ticks { busy: 160, all: 1_000 }));
        for text in ["", "cpu", "cpu  1 2 3", "intr 1 2 3 4 5"] {
            assert_eq!(Ticks::parse(text), None, "{text}");
        }
        assert!(Ticks::now().is_some_and(|ticks| ticks.all > ticks.busy));
    }

    #[test]
    fn a_busy_host_shows_after_some_seconds_and_a_flicker_does_not() {
        let mut load = HostLoad::default();
        let (mut busy, mut all) = (0, 0);
        let mut feed = |load: &mut HostLoad, share: u64| {
            (busy, all) = (busy + share, all + 1_000);
            load.feed(Some(Ticks { busy, all }))
        };
        feed(&mut load, 0);
        assert_eq!(feed(&mut load, 100), 0);
        let told: Vec<u32> = (0..12).map(|_| feed(&mut load, 1_000)).collect();
        assert!(told.windows(2).all(|pair| pair[0] <= pair[1]), "{told:?}");
        assert!(told[1] < 600 && told[11] >= 900, "{told:?}");
        let before = *told.last().unwrap();
        assert_eq!(feed(&mut load, 950), before);
        assert_eq!(load.feed(None), before);
    }

    #[test]
    fn overload_begins_where_little_is_left() {
        for (busy, level) in [(0, 0), (700, 0), (850, 50), (940, 80), (1_000, 100)] {
            assert_eq!(overload(busy), level, "{busy}");
        }
    }
}
