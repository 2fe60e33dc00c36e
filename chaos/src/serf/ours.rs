use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::status::{Asker, Status};
use super::{CALM, DETECT, Figures, Idle, JOIN, Kill, Plan, SETTLE};
use crate::usage::{Machine, memory, network_counters, processor_seconds, proportional_memory};
use crate::{MeshOfHosts, MeshPlan};

/// Every such host offers a service.
const SERVES: usize = 4;
/// Between two rounds of questions to all agents.
const PAUSE: Duration = Duration::from_millis(20);
/// The same while they join.
const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// What a datagram has beyond its payload: the headers of UDP and IPv4, in bytes.
const HEADERS: u64 = 28;

/// Agents that run, by number.
struct Cluster {
    mesh: MeshOfHosts,
    askers: BTreeMap<usize, Asker>,
}

/// What all agents used so far.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    cpu_s: f64,
    bytes: u64,
    packets: u64,
    gossip_bytes: u64,
}

/// Measures a mesh of agents with default timings, each with a certificate of its own; the first one is the seed of all. As
/// root, or else in a user namespace.
///
/// # Panics
/// If there are no hosts to be had here.
#[track_caller]
pub fn measure(plan: &Plan) -> Figures {
    let mesh = MeshPlan::new("serf", plan.agents).seeds(1).lay_out(|number, node| {
        if number % SERVES == 0 {
            node.service(&format!("service-{number}"), "127.0.0.1:8080").protocol("http").port(80);
        }
    });
    let mut cluster = Cluster { mesh, askers: BTreeMap::new() };
    let began = Instant::now();
    for number in 0..plan.agents {
        cluster.start(number);
        thread::sleep(plan.pace);
        if number == 0 {
            cluster.await_answers(began);
        }
    }
    let spawned = Instant::now();
    let agents_behind = cluster.await_all_alive(began, plan.agents);
    let all_alive_after_last_spawn_s = spawned.elapsed().as_secs_f64();
    let joined = cluster.used();
    eprintln!("starling: {} agents, {agents_behind} of them behind, after {:?}", plan.agents, began.elapsed());

    thread::sleep(SETTLE);
    let idle = cluster.idle(plan.idle);
    let kills: Vec<Kill> = (0..plan.kills).map(|number| cluster.kill(plan, number)).collect();
    let held_for_dead = cluster.ask_all().map(|status| status.down()).max().unwrap_or(0);
    Figures {
        agents: plan.agents,
        spawn_s: (spawned - began).as_secs_f64(),
        all_alive_after_last_spawn_s,
        agents_behind,
        join_cpu_s: joined.cpu_s,
        join_bytes: joined.bytes as f64,
        join_gossip_bytes: Some(joined.gossip_bytes as f64),
        idle,
        kills,
        falsely_failed: held_for_dead.cast_signed() as i64 - plan.kills.cast_signed() as i64,
    }
}

/// The numbers of those to kill, in turn: spread over the mesh if that is large, and the last ones first.
fn victim(plan: &Plan, number: usize) -> usize {
    let step = if plan.agents > 30 && plan.kills * 7 < plan.agents { 7 } else { 1 };
    plan.agents - 1 - number * step
}

impl Cluster {
    fn start(&mut self, number: usize) {
        self.mesh.start_agent(number);
        self.askers.insert(number, Asker::new(self.mesh.node(number).socket()));
    }

    /// Asks each; one that does not answer is left out.
    fn ask_all(&mut self) -> impl Iterator<Item = Status> {
        self.askers.values_mut().filter_map(|asker| asker.status().ok())
    }

    fn await_answers(&mut self, began: Instant) {
        let agents = self.askers.len();
        while self.ask_all().count() < agents && began.elapsed() < JOIN {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many do not see all alive when that, or the limit, has come.
    fn await_all_alive(&mut self, began: Instant, agents: usize) -> usize {
        loop {
            let behind =
                agents - self.ask_all().filter(|status| status.alive() == agents && status.down() == 0).count();
            if behind == 0 || began.elapsed() >= JOIN {
                return behind;
            }
            thread::sleep(JOIN_PAUSE);
        }
    }

    fn pids(&mut self) -> Vec<u32> {
        self.askers.keys().map(|number| self.mesh.agent(*number).pid()).collect()
    }

    fn used(&mut self) -> Used {
        let mut used = Used::default();
        for status in self.ask_all() {
            used.gossip_bytes += status.counter("bytes_sent") + HEADERS * status.counter("datagrams_sent");
        }
        for pid in self.pids() {
            let of = |file, section, name| network_counters(pid, file, section).get(name).copied().unwrap_or(0);
            used.cpu_s += processor_seconds(pid);
            used.bytes += of("netstat", "IpExt", "OutOctets");
            used.packets += of("snmp", "Ip", "OutRequests");
        }
        used
    }

    fn idle(&mut self, time: Duration) -> Idle {
        let agents = self.askers.len() as f64;
        let (machine, before) = (Machine::now(), self.used());
        thread::sleep(time);
        let after = self.used();
        let later = Machine::now();
        let wall_s = machine.until(&later).as_secs_f64();
        let each = |amount: f64| amount / wall_s / agents;
        let sent = |of: fn(&Used) -> u64| each((of(&after) - of(&before)) as f64);
        let sizes = |of: &dyn Fn(u32) -> u64, pids: &[u32]| {
            pids.iter().map(|pid| of(*pid)).sum::<u64>() as f64 / 1_024.0 / agents
        };
        let pids = self.pids();
        Idle {
            wall_s,
            cpu_ms_per_agent_s: each((after.cpu_s - before.cpu_s) * 1_000.0),
            bytes_per_agent_s: sent(|used| used.bytes),
            packets_per_agent_s: sent(|used| used.packets),
            gossip_bytes_per_agent_s: Some(sent(|used| used.gossip_bytes)),
            resident_kb_per_agent: sizes(&|pid| memory(pid, "VmRSS"), &pids),
            proportional_kb_per_agent: Some(sizes(&proportional_memory, &pids)),
            contended: machine.was_contended_until(&later),
        }
    }

    /// Kills one agent, waits until the others know, and lets them rest.
    fn kill(&mut self, plan: &Plan, number: usize) -> Kill {
        let victim = victim(plan, number);
        self.askers.remove(&victim);
        self.mesh.agent(victim).kill9();
        let (killed, dead) = (Instant::now(), number + 1);
        let mut seen = BTreeMap::new();
        while seen.len() < self.askers.len() && killed.elapsed() < DETECT {
            for (witness, asker) in &mut self.askers {
                if !seen.contains_key(witness) && asker.status().is_ok_and(|status| status.down() >= dead) {
                    seen.insert(*witness, killed.elapsed().as_secs_f64());
                }
            }
            thread::sleep(PAUSE);
        }
        let kill = Kill::new(victim, self.askers.len(), seen.into_values().collect());
        eprintln!("starling: killed {kill:?}");
        thread::sleep(CALM);
        kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_are_those_that_serf_bench_takes() {
        let plan = |agents, kills| Plan { agents, kills, pace: Duration::ZERO, idle: Duration::ZERO };
        let victims = |plan: &Plan| (0..plan.kills).map(|number| victim(plan, number)).collect::<Vec<_>>();
        assert_eq!(victims(&plan(100, 3)), [99, 92, 85]);
        assert_eq!(victims(&plan(8, 3)), [7, 6, 5]);
        assert_eq!(victims(&plan(40, 6)), [39, 38, 37, 36, 35, 34]);
    }
}
