use std::time::Duration;

use starling_gossip::State::{Alive, Down, Suspect};
use starling_proto::NodeId;

use super::Ledger;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Four nodes that all list all as alive.
fn ledger() -> Ledger {
    let mut ledger = Ledger::new((0..4).map(|n: u8| NodeId::from_bytes([n; 16])));
    (0..4).for_each(|n| ledger.on_start(n, at(0)));
    assert!(ledger.all_run() && !ledger.is_settled());
    for observer in 0..4 {
        (0..4).for_each(|subject| ledger.change(observer, subject, Some(Alive), at(1)));
    }
    assert!(ledger.is_settled());
    assert_eq!(ledger.settled_at, at(1));
    ledger.judged_from = Some(at(2));
    ledger
}

#[test]
fn a_death_is_listed_by_those_who_were_there_and_is_no_mistake() {
    let mut ledger = ledger();
    ledger.on_end(3, at(10));
    ledger.change(0, 3, Some(Suspect), at(12));
    ledger.change(0, 3, Some(Down), at(14));
    ledger.change(1, 3, Some(Down), at(15));
    // It ends before it could notice.
    ledger.on_end(2, at(16));
    let death = &ledger.deaths[0];
    assert_eq!(death.listed.clone().into_iter().collect::<Vec<_>>(), [(0, at(14)), (1, at(15))]);
    assert_eq!(death.witnesses.iter().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!((ledger.wrong.downs, ledger.wrong.suspicions), (0, 0));
    ledger.change(0, 3, Some(Alive), at(17));
    assert_eq!(ledger.wrong.risen, 1);
}

#[test]
fn a_healthy_node_that_is_doubted_is_a_mistake_and_more_so_at_a_healthy_node() {
    let mut ledger = ledger();
    ledger.on_struck(3, true, at(5));
    ledger.change(3, 0, Some(Suspect), at(6));
    ledger.change(3, 0, Some(Down), at(7));
    let wrong = &ledger.wrong;
    assert_eq!((wrong.suspicions, wrong.downs, wrong.downs_at_healthy, wrong.evicted.len()), (1, 1, 0, 0));
    ledger.change(1, 0, Some(Down), at(8));
    let wrong = &ledger.wrong;
    assert_eq!((wrong.downs, wrong.downs_at_healthy, wrong.evicted.len(), wrong.first), (2, 1, 1, Some(at(8))));
    assert!(!ledger.is_settled());
    ledger.change(1, 0, Some(Alive), at(9));
    ledger.change(3, 0, Some(Alive), at(9));
    assert!(ledger.is_settled());
    assert_eq!(ledger.settled_at, at(9));
}

#[test]
fn one_with_a_bad_network_is_out_once_all_healthy_ones_say_so() {
    let mut ledger = ledger();
    ledger.on_struck(3, true, at(5));
    ledger.change(0, 3, Some(Down), at(7));
    ledger.change(1, 3, Some(Down), at(8));
    assert_eq!(ledger.struck[&3].out, None);
    ledger.change(2, 3, Some(Down), at(9));
    assert_eq!(ledger.struck[&3].out, Some(at(9)));
    assert_eq!(ledger.wrong.downs, 0);
    ledger.on_second(at(34));
    ledger.change(2, 3, Some(Alive), at(35));
    ledger.on_second(at(35));
    assert_eq!((ledger.struck[&3].looks, ledger.struck[&3].routed), (3, 1));
}

#[test]
fn what_two_parts_of_a_split_mesh_believe_of_each_other_is_no_mistake_until_a_while_after() {
    let mut ledger = ledger();
    ledger.set_parted(at(5), |a, b| (a < 2) != (b < 2));
    ledger.change(0, 3, Some(Down), at(9));
    assert!(ledger.is_settled(), "nobody expects them to");
    ledger.set_parted(at(20), |_, _| false);
    assert!(!ledger.is_settled());
    ledger.change(0, 3, Some(Alive), at(22));
    assert_eq!((ledger.is_settled(), ledger.settled_at), (true, at(22)));
    ledger.change(0, 3, Some(Down), at(49));
    assert_eq!(ledger.wrong.downs, 0);
    ledger.change(0, 3, Some(Alive), at(51));
    ledger.change(0, 3, Some(Down), at(52));
    assert_eq!(ledger.wrong.downs, 1);
}

#[test]
fn one_that_is_left_out_of_routing_is_out_though_it_is_up() {
    let mut ledger = ledger();
    ledger.on_struck(3, true, at(10));
    for (observer, second) in [(0, 12), (1, 13), (2, 14)] {
        assert_eq!(ledger.struck[&3].out, None);
        ledger.set_aside(observer, 3, true, at(second));
    }
    assert_eq!(ledger.struck[&3].out, Some(at(14)));
    ledger.on_second(at(50));
    ledger.set_aside(2, 3, false, at(50));
    ledger.on_second(at(51));
    assert_eq!((ledger.struck[&3].looks, ledger.struck[&3].routed), (6, 1));
    assert_eq!(ledger.wrong.asides, 0);
    ledger.set_aside(0, 1, true, at(52));
    assert_eq!(ledger.wrong.asides, 1, "a healthy one");
}
