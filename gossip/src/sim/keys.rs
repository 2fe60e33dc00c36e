//! Rotations of the group key, while the mesh runs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use starling_proto::mesh::v1;

use super::adversary::Forged;
use super::{GROUP_KEY, Happening, World};
use crate::{Event, Input, Keyring, Offence, Rejection, SigningKey, Statement, StatementError};

const SEEDS: std::ops::Range<u64> = 0..8;
const NEW_KEY: [u8; 32] = [43; 32];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn administrator() -> SigningKey {
    SigningKey::from_seed([99; 32]).unwrap()
}

/// The keys of a node: from its files, and what its disk holds.
pub(super) fn keyring(disk: &v1::KeyringState) -> Keyring {
    let ring = Keyring::try_new(vec![(1, GROUP_KEY)]).unwrap();
    let mut ring = ring.governed_by("demo.example".parse().unwrap(), vec![administrator().public_key()]);
    ring.recall(disk).unwrap();
    ring
}

fn first() -> Statement {
    Statement::of_files("demo.example".parse().unwrap(), &[(1, GROUP_KEY)]).unwrap()
}

fn signed(statement: &Statement, by: &SigningKey) -> v1::KeyringState {
    let keys = [(1, GROUP_KEY), (2, NEW_KEY)].into_iter().filter(|(epoch, _)| statement.key(*epoch).is_some());
    let keys = keys.map(|(epoch, key)| v1::GroupKey { epoch, key: key.to_vec().into() });
    let signed = statement.signed_by(by.public_key(), |message| by.sign(message));
    v1::KeyringState { signed: Some(signed), keys: keys.collect() }
}

/// Install, use, remove.
fn rotation() -> [v1::KeyringState; 3] {
    let installed = first().install(&NEW_KEY, 1).unwrap();
    let used = installed.use_epoch(2, 2).unwrap();
    let removed = used.remove(1, 3).unwrap();
    [installed, used, removed].map(|statement| signed(&statement, &administrator()))
}

impl World {
    /// Group keys are exchanged, if the path is open.
    pub(super) fn exchange_keys(&mut self, from: usize, at: SocketAddr) {
        if let Some(to) = self.at(at).filter(|_| !self.no_connections) {
            let state = self.nodes[from].engine.keyring_state();
            self.later(Happening::Keys { from, to, state, ask: true });
        }
    }

    pub(super) fn take_keys(&mut self, from: usize, to: usize, state: v1::KeyringState, ask: bool) {
        let peer = self.nodes[from].id;
        self.input(to, Input::Keys { from: Some(peer), state });
        if ask {
            let state = self.nodes[to].engine.keyring_state();
            self.later(Happening::Keys { from: to, to: from, state, ask: false });
        }
    }

    fn operate(&mut self, n: usize, state: &v1::KeyringState) {
        assert_eq!(self.nodes[n].engine.check_keys(state), Ok(true));
        self.input(n, Input::Keys { from: None, state: state.clone() });
    }

    fn revision(&self, n: usize) -> u64 {
        self.nodes[n].engine.key_report().revision
    }

    fn all_at(&self, revision: u64) -> bool {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].up).all(|n| self.revision(n) == revision)
    }

    /// Datagrams that arrived and could not be opened.
    fn unopened(&self) -> u64 {
        let of =
            |reason| self.nodes.iter().filter_map(move |node| node.engine.counters().rejected.get(&reason).copied());
        of(Rejection::Epoch).chain(of(Rejection::Unsealed)).sum()
    }
}

/// The epochs that datagrams were sealed with, of those sent since the tap was opened.
fn sealed_with(world: &mut World) -> BTreeSet<u32> {
    let tapped = world.tap.take().unwrap_or_default();
    tapped.iter().map(|(_, _, bytes)| u32::from_be_bytes(bytes[1..5].try_into().unwrap())).collect()
}

#[test]
fn a_rotation_under_way_loses_no_packet_though_each_step_follows_before_the_last_has_spread() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 24);
        for (n, state) in rotation().iter().enumerate() {
            // By three operators, none of whom waits for the others' nodes.
            world.operate(5 * n, state);
            world.run_for(Duration::from_millis(20));
        }
        let took = world.run_until(secs(5), |world| world.all_at(3));
        assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}: {took:?}");
        world.run_for(secs(20));
        world.tap = Some(Vec::new());
        world.run_for(secs(5));
        assert_eq!(sealed_with(&mut world), BTreeSet::from([2]), "seed {seed}");
        assert_eq!(world.unopened(), 0, "seed {seed}");
        assert!(world.all_alive(), "seed {seed}{}", world.table());
        let doubted = |event: &Event| matches!(event, Event::MemberSuspect { .. } | Event::MemberDown { .. });
        assert!(!world.nodes.iter().any(|node| node.events.iter().any(|(_, event)| doubted(event))), "seed {seed}");
        let report = world.nodes[0].engine.key_report();
        assert!(report.peers.values().all(|peer| peer.current && peer.accepts == [2]), "{report:?}");
        assert_eq!((report.in_use, report.keys.len(), report.lingering), (2, 1, vec![]));
    }
}

#[test]
fn in_a_network_that_loses_a_tenth_each_step_of_a_rotation_is_known_to_all_within_three_seconds() {
    for seed in 0..3 {
        let mut world = World::mesh(seed, 24);
        world.loss = 0.1;
        for (n, state) in rotation().iter().enumerate() {
            world.operate(n, state);
            let took = world.run_until(secs(10), |world| world.all_at(n as u64 + 1));
            assert!(took.is_some_and(|took| took < secs(3)), "seed {seed}, step {n}: {took:?}");
        }
        world.run_for(secs(15));
        assert_eq!(world.unopened(), 0, "seed {seed}");
    }
}

#[test]
fn who_can_not_be_given_a_new_key_is_still_spoken_to_with_the_one_it_has() {
    let mut world = World::mesh(8, 6);
    world.no_connections = true;
    for state in &rotation()[..2] {
        world.operate(0, state);
    }
    world.run_for(secs(30));
    assert_eq!((world.revision(0), world.revision(1)), (2, 0));
    assert!(world.all_alive(), "{}", world.table());
    assert_eq!(world.unopened(), 0);
    world.no_connections = false;
    let took = world.run_until(secs(90), |world| world.all_at(2));
    assert!(took.is_some(), "exchanges are tried again, at least once a minute");
}

#[test]
fn who_was_cut_off_during_a_rotation_has_the_keys_after_the_heal() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 9);
        let (few, many) = ([7, 8], [0, 1, 2, 3, 4, 5, 6]);
        world.cut(&few, &many);
        for state in &rotation() {
            world.operate(0, state);
            world.run_for(secs(15));
        }
        assert_eq!((world.revision(1), world.revision(7)), (3, 0));
        world.heal();
        let took = world.run_until(secs(30), |world| world.all_at(3) && world.all_alive());
        assert!(took.is_some_and(|took| took < secs(12)), "seed {seed}: {took:?}{}", world.table());
    }
}

#[test]
fn a_node_that_comes_back_with_the_files_of_before_gets_the_keys_as_it_joins() {
    let mut world = World::mesh(3, 5);
    world.kill(4);
    for state in &rotation() {
        world.operate(0, state);
    }
    world.run_for(secs(15));
    world.restart(4, 2_000, 1);
    let took = world.run_until(secs(5), |world| world.all_at(3) && world.all_alive());
    assert!(took.is_some_and(|took| took < secs(1)), "{took:?}{}", world.table());
    assert_eq!(world.unopened(), 0);
    // And it starts with them the next time.
    world.kill(4);
    world.no_connections = true;
    world.restart(4, 3_000, 1);
    assert_eq!(world.revision(4), 3);
}

#[test]
fn a_whole_mesh_that_restarts_keeps_its_keys() {
    let mut world = World::mesh(4, 5);
    for state in &rotation() {
        world.operate(0, state);
    }
    world.run_for(secs(5));
    (0..5).for_each(|n| world.kill(n));
    world.run_for(secs(60));
    (0..5).for_each(|n| world.restart(n, 2_000, (n + 1) % 5));
    assert!(world.all_at(3));
    assert!(world.run_until(secs(5), World::all_alive).is_some(), "{}", world.table());
    assert_eq!(world.unopened(), 0);
}

#[test]
fn who_has_only_a_removed_key_is_shut_out() {
    let mut world = World::mesh(5, 4);
    for state in &rotation() {
        world.operate(0, state);
    }
    world.run_for(secs(2));
    let unopened = |world: &World| world.nodes[1].engine.counters().rejected.get(&Rejection::Epoch).copied();
    let mut forged = Forged::new(&world, 3, 1);
    world.transmit(world.gossip(3), world.gossip(1), forged.seal());
    world.run_for(secs(1));
    assert_eq!(unopened(&world), None, "it is accepted for a moment after its removal");
    world.run_for(secs(10));
    forged.packet.counter += 1;
    world.transmit(world.gossip(3), world.gossip(1), forged.seal());
    world.run_for(secs(1));
    assert_eq!(unopened(&world), Some(1));
}

#[test]
fn a_member_can_not_change_the_keys() {
    let mut world = World::mesh(6, 4);
    let member = World::key(2);
    let forged = signed(&first().install(&NEW_KEY, 1).unwrap(), &member);
    let mut renamed = forged.clone();
    renamed.signed.as_mut().unwrap().administrator = administrator().public_key().to_vec().into();
    let mut poisoned = rotation()[0].clone();
    poisoned.keys[1].key = vec![0xee; 32].into();
    let from = Some(world.nodes[2].id);
    let refused = [
        (forged, StatementError::UnknownAdministrator),
        (renamed, StatementError::Forged),
        (poisoned, StatementError::WrongKey(2)),
    ];
    for (state, error) in refused {
        world.input(0, Input::Keys { from, state });
        let told = Event::KeysRefused { from, error };
        assert!(world.nodes[0].events.iter().any(|(_, event)| *event == told), "{told:?}");
        assert_eq!(world.revision(0), 0);
    }
    let blamed = world.nodes[0].engine.offenders();
    assert_eq!(blamed, [(world.nodes[2].id, [(Offence::ForgedKeys, 2)].into())].into());
    world.run_for(secs(5));
    assert!(world.all_at(0) && world.all_alive());
    assert_eq!(world.unopened(), 0);
}

#[test]
fn a_member_that_claims_other_keys_for_ever_or_brings_them_without_end_costs_little_and_is_named() {
    let mut world = World::mesh(7, 4);
    let mut forged = Forged::new(&world, 3, 0);
    world.kill(3);
    let (from, exchanges) = (world.gossip(3), |world: &World| world.nodes[0].engine.counters().key_exchanges);
    // It claims to be ahead in every packet, and answers no exchange.
    for _ in 0..600 {
        forged.packet.counter += 1;
        forged.packet.keyring = 7 << 16;
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        world.run_for(Duration::from_millis(100));
    }
    assert!((1..8).contains(&exchanges(&world)), "{}", exchanges(&world));
    let bearer = Some(world.nodes[3].id);
    for _ in 0..1_000 {
        world.input(0, Input::Keys { from: bearer, state: v1::KeyringState::default() });
    }
    assert!(world.nodes[0].engine.offenders()[&world.nodes[3].id][&Offence::KeyFlood] > 900);
    // It stands in nobody's way.
    let [installed, ..] = rotation();
    world.operate(1, &installed);
    assert!(world.run_until(secs(5), |world| world.all_at(1)).is_some());
}

#[test]
fn of_two_changes_made_at_once_on_both_sides_of_a_cut_one_counts_for_all() {
    for seed in SEEDS {
        let mut world = World::mesh(seed, 8);
        world.cut(&[0, 1, 2, 3], &[4, 5, 6, 7]);
        for (n, at) in [(0, 10), (4, 20)] {
            let statement = first().install(&NEW_KEY, at).unwrap();
            world.operate(n, &signed(&statement, &administrator()));
        }
        world.run_for(secs(10));
        world.heal();
        assert!(world.run_until(secs(30), World::all_alive).is_some(), "seed {seed}{}", world.table());
        world.run_for(secs(10));
        let states: BTreeSet<Vec<u8>> =
            world.nodes.iter().map(|node| node.engine.keyring_state().signed.unwrap().signature.to_vec()).collect();
        assert_eq!(states.len(), 1, "seed {seed}");
        assert_eq!(world.unopened(), 0, "seed {seed}");
    }
}
