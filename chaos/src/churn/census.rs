//! What both agents hold, once nothing is asked of them.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::pair::metrics::{metrics, sum};
use crate::pair::{Agent, Pair};
use crate::usage::memory;

/// What is kept for the next request is let go of within this (idle connections, the goodbye of others).
const REST: Duration = Duration::from_secs(45);
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Of one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Files and sockets that are open.
    pub descriptors: u64,
    /// Tasks of its shards: one at least for each connection, stream and body that goes on.
    pub tasks: u64,
    /// Connections of local programs.
    pub connections: u64,
    /// Requests and connections that it serves from its local services.
    pub in_flight: u64,
    /// Connections of opaque TCP, and of protocols that were switched to.
    pub open_tcp: u64,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// Of both.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Census {
    pub(super) caller: Held,
    pub(super) server: Held,
}

impl Census {
    /// Waits until no more is held than `before`, or, for the first time, until what is held stays the same.
    pub(super) fn at_rest(agents: &Pair, before: Option<&Self>) -> Self {
        let start = Instant::now();
        let mut last = Self::now(agents);
        loop {
            std::thread::sleep(BETWEEN_LOOKS);
            let now = Self::now(agents);
            let rests = match before {
                Some(before) => now.leaks(before).is_empty(),
                None => start.elapsed() > Duration::from_secs(8) && now.open() == last.open() && now.is_closed(),
            };
            if rests || start.elapsed() > REST {
                return now;
            }
            last = now;
        }
    }

    fn now(agents: &Pair) -> Self {
        Self { caller: Held::of(&agents.caller), server: Held::of(&agents.server) }
    }

    fn open(&self) -> [u64; 4] {
        [self.caller.descriptors, self.caller.tasks, self.server.descriptors, self.server.tasks]
    }

    fn is_closed(&self) -> bool {
        [self.caller, self.server].iter().all(|held| held.connections + held.in_flight + held.open_tcp == 0)
    }

    /// What is held beyond what was held before, in words.
    pub(super) fn leaks(&self, before: &Self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (name, now, then) in [("caller", self.caller, before.caller), ("server", self.server, before.server)] {
            let mut hold = |what: &str, now: u64, most: u64| {
                if now > most {
                    leaks.push(format!("the {name}'s agent holds {now} {what}, and may hold {most}"));
                }
            };
            hold("descriptors", now.descriptors, then.descriptors + 4);
            hold("tasks", now.tasks, then.tasks + 4);
            hold("connections of local programs", now.connections, 0);
            hold("requests in flight", now.in_flight, 0);
            hold("connections of opaque TCP", now.open_tcp, 0);
        }
        leaks
    }
}

impl Held {
    fn of(agent: &Agent) -> Self {
        let text = metrics(agent.admin());
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).map_or(0, Iterator::count);
        Self {
            descriptors: descriptors as u64,
            tasks: sum(&text, "starling_shard_tasks", ""),
            connections: sum(&text, "starling_local_connections", ""),
            in_flight: sum(&text, "starling_in_flight", ""),
            open_tcp: sum(&text, "starling_tcp_open_connections", ""),
            resident: memory(agent.pid(), "VmRSS"),
        }
    }
}
