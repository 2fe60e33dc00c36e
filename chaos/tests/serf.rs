//! The measurement beside serf, in small and without serf: what it counts is there, and what it notices is so.

use std::time::Duration;

use starling_chaos::serf::{Plan, measure};

#[test]
fn a_small_mesh_is_measured_from_its_start_to_the_death_of_a_member() {
    let plan = Plan { agents: 5, pace: Duration::from_millis(50), idle: Duration::from_secs(3), kills: 1 };
    let figures = measure(&plan);
    assert!(figures.is_sound(), "{figures:?}");
    let idle = figures.idle;
    assert!(figures.join_bytes > 5_000.0 && figures.join_cpu_s > 0.0, "{figures:?}");
    let gossip = idle.gossip_bytes_per_agent_s.unwrap_or_default();
    assert!(gossip > 100.0 && gossip <= idle.bytes_per_agent_s * 1.1, "{idle:?}");
    assert!(idle.packets_per_agent_s > 1.0 && idle.resident_kb_per_agent > 1_000.0, "{idle:?}");
    let shared = idle.proportional_kb_per_agent.unwrap_or_default();
    assert!(shared > 0.0 && shared < idle.resident_kb_per_agent, "{idle:?}");
    let [kill] = figures.kills[..] else { panic!("one was killed: {figures:?}") };
    assert_eq!((kill.victim, kill.of), (4, 4));
    assert!(kill.first_s > Some(0.5) && kill.first_s <= kill.last_s && kill.last_s < Some(20.0), "{kill:?}");
}
