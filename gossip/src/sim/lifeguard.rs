//! Who is suspected, who is believed, and who doubts itself.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::{Member, State as SwimState};
use starling_proto::NodeId;
use starling_proto::mesh::v1;

use super::World;
use super::adversary::Forged;
use crate::swim::SwimIdentity;
use crate::{Event, Input, Lifeguard, Liveness, State, Timings};

const SEEDS: std::ops::Range<u64> = 0..6;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl World {
    pub(crate) fn liveness(&self, n: usize) -> Liveness {
        self.nodes[n].engine.counters().liveness
    }

    /// Has `by` say something of node `of` to node `to`, in a packet of its own.
    fn say(&mut self, by: usize, to: usize, of: usize, incarnation: u16, state: SwimState) {
        let update = Member::new(SwimIdentity(*self.nodes[of].engine.identity()), incarnation, state);
        let mut forged = Forged::new(self, by, to).saying(self, by, to, vec![update]);
        forged.packet.counter = forged.packet.counter.max(self.floor(by, to) + 1);
        let from = self.gossip(by);
        self.input(to, Input::Datagram { from, bytes: forged.seal() });
    }

    /// Has `by` accuse node `of` before node `to`, signed by its own key.
    fn accuse(&mut self, by: usize, to: usize, of: usize, incarnation: u32) {
        let identity = *self.nodes[by].engine.identity();
        let accused = *self.nodes[of].engine.identity();
        let reason = v1::AccusationReason::ProbeFailed.into();
        let body = v1::Accusation { accused: Some((&accused).into()), incarnation, reason, failed: 1, observed: 1 };
        let kind = v1::NoticeKind::Accusation;
        let notice = crate::notice::sign(kind, identity.generation, 999, &body, &World::key(by)).unwrap();
        let mut forged = Forged::new(self, by, to);
        forged.packet.counter = forged.packet.counter.max(self.floor(by, to) + 1);
        forged.packet.notices.push(notice);
        let from = self.gossip(by);
        self.input(to, Input::Datagram { from, bytes: forged.seal() });
    }

    fn floor(&self, of: usize, at: usize) -> u64 {
        self.nodes[at].engine.resolve(&[self.nodes[of].id]).members[0].counter_floor
    }

    fn incarnation(&self, n: usize) -> u32 {
        self.nodes[n].engine.join_state(None).incarnation
    }

    /// When each node saw which others down, after a time of the run.
    fn downs(&self, n: usize, after: Duration) -> Vec<(Duration, NodeId)> {
        let events = self.nodes[n].events.iter().filter(|(at, _)| *at >= after);
        let down = |(at, event): &(Duration, Event)| match event {
            Event::MemberDown { node, .. } => Some((*at, *node)),
            _ => None,
        };
        events.filter_map(down).collect()
    }

    fn nobody_was_seen_down(&self) -> bool {
        (0..self.nodes.len()).all(|n| self.downs(n, Duration::ZERO).is_empty())
    }
}

#[test]
fn a_suspicion_is_refuted_and_a_stale_one_is_not_worth_it() {
    let mut world = World::mesh(1, 5);
    world.say(1, 0, 0, 0, SwimState::Suspect);
    assert_eq!((world.incarnation(0), world.liveness(0).refutations, world.liveness(0).health), (1, 1, 1));
    world.run_for(secs(2));
    assert!(world.all_alive() && world.liveness(0).health == 0, "{}", world.table());
    // Said again, by one who missed that.
    world.say(2, 0, 0, 0, SwimState::Suspect);
    world.run_for(secs(1));
    assert!(world.incarnation(0) <= 2);
    assert!(world.nobody_was_seen_down());
}

#[test]
fn a_suspicion_of_another_is_believed_for_its_incarnation_only_and_once() {
    let mut world = World::mesh(1, 5);
    world.deafen(&[0], &[2]);
    world.deafen(&[2], &[0]);
    world.say(1, 0, 2, 0, SwimState::Suspect);
    assert_eq!(world.sees(0, 2), Some(State::Suspect));
    world.say(1, 0, 2, 0, SwimState::Suspect);
    assert_eq!(world.sees(0, 2), Some(State::Suspect));
    world.say(1, 0, 2, 0, SwimState::Alive);
    assert_eq!(world.sees(0, 2), Some(State::Suspect));
    world.say(1, 0, 2, 1, SwimState::Alive);
    assert_eq!(world.sees(0, 2), Some(State::Alive));
    world.say(1, 0, 2, 0, SwimState::Suspect);
    assert_eq!(world.sees(0, 2), Some(State::Alive));
}

#[test]
fn the_word_of_one_that_a_member_is_down_is_not_believed_and_remembered_against_it() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.say(1, 0, 2, 0, SwimState::Down);
        assert_eq!(world.sees(0, 2), Some(State::Alive));
        world.run_for(secs(3));
        assert!(world.all_alive() && world.nobody_was_seen_down(), "seed {seed}{}", world.table());
        let (node, by) = (world.nodes[2].id, world.nodes[1].id);
        let named = world.nodes[0].events.iter().any(|(_, event)| *event == Event::DownDismissed { node, by });
        let Liveness { downs_withheld, downs_dismissed, .. } = world.liveness(0);
        assert_eq!((named, downs_withheld, downs_dismissed), (true, 1, 1), "seed {seed}");
    }
}

#[test]
fn a_stale_word_that_a_member_is_down_is_not_even_looked_at() {
    let mut world = World::mesh(1, 5);
    world.say(1, 2, 2, 0, SwimState::Suspect);
    world.run_for(secs(2));
    assert_eq!(world.incarnation(2), 1);
    world.say(1, 0, 2, 0, SwimState::Down);
    assert_eq!((world.sees(0, 2), world.liveness(0).downs_withheld), (Some(State::Alive), 0));
}

#[test]
fn the_word_of_one_is_believed_where_two_accuse_or_in_a_small_mesh_one() {
    for (size, accusers, believed) in [(5, 1, false), (5, 2, true), (3, 0, false), (3, 1, true)] {
        let mut world = World::mesh(1, size);
        for by in (1..size).filter(|by| *by != 2).take(accusers) {
            world.accuse(by, 0, 2, 0);
        }
        world.say(1, 0, 2, 0, SwimState::Down);
        let down = world.sees(0, 2) == Some(State::Down);
        assert_eq!(down, believed, "{accusers} of {size}");
        // It was wrong: the member says so itself, and keeps its identity.
        let took = world.run_until(secs(5), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(2)), "{took:?}{}", world.table());
        assert_eq!(world.nodes[2].engine.identity().rejoin, 0);
    }
}

#[test]
fn an_accusation_counts_once_and_not_after_it_was_refuted() {
    let mut world = World::mesh(1, 5);
    world.accuse(1, 0, 2, 0);
    world.accuse(1, 0, 2, 0);
    let accused = |world: &World| {
        let accused = world.nodes[0].events.iter().filter(|(_, event)| matches!(event, Event::Accused { .. }));
        accused.count()
    };
    assert_eq!(accused(&world), 1);
    // The buddy: whoever knows tells the accused, which refutes.
    world.run_for(secs(4));
    assert_eq!(world.incarnation(2), 1);
    world.accuse(3, 0, 2, 0);
    assert_eq!(accused(&world), 1);
}

#[test]
fn a_blocked_gossip_port_is_not_death_while_quic_works() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.deafen(&[4], &[0, 1, 2, 3]);
        world.deafen(&[0, 1, 2, 3], &[4]);
        world.run_for(secs(60));
        assert!(world.nobody_was_seen_down(), "seed {seed}{}", world.table());
        assert!(world.liveness(0).stream_pings > 10, "{:?}", world.liveness(0));
        let suspects = world.nodes[0].events.iter().filter(|(_, event)| matches!(event, Event::MemberSuspect { .. }));
        assert_eq!(suspects.count(), 0, "seed {seed}");
    }
}

#[test]
fn one_that_hears_nothing_by_datagram_but_is_heard_stays_too() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.deafen(&[0, 1, 2, 3], &[4]);
        world.run_for(secs(60));
        assert!(world.nobody_was_seen_down(), "seed {seed}{}", world.table());
    }
}

#[test]
fn one_that_is_heard_by_nobody_in_any_way_is_down_though_it_hears_all() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.no_connections = true;
        world.deafen(&[4], &[0, 1, 2, 3]);
        let took = world.run_until(secs(20), |world| world.all_see(4, State::Down));
        assert!(took.is_some_and(|took| took < secs(8)), "seed {seed}: {took:?}{}", world.table());
        let others = (0..4).all(|n| (0..4).all(|of| world.sees(n, of) == Some(State::Alive)));
        assert!(others, "seed {seed}{}", world.table());
    }
}

#[test]
fn a_path_that_is_cut_between_two_harms_neither() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 5);
        world.cut(&[3], &[4]);
        world.run_for(secs(60));
        assert!(world.nobody_was_seen_down(), "seed {seed}{}", world.table());
    }
}

#[test]
fn one_that_was_suspended_blames_nobody_and_is_back_at_once() {
    for (seed, time) in SEEDS.zip([1, 3, 10, 60, 60, 600]) {
        let mut world = World::mesh(seed, 5);
        world.suspend(4);
        world.run_for(secs(time));
        let woke = world.now - world.start;
        world.resume(4);
        let took = world.run_until(secs(10), World::all_alive);
        assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}: {took:?}{}", world.table());
        world.run_for(secs(20));
        assert!(world.all_alive(), "seed {seed}{}", world.table());
        assert_eq!(world.downs(4, Duration::ZERO), [], "seed {seed}");
        for n in 0..4 {
            assert_eq!(world.downs(n, woke), [], "seed {seed}, node {n}");
        }
        assert!(world.liveness(4).stalls > 0 && world.liveness(4).health <= 1);
    }
}

#[test]
fn one_that_is_cut_off_takes_nobody_for_dead_for_a_minute_then_five_a_second_at_most() {
    let mut world = World::mesh(1, 12);
    let others: Vec<_> = (0..11).collect();
    world.cut(&[11], &others);
    let cut = world.now - world.start;
    world.run_for(secs(59));
    let held = |event: &Event| matches!(event, Event::CutOff { .. });
    let at = world.nodes[11].events.iter().find(|(_, event)| held(event)).map(|(at, _)| at.saturating_sub(cut));
    assert!(at.is_some_and(|at| at < secs(40)), "{at:?}");
    assert_eq!((world.downs(11, Duration::ZERO), world.liveness(11).holds), (vec![], 1));
    world.run_for(secs(120));
    let downs: Vec<_> = world.downs(11, Duration::ZERO).into_iter().map(|(at, _)| at).collect();
    assert_eq!(downs.len(), 11, "{downs:?}");
    assert!(downs.windows(2).all(|two| two[1] >= two[0] + Duration::from_millis(200)), "{downs:?}");
    assert!((0..11).all(|n| world.downs(n, Duration::ZERO).len() == 1), "the others see one down");
    world.heal();
    let took = world.run_until(secs(20), World::all_alive);
    assert!(took.is_some_and(|took| took < secs(10)), "{took:?}{}", world.table());
}

#[test]
fn a_cut_that_ends_while_it_holds_leaves_no_trace_with_it() {
    let mut world = World::mesh(2, 12);
    let others: Vec<_> = (0..11).collect();
    world.cut(&[11], &others);
    world.run_for(secs(45));
    world.heal();
    let took = world.run_until(secs(20), World::all_alive);
    assert!(took.is_some_and(|took| took < secs(5)), "{took:?}{}", world.table());
    assert_eq!(world.downs(11, Duration::ZERO), []);
    assert_eq!(world.nodes[11].engine.identity().rejoin, 0);
}

#[test]
fn a_live_connection_beats_a_down() {
    let mut world = World::mesh(1, 5);
    world.cut(&[4], &[0, 1, 2, 3]);
    assert!(world.run_until(secs(10), |world| world.all_see(4, State::Down)).is_some());
    let node = world.nodes[4].id;
    world.input(0, Input::Link { node, up: true });
    assert_eq!(world.sees(0, 4), Some(State::Alive));
    assert_eq!(world.liveness(0).revivals, 1);
    // It is still there, and changes nothing more: the member is suspected as any other.
    world.input(0, Input::Link { node, up: true });
    assert!(world.run_until(secs(20), |world| world.sees(0, 4) == Some(State::Down)).is_some(), "{}", world.table());
}

#[test]
fn probes_that_are_answered_heal_and_those_that_nobody_hears_hurt() {
    let mut world = World::mesh(1, 5);
    world.run_for(secs(5));
    assert_eq!(world.liveness(0).health, 0);
    // All relays are well and say that they were asked: the fault is not ours.
    world.kill(4);
    world.run_for(secs(4));
    let Liveness { probes_failed, health, indirect_probes, .. } = world.liveness(0);
    assert!(probes_failed > 0 && indirect_probes >= 3 && health == 0, "{probes_failed} {indirect_probes} {health}");
    // Nobody says anything: it is.
    world.cut(&[0], &[1, 2, 3]);
    world.run_for(secs(6));
    let ill = world.liveness(0).health;
    assert!((2..=8).contains(&ill), "{ill}");
    world.heal();
    world.run_for(secs(20));
    assert_eq!(world.liveness(0).health, 0);
}

/// How long node 0 suspects one that died before it takes it for down, in milliseconds, if so many others say the same.
/// Nobody but node 0 probes: who confirms it is up to the test.
fn suspected_for(seed: u64, confirm: usize) -> u128 {
    let mut world = World::new(seed);
    for n in 0..5 {
        world.timings.probe_period = if n == 0 { Timings::default().probe_period } else { secs(3_600) };
        world.add(&format!("n{n}"));
    }
    (1..5).for_each(|n| world.dial(n, 0));
    assert!(world.run_until(secs(10), World::all_alive).is_some(), "{}", world.table());
    world.kill(4);
    assert!(world.run_until(secs(10), |world| world.sees(0, 4) == Some(State::Suspect)).is_some());
    (1..=confirm).for_each(|n| world.accuse(n, 0, 4, 0));
    world.run_until(secs(30), |world| world.sees(0, 4) == Some(State::Down)).unwrap().as_millis()
}

#[test]
fn the_more_confirm_a_suspicion_the_sooner_it_ends() {
    for seed in SEEDS {
        let times = [0, 1, 2, 3].map(|confirm| suspected_for(seed, confirm));
        // 7 s for one alone and 1.2 s for as many as are expected, in logarithmic steps (Lifeguard, section IV.B).
        for (took, expected) in times.into_iter().zip([7_000, 4_100, 2_403, 1_200]) {
            assert!(took.abs_diff(expected) <= 10, "seed {seed}: {times:?}");
        }
    }
}

#[test]
fn without_lifeguard_anyone_is_believed_and_nobody_is_asked_by_quic() {
    let mut world = World::new(1);
    world.lifeguard = Lifeguard::Off;
    for n in 0..5 {
        world.add(&format!("n{n}"));
    }
    (1..5).for_each(|n| world.dial(n, 0));
    assert!(world.run_until(secs(10), World::all_alive).is_some());
    world.say(1, 0, 2, 0, SwimState::Down);
    assert_eq!(world.sees(0, 2), Some(State::Down));
    assert!(world.run_until(secs(20), World::all_alive).is_some(), "{}", world.table());
    world.kill(4);
    let took = world.run_until(secs(30), |world| world.all_see(4, State::Down));
    assert!(took.is_some_and(|took| took > secs(7)), "{took:?}");
    assert_eq!((world.liveness(0).stream_pings, world.liveness(0).health), (0, 0));
}

#[test]
fn the_states_that_a_mesh_goes_through_are_those_that_it_may() {
    // Whatever happens, a member is up, suspect, down or left in an order that makes sense, at every node.
    for seed in SEEDS {
        let mut world = World::mesh(seed, 6);
        world.loss = 0.2;
        world.run_for(secs(10));
        world.cut(&[5], &[0, 1, 2]);
        world.run_for(secs(10));
        world.suspend(1);
        world.run_for(secs(10));
        world.resume(1);
        world.heal();
        world.loss = 0.0;
        assert!(world.run_until(secs(30), World::all_alive).is_some(), "seed {seed}{}", world.table());
        for node in &world.nodes {
            let mut states: BTreeMap<NodeId, State> = BTreeMap::new();
            for (at, event) in &node.events {
                let (of, to) = match event {
                    Event::MemberUp { node, .. } => (node, State::Alive),
                    Event::MemberSuspect { node, .. } => (node, State::Suspect),
                    Event::MemberDown { node, .. } => (node, State::Down),
                    _ => continue,
                };
                let from = states.insert(*of, to);
                let may = matches!(
                    (from, to),
                    (None | Some(State::Suspect | State::Down), State::Alive)
                        | (Some(State::Alive), State::Suspect)
                        | (Some(State::Alive | State::Suspect), State::Down)
                );
                assert!(may, "seed {seed}, {at:?}: {from:?} to {to:?}");
            }
            assert_eq!(node.engine.counters().swim_errors, 0, "seed {seed}");
        }
    }
}
