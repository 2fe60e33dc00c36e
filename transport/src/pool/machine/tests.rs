use std::cell::Cell;
use std::rc::Rc;

use super::*;

mod anything;
mod better;

/// A connection that a test makes silent or leaving.
#[derive(Debug, Clone, Default)]
struct Fake {
    silent: Rc<Cell<bool>>,
    leaving: Rc<Cell<bool>>,
    stands_in: bool,
}

impl Fake {
    fn stand_in() -> Self {
        Self { stands_in: true, ..Self::default() }
    }
}

impl Link for Fake {
    fn is_silent(&self) -> bool {
        self.silent.get()
    }

    fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    fn stands_in(&self) -> bool {
        self.stands_in
    }
}

impl PartialEq for Fake {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.silent, &other.silent)
    }
}

const SETTINGS: Settings = Settings {
    dials: 3,
    backoff_min: Duration::from_millis(100),
    backoff_max: Duration::from_secs(1),
    settled: Duration::from_secs(2),
    idle: Duration::from_mins(5),
    better_min: Duration::from_secs(5),
    better_max: Duration::from_mins(1),
    given_up: Duration::from_secs(1),
    reached: Duration::from_millis(300),
};
/// Makes the back-off exact.
const MIDDLE: f64 = 0.5;

struct Bench {
    machine: Machine<Fake, &'static str>,
    now: Instant,
}

fn peer(number: usize) -> SpiffeId {
    format!("spiffe://demo.example/node/n{number}").parse().unwrap()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

impl Bench {
    fn new() -> Self {
        Self { machine: Machine::new(SETTINGS), now: Instant::now() }
    }

    fn warm(&mut self, peers: &[usize]) {
        self.machine.handle_warm(peers.iter().map(|number| (peer(*number), address(1))), self.now);
    }

    fn request(&mut self) -> Answer<Fake, &'static str> {
        self.machine.handle_request(&peer(0), address(1), self.now)
    }

    fn outputs(&mut self) -> Vec<Output<Fake>> {
        self.machine.poll_outputs(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// The number of the one dial that is due for peer 0.
    fn dial(&mut self) -> u64 {
        match self.outputs()[..] {
            [Output::Dial { number, .. }] => number,
            ref other => panic!("{other:?}"),
        }
    }

    /// The number of the one dial with the better carrier that is due for peer 0.
    fn dial_better(&mut self) -> u64 {
        match self.outputs()[..] {
            [Output::DialBetter { number, .. }] => number,
            ref other => panic!("{other:?}"),
        }
    }

    fn connected(&mut self) -> (u64, Fake) {
        self.connected_by(Fake::default())
    }

    fn connected_by(&mut self, link: Fake) -> (u64, Fake) {
        let number = self.dial();
        self.machine.handle_connected(&peer(0), number, link.clone(), self.now);
        (number, link)
    }
}

#[test]
fn one_dial_serves_all_who_wait() {
    let mut bench = Bench::new();
    assert_eq!(bench.request(), Answer::Wait);
    assert_eq!(bench.request(), Answer::Wait);
    let (_, link) = bench.connected();
    assert_eq!(bench.request(), Answer::Ready(link));
    assert_eq!(bench.outputs(), []);
}

#[test]
fn after_a_failure_callers_fail_at_once_and_the_wait_doubles() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    for wait in [100, 200, 400, 800, 1000, 1000] {
        bench.dial();
        bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
        assert_eq!(bench.request(), Answer::Failed("no answer"));
        assert_eq!(bench.outputs(), []);
        assert_eq!(bench.machine.poll_timeout(), Some(bench.now + Duration::from_millis(wait)));
        bench.pass(Duration::from_millis(wait));
    }
}

#[test]
fn a_peer_that_is_offered_again_is_dialed_at_once() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    for wait in [100, 200, 400] {
        bench.dial();
        bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
        bench.pass(Duration::from_millis(wait));
    }
    bench.dial();
    bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
    bench.warm(&[0]);
    assert_eq!(bench.outputs(), [], "that it is still offered is no news");
    bench.warm(&[]);
    bench.warm(&[0]);
    bench.dial();
    bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
    assert_eq!(
        bench.machine.poll_timeout(),
        Some(bench.now + Duration::from_millis(100)),
        "and its failures are forgotten"
    );
}

#[test]
fn a_peer_that_nobody_asked_for_again_is_not_dialed_again() {
    let mut bench = Bench::new();
    bench.request();
    bench.dial();
    bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.request(), Answer::Wait);
    bench.dial();
}

#[test]
fn a_silent_connection_is_not_handed_out_and_a_second_is_dialed() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (first_number, first) = bench.connected();
    assert_eq!(bench.outputs(), []);
    first.silent.set(true);
    assert!(bench.machine.is_silent(&peer(0)));
    assert_eq!(bench.machine.linked().count(), 0);
    assert_eq!(bench.request(), Answer::Wait);
    let (_, second) = bench.connected();
    assert_eq!(bench.request(), Answer::Ready(second.clone()));
    assert_eq!(bench.outputs(), [], "the silent one may heal: its requests are not cut off");
    first.silent.set(false);
    assert_eq!(bench.outputs(), [Output::Retire { number: first_number }]);
    assert_eq!(bench.request(), Answer::Ready(second));
}

#[test]
fn a_connection_that_heals_during_the_second_dial_serves_at_once() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, first) = bench.connected();
    first.silent.set(true);
    bench.dial();
    first.silent.set(false);
    assert_eq!(bench.request(), Answer::Ready(first.clone()));
    bench.machine.handle_failed(&peer(0), "no answer", MIDDLE, bench.now);
    assert_eq!(bench.request(), Answer::Ready(first));
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn a_lasting_connection_that_ends_is_dialed_again_at_once() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (number, _) = bench.connected();
    bench.pass(SETTINGS.settled);
    bench.machine.handle_closed(&peer(0), number, "restarted", MIDDLE, bench.now);
    bench.dial();
}

#[test]
fn a_peer_that_drops_what_it_accepted_is_backed_off_from() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    for wait in [100, 200, 400] {
        let (number, _) = bench.connected();
        bench.machine.handle_closed(&peer(0), number, "go away", MIDDLE, bench.now);
        assert_eq!(bench.request(), Answer::Failed("go away"));
        assert_eq!(bench.outputs(), []);
        bench.pass(Duration::from_millis(wait));
    }
}

#[test]
fn a_peer_that_moved_is_dialed_where_it_is_now() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (old, _) = bench.connected();
    bench.machine.handle_warm([(peer(0), address(2))], bench.now);
    assert_eq!(bench.machine.handle_request(&peer(0), address(2), bench.now), Answer::Wait);
    let outputs = bench.outputs();
    let [Output::Dial { number, address: dialed, .. }] = outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(dialed, address(2));
    bench.machine.handle_connected(&peer(0), number, Fake::default(), bench.now);
    assert_eq!(bench.outputs(), [Output::Retire { number: old }]);
}

#[test]
fn a_draining_peers_connection_is_not_handed_out() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (_, link) = bench.connected();
    link.leaving.set(true);
    assert_eq!(bench.request(), Answer::Wait);
    bench.dial();
}

#[test]
fn unused_connections_are_let_go_unless_they_are_kept_warm() {
    let mut bench = Bench::new();
    bench.warm(&[0]);
    let (number, _) = bench.connected();
    bench.pass(SETTINGS.idle * 2);
    assert_eq!(bench.outputs(), []);
    bench.request();
    bench.warm(&[]);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now + SETTINGS.idle));
    bench.pass(SETTINGS.idle);
    assert_eq!(bench.outputs(), [Output::Retire { number }]);
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn dials_are_bounded_and_whoever_is_waited_for_comes_first() {
    let mut bench = Bench::new();
    bench.warm(&[1, 2, 3, 4, 5]);
    bench.machine.handle_request(&peer(4), address(1), bench.now);
    let dialed: Vec<SpiffeId> = bench
        .outputs()
        .into_iter()
        .map(|output| match output {
            Output::Dial { spiffe, .. } => spiffe,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(dialed, [peer(4), peer(1), peer(2)]);
    bench.machine.handle_failed(&peer(4), "no answer", MIDDLE, bench.now);
    assert_eq!(bench.outputs().len(), 1);
}
