//! From a carrier that stands in back to the better one.

use super::*;

#[test]
fn the_better_carrier_is_tried_again_less_and_less_often_while_another_stands_in() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, stand_in) = bench.connected_by(Fake::stand_in());
    assert_eq!(bench.outputs(), []);
    for wait in [5, 10, 20, 40, 60, 60] {
        assert_eq!(bench.machine.poll_timeout(), Some(bench.now + Duration::from_secs(wait)));
        bench.pass(Duration::from_secs(wait));
        let number = bench.dial_better();
        assert_eq!(bench.request(), Answer::Ready(stand_in.clone()), "requests go on meanwhile");
        assert_eq!(bench.outputs(), []);
        bench.machine.handle_better(&peer(0), number, None, MIDDLE, bench.now);
        assert_eq!(bench.outputs(), []);
    }
}

#[test]
fn new_requests_move_to_the_better_carrier_and_old_ones_finish() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (old, _) = bench.connected_by(Fake::stand_in());
    bench.outputs();
    bench.pass(SETTINGS.better_min);
    let number = bench.dial_better();
    let better = Fake::default();
    bench.machine.handle_better(&peer(0), number, Some(better.clone()), MIDDLE, bench.now);
    assert_eq!(bench.request(), Answer::Ready(better));
    assert_eq!(bench.outputs(), [Output::Retire { number: old }]);
    assert_eq!(bench.machine.poll_timeout(), None, "nothing is left to do");
}

#[test]
fn the_better_carrier_is_tried_at_once_when_others_found_it_to_pass() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    bench.connected_by(Fake::stand_in());
    bench.outputs();
    bench.machine.handle_paths(|blocked| blocked == address(1), bench.now);
    assert_eq!(bench.outputs(), [], "not here");
    bench.machine.handle_paths(|_| false, bench.now);
    let number = bench.dial_better();
    bench.machine.handle_better(&peer(0), number, None, MIDDLE, bench.now);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now + SETTINGS.better_min * 2));
}

#[test]
fn where_no_connection_stands_in_no_other_carrier_is_tried() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    bench.connected();
    bench.pass(SETTINGS.better_max);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_silent_connection_is_given_up_once_another_carrier_has_reached_the_peer_for_long() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (number, first) = bench.connected();
    bench.outputs();
    first.silent.set(true);
    let (_, stand_in) = bench.connected_by(Fake::stand_in());
    assert_eq!(bench.request(), Answer::Ready(stand_in.clone()));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now + SETTINGS.given_up));
    bench.pass(SETTINGS.given_up);
    assert_eq!(bench.outputs(), [Output::Close { number, link: first }]);
    assert_eq!(bench.request(), Answer::Ready(stand_in));
    let tried_again = bench.now + SETTINGS.better_min;
    assert_eq!(bench.machine.poll_timeout(), tried_again.checked_sub(SETTINGS.given_up));
}

#[test]
fn a_silent_connection_has_a_moment_to_heal_once_another_carrier_reaches_the_peer() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (number, first) = bench.connected();
    bench.outputs();
    first.silent.set(true);
    let dial = bench.dial();
    bench.pass(SETTINGS.given_up);
    bench.machine.handle_connected(&peer(0), dial, Fake::stand_in(), bench.now);
    assert_eq!(bench.outputs(), [], "the peer may have been late for both");
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now + SETTINGS.reached));
    bench.pass(SETTINGS.reached);
    assert_eq!(bench.outputs(), [Output::Close { number, link: first }]);
}

#[test]
fn a_silent_connection_that_heals_takes_the_place_of_its_stand_in() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, first) = bench.connected();
    bench.outputs();
    first.silent.set(true);
    let (second, _) = bench.connected_by(Fake::stand_in());
    bench.outputs();
    first.silent.set(false);
    assert_eq!(bench.request(), Answer::Ready(first));
    assert_eq!(bench.outputs(), [Output::Retire { number: second }]);
    bench.pass(SETTINGS.better_max);
    assert_eq!(bench.outputs(), []);
}

#[test]
fn a_silent_connection_is_kept_while_the_peer_is_reached_by_the_same_carrier_or_not_at_all() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, first) = bench.connected();
    first.silent.set(true);
    bench.dial();
    bench.pass(SETTINGS.given_up * 2);
    assert_eq!(bench.outputs(), [], "nothing else reaches it either");
    let number = bench.machine.next - 1;
    bench.machine.handle_connected(&peer(0), number, Fake::default(), bench.now);
    bench.pass(SETTINGS.given_up * 2);
    assert_eq!(bench.outputs(), [], "it was the same path");
}

#[test]
fn a_stand_in_that_falls_silent_is_replaced_by_whatever_is_made_first() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, stand_in) = bench.connected_by(Fake::stand_in());
    bench.outputs();
    bench.pass(SETTINGS.better_min);
    let better = bench.dial_better();
    stand_in.silent.set(true);
    let dial = bench.dial();
    let found = Fake::default();
    bench.machine.handle_better(&peer(0), better, Some(found.clone()), MIDDLE, bench.now);
    bench.machine.handle_connected(&peer(0), dial, Fake::stand_in(), bench.now);
    assert_eq!(bench.request(), Answer::Ready(found), "the newest one only stands in");
    assert_eq!(bench.outputs(), [Output::Retire { number: dial }]);
}

#[test]
fn a_better_connection_to_a_peer_that_was_forgotten_is_let_go() {
    let mut bench = Bench::new();
    bench.machine.handle_better(&peer(0), 7, Some(Fake::default()), MIDDLE, bench.now);
    assert_eq!(bench.outputs(), [Output::Retire { number: 7 }]);
    bench.machine.handle_better(&peer(0), 8, None, MIDDLE, bench.now);
    assert_eq!(bench.outputs(), []);
}
