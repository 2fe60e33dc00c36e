use std::ops::Range;

/// What was sent, second by second.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Of each host in this second: bytes of datagrams, and of control streams.
    now: Vec<[u32; 2]>,
    packets: u64,
    pub(super) seconds: Vec<Second>,
    /// Datagrams that a process did not read in time.
    pub(super) overrun: u64,
}

/// One second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Second {
    /// Bytes of UDP payload that a node sent on average,
    pub(super) gossip: f64,
    /// and the one that sent most.
    pub(super) gossip_most: f64,
    /// Bytes that a node sent on control streams on average, as far as they are modelled.
    pub(super) control: f64,
    /// Datagrams that a node sent on average.
    pub(super) packets: f64,
}

impl Traffic {
    pub(super) fn new(hosts: usize) -> Self {
        Self { now: vec![[0; 2]; hosts], packets: 0, seconds: Vec::new(), overrun: 0 }
    }

    pub(super) fn sent(&mut self, host: usize, bytes: usize) {
        self.packets += 1;
        let sum = &mut self.now[host][0];
        *sum = sum.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(super) fn control(&mut self, host: usize, bytes: usize) {
        let sum = &mut self.now[host][1];
        *sum = sum.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(super) fn on_second(&mut self) {
        let hosts = self.now.len().max(1) as f64;
        let sum = |part: usize| self.now.iter().map(|sums| f64::from(sums[part])).sum::<f64>() / hosts;
        let most = self.now.iter().map(|sums| sums[0]).max().unwrap_or_default();
        self.seconds.push(Second {
            gossip: sum(0),
            gossip_most: f64::from(most),
            control: sum(1),
            packets: self.packets as f64 / hosts,
        });
        self.packets = 0;
        self.now.fill([0; 2]);
    }

    /// The mean of something over some seconds; `None` if there were none.
    pub(super) fn mean(&self, range: Range<usize>, of: impl Fn(&Second) -> f64) -> Option<f64> {
        let seconds = self.seconds.get(range.start..range.end.min(self.seconds.len()))?;
        (!seconds.is_empty()).then(|| seconds.iter().map(of).sum::<f64>() / seconds.len() as f64)
    }

    /// The most of something in any second from one on.
    pub(super) fn peak(&self, from: usize, of: impl Fn(&Second) -> f64) -> Option<f64> {
        self.seconds.get(from..)?.iter().map(of).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_second_by_second_as_mean_and_most() {
        let mut traffic = Traffic::new(4);
        traffic.sent(0, 100);
        traffic.sent(0, 100);
        traffic.sent(1, 100);
        traffic.control(3, 40);
        traffic.on_second();
        traffic.on_second();
        let first = Second { gossip: 75.0, gossip_most: 200.0, control: 10.0, packets: 0.75 };
        assert_eq!(traffic.seconds[0], first);
        assert_eq!(traffic.mean(0..2, |second| second.gossip), Some(37.5));
        assert_eq!(traffic.peak(1, |second| second.gossip), Some(0.0));
        assert_eq!(traffic.mean(5..9, |second| second.gossip), None);
    }
}
