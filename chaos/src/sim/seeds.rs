use std::time::Duration;

/// When a host dials whom that may admit it, as `node` does it: fast at first, then ever slower, and for ever.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    host: usize,
    /// `None` while a dial is under way.
    due: Option<Duration>,
    pause: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const SETTLED: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(2);

impl Seeds {
    /// All are due at once.
    pub(super) fn new(hosts: impl IntoIterator<Item = usize>, now: Duration) -> Self {
        let targets = hosts.into_iter().map(|host| Target { host, due: Some(now), pause: FIRST });
        Self { targets: targets.collect() }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.targets.iter().filter_map(|target| target.due).min()
    }

    pub(super) fn take_due(&mut self, now: Duration) -> Vec<usize> {
        let due = self.targets.iter_mut().filter(|target| target.due.is_some_and(|due| due <= now));
        due.map(|target| {
            target.due = None;
            target.host
        })
        .collect()
    }

    /// `jitter` of 0 to 1 shortens the pause by up to a quarter.
    pub(super) fn on_result(&mut self, host: usize, admitted: bool, jitter: f64, now: Duration) {
        let Some(target) = self.targets.iter_mut().find(|target| target.host == host) else { return };
        if admitted {
            target.pause = target.pause.max(SETTLED);
        }
        target.due = Some(now + target.pause.mul_f64(1.0 - jitter / 4.0));
        target.pause = (target.pause * 2).min(LONGEST);
    }

    /// Somebody was lost: dials may help now.
    pub(super) fn hasten(&mut self, now: Duration) {
        for target in &mut self.targets {
            target.due = target.due.map(|due| due.min(now + SETTLED));
            target.pause = target.pause.min(SETTLED);
        }
    }
}
