use serde::{Deserialize, Serialize};

/// What a cluster of agents took and did. The names are those that `serf_bench.py` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many.
    pub agents: usize,
    /// From the first start to the last, in seconds.
    pub spawn_s: f64,
    /// From the last start until each sees all alive, in seconds.
    pub all_alive_after_last_spawn_s: f64,
    /// Agents that did not see all alive in time.
    pub agents_behind: usize,
    /// Processor time of all until then, in seconds.
    pub join_cpu_s: f64,
    /// Bytes that all sent until then, at the IP layer.
    pub join_bytes: f64,
    /// Those of gossip alone, if there is more.
    #[serde(default)]
    pub join_gossip_bytes: Option<f64>,
    /// At rest.
    pub idle: Idle,
    /// One by one.
    pub kills: Vec<Kill>,
    /// The most that any agent held for dead beyond those that were killed, at the end.
    pub falsely_failed: i64,
}

/// What an agent takes while nothing happens, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// How long they were watched, in seconds.
    pub wall_s: f64,
    /// Processor time, in milliseconds a second.
    pub cpu_ms_per_agent_s: f64,
    /// Bytes sent a second, at the IP layer.
    pub bytes_per_agent_s: f64,
    /// Packets sent a second.
    pub packets_per_agent_s: f64,
    /// Bytes sent a second by gossip alone, at the IP layer; the rest is control streams. `None` where that is all there is.
    #[serde(default)]
    pub gossip_bytes_per_agent_s: Option<f64>,
    /// Resident memory at the end, in KiB. Pages that several processes share count in each.
    pub resident_kb_per_agent: f64,
    /// The same with shared pages in equal parts, after the first kill. `None` if it was not to be had.
    #[serde(default)]
    pub proportional_kb_per_agent: Option<f64>,
    /// Others used the machine meanwhile: the figures are suspect.
    pub contended: bool,
}

/// From a kill to the moments at which the others held the member for dead, in seconds; `None` if none did in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The number of the agent that was killed.
    pub victim: usize,
    /// How many noticed in time,
    pub detected_by: usize,
    /// of so many.
    pub of: usize,
    /// The first to notice.
    pub first_s: Option<f64>,
    /// Half of them had noticed.
    pub median_s: Option<f64>,
    /// The last.
    pub last_s: Option<f64>,
}

impl Kill {
    /// From the times of those who noticed.
    pub(super) fn new(victim: usize, of: usize, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let (first_s, last_s) = (times.first().copied(), times.last().copied());
        Self { victim, detected_by: times.len(), of, first_s, median_s: times.get(times.len() / 2).copied(), last_s }
    }
}

impl Figures {
    /// All joined, all noticed each death, and nobody else was taken for dead.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.agents_behind == 0 && self.falsely_failed == 0 && self.kills.iter().all(|kill| kill.detected_by == kill.of)
    }

    /// What a table says of it: the same rows for whomever.
    pub(super) fn rows(&self) -> Vec<(&'static str, Option<f64>)> {
        let agents = self.agents as f64;
        let over =
            |time: fn(&Kill) -> Option<f64>, pick: fn(f64, f64) -> f64| self.kills.iter().filter_map(time).reduce(pick);
        let mean = |time: fn(&Kill) -> Option<f64>| {
            let times: Vec<f64> = self.kills.iter().filter_map(time).collect();
            (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
        };
        let idle = &self.idle;
        vec![
            ("all alive after the last start, s", Some(self.all_alive_after_last_spawn_s)),
            ("  processor an agent until then, ms", Some(self.join_cpu_s * 1_000.0 / agents)),
            ("  sent an agent until then, KB", Some(self.join_bytes / 1_000.0 / agents)),
            ("  of these by gossip, KB", self.join_gossip_bytes.map(|bytes| bytes / 1_000.0 / agents)),
            ("kill -9: the first knows, mean, s", mean(|kill| kill.first_s)),
            ("  half of them know, mean, s", mean(|kill| kill.median_s)),
            ("  all know, mean, s", mean(|kill| kill.last_s)),
            ("  all know, worst, s", over(|kill| kill.last_s, f64::max)),
            ("idle: bytes a second an agent sends", Some(idle.bytes_per_agent_s)),
            ("  of these by gossip, bytes", idle.gossip_bytes_per_agent_s),
            ("  packets a second an agent sends", Some(idle.packets_per_agent_s)),
            ("  processor an agent, % of a core", Some(idle.cpu_ms_per_agent_s / 10.0)),
            ("  memory an agent, resident, MB", Some(idle.resident_kb_per_agent * 1_024.0 / 1e6)),
            ("  memory an agent, proportional, MB", idle.proportional_kb_per_agent.map(|kb| kb * 1_024.0 / 1e6)),
        ]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As `serf_bench.py` prints it, fields that are of no use here included.
    const SERF: &str = r#"{
        "agents": 4, "profile": "lan", "spawn_s": 0.1, "all_alive_s": 1.1, "all_alive_after_last_spawn_s": 1.0,
        "agents_behind": 0, "join_cpu_s": 0.2, "join_bytes": 8000,
        "idle": {"wall_s": 60.0, "cpu_ms_per_agent_s": 2.5, "bytes_per_agent_s": 270.0, "udp_bytes_per_agent_s": 250.0,
                 "packets_per_agent_s": 2.0, "resident_kb_per_agent": 15000.0, "contended": false},
        "kills": [{"victim": 3, "detected_by": 3, "of": 3, "first_s": 8.0, "median_s": 8.5, "last_s": 9.0},
                  {"victim": 2, "detected_by": 2, "of": 2, "first_s": 9.0, "median_s": 9.5, "last_s": 11.0}],
        "falsely_failed": 0}"#;

    pub(in crate::serf) fn serf() -> Figures {
        serde_json::from_str(SERF).expect("what serf_bench.py prints is read")
    }

    #[test]
    fn what_serf_bench_prints_is_read() {
        let figures = serf();
        assert!(figures.is_sound());
        let rows = figures.rows();
        let row =
            |start: &str| rows.iter().find(|(what, _)| what.trim_start().starts_with(start)).and_then(|row| row.1);
        assert_eq!(row("processor an agent until then"), Some(50.0));
        assert_eq!(row("kill -9: the first knows"), Some(8.5));
        assert_eq!((row("all know, mean"), row("all know, worst")), (Some(10.0), Some(11.0)));
        assert_eq!((row("of these by gossip, bytes"), row("memory an agent, proportional")), (None, None));
    }

    #[test]
    fn a_death_that_some_did_not_notice_is_no_sound_figure() {
        let kill = Kill::new(7, 4, vec![3.0, 1.0, 2.0]);
        assert_eq!((kill.first_s, kill.median_s, kill.last_s), (Some(1.0), Some(2.0), Some(3.0)));
        assert!(!Figures { kills: vec![kill], ..serf() }.is_sound());
        assert_eq!(Kill::new(7, 4, vec![]).median_s, None);
        assert!(!Figures { falsely_failed: -1, ..serf() }.is_sound());
    }
}
