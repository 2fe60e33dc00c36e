//! Figures rather than verdicts: run with `cargo test -p starling-gossip --release -- --ignored --nocapture scale`.

use std::time::{Duration, Instant};

use super::World;
use crate::State;

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn spread(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{name}: p50 {:?} p99 {:?} max {:?} of {}", at(0.5), at(0.99), at(1.0), times.len());
}

#[test]
#[ignore = "takes minutes; prints figures"]
fn scale_detection_and_return_at_five_nodes() {
    let (mut first, mut all, mut back) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..400 {
        let mut world = World::mesh(seed, 5);
        world.run_for(Duration::from_millis(seed * 37 % 3_000));
        world.cut(&[4], &[0, 1, 2, 3]);
        let one =
            world.run_until(Duration::from_secs(20), |world| (0..4).any(|n| world.sees(n, 4) == Some(State::Down)));
        let rest =
            world.run_until(Duration::from_secs(20), |world| (0..4).all(|n| world.sees(n, 4) == Some(State::Down)));
        first.push(one.unwrap());
        all.push(one.unwrap() + rest.unwrap());
        world.run_for(Duration::from_secs(10 + seed % 100));
        world.heal();
        back.push(world.run_until(Duration::from_mins(1), World::all_alive).unwrap());
    }
    spread("crash seen by the first of 4", first);
    spread("crash seen by all 4", all);
    spread("all list all after a heal", back);
}

#[test]
#[ignore = "takes minutes; prints figures"]
#[allow(clippy::disallowed_methods)]
fn scale_bootstrap() {
    for size in [5, 50, 100, 250] {
        let real = Instant::now();
        let mut world = World::new(1);
        for n in 0..size {
            world.add(&format!("n{n}"));
        }
        for n in 1..size {
            world.dial(n, 0);
        }
        let mut took = None;
        for step in 0..60 {
            world.run_for(Duration::from_millis(500));
            if world.all_alive() {
                took = Some(step);
                break;
            }
        }
        println!("{size} nodes: half-seconds {took:?}, real {:?}", real.elapsed());
        for after in [0, 20, 40] {
            world.tap = Some(Vec::new());
            world.run_for(Duration::from_secs(20));
            let sent = world.tap.take().unwrap();
            let bytes: usize = sent.iter().map(|(_, _, bytes)| bytes.len()).sum();
            println!(
                "  after {after} s: {} packets, {} bytes a second and node",
                sent.len() / size / 20,
                bytes / size / 20
            );
        }
        assert!(world.all_alive());
    }
}
