//! Whatever happens, in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Anything that can happen to a pool.
#[derive(Debug, Clone)]
enum Act {
    Warm(Vec<usize>),
    Request(usize, u16),
    Dialed(usize, bool, bool),
    DialedBetter(usize, bool),
    Close(usize),
    Silence(usize, bool),
    Leave(usize),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        proptest::collection::vec(0_usize..5, 0..5).prop_map(Act::Warm),
        (0_usize..5, 1_u16..3).prop_map(|(peer, port)| Act::Request(peer, port)),
        (any::<usize>(), any::<bool>(), any::<bool>())
            .prop_map(|(index, good, stands_in)| Act::Dialed(index, good, stands_in)),
        (any::<usize>(), any::<bool>()).prop_map(|(index, good)| Act::DialedBetter(index, good)),
        any::<usize>().prop_map(Act::Close),
        (any::<usize>(), any::<bool>()).prop_map(|(index, silent)| Act::Silence(index, silent)),
        any::<usize>().prop_map(Act::Leave),
        (0_u64..400_000).prop_map(Act::Pass),
    ]
}

/// What the shell holds.
#[derive(Default)]
struct Shell {
    dials: Vec<(u64, SpiffeId)>,
    better_dials: Vec<(u64, SpiffeId)>,
    links: BTreeMap<u64, (SpiffeId, Fake)>,
}

impl Shell {
    fn nth(&self, index: usize) -> Option<(u64, SpiffeId, Fake)> {
        let index = index.checked_rem(self.links.len())?;
        self.links.iter().nth(index).map(|(number, (spiffe, link))| (*number, spiffe.clone(), link.clone()))
    }

    fn perform(&mut self, outputs: Vec<Output<Fake>>) {
        for output in outputs {
            match output {
                Output::Dial { number, spiffe, .. } => {
                    assert!(self.dials.iter().all(|(_, other)| *other != spiffe), "two dials to one peer");
                    self.dials.push((number, spiffe));
                }
                Output::DialBetter { number, spiffe, .. } => {
                    assert!(self.better_dials.iter().all(|(_, other)| *other != spiffe), "two dials to one peer");
                    let stands_in = |(known, link): &(SpiffeId, Fake)| *known == spiffe && link.stands_in;
                    assert!(self.links.values().any(stands_in), "nothing stands in");
                    self.better_dials.push((number, spiffe));
                }
                Output::Retire { number } => assert!(self.links.remove(&number).is_some(), "retired twice"),
                Output::Close { number, link } => {
                    assert!(link.is_silent(), "closed though it works");
                    assert!(self.links.remove(&number).is_some_and(|(_, known)| known == link));
                }
            }
            assert!(self.dials.len() + self.better_dials.len() <= SETTINGS.dials);
        }
    }

    fn act(&mut self, bench: &mut Bench, act: Act) {
        let now = bench.now;
        match act {
            Act::Warm(peers) => bench.warm(&peers),
            Act::Request(number, port) => {
                let answer = bench.machine.handle_request(&peer(number), address(port), now);
                if let Answer::Ready(link) = answer {
                    assert!(!link.is_silent() && !link.is_leaving());
                    assert!(self.links.values().any(|(spiffe, known)| *spiffe == peer(number) && *known == link));
                }
            }
            Act::DialedBetter(index, good) => {
                let Some(index) = index.checked_rem(self.better_dials.len()) else { return };
                let (number, spiffe) = self.better_dials.remove(index);
                let link = good.then(Fake::default);
                bench.machine.handle_better(&spiffe, number, link.clone(), MIDDLE, now);
                self.links.extend(link.map(|link| (number, (spiffe, link))));
            }
            Act::Dialed(index, good, stands_in) => {
                let Some(index) = index.checked_rem(self.dials.len()) else { return };
                let (number, spiffe) = self.dials.remove(index);
                if good {
                    let link = Fake { stands_in, ..Fake::default() };
                    bench.machine.handle_connected(&spiffe, number, link.clone(), now);
                    self.links.insert(number, (spiffe, link));
                } else {
                    bench.machine.handle_failed(&spiffe, "no answer", MIDDLE, now);
                }
            }
            Act::Close(index) => {
                let Some((number, spiffe, _)) = self.nth(index) else { return };
                self.links.remove(&number);
                bench.machine.handle_closed(&spiffe, number, "closed", MIDDLE, now);
            }
            Act::Silence(index, silent) => self.nth(index).into_iter().for_each(|(_, _, link)| link.silent.set(silent)),
            Act::Leave(index) => self.nth(index).into_iter().for_each(|(_, _, link)| link.leaving.set(true)),
            Act::Pass(millis) => bench.pass(Duration::from_millis(millis)),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_dials_are_single_and_bounded_nothing_leaks_and_time_never_stands_still(
        acts in proptest::collection::vec(act(), 1..120),
    ) {
        let mut bench = Bench::new();
        let mut shell = Shell::default();
        for act in acts {
            shell.act(&mut bench, act);
            shell.perform(bench.outputs());
            let timeout = bench.machine.poll_timeout();
            prop_assert!(timeout.is_none_or(|timeout| timeout > bench.now), "a driver would spin");
        }
        // All dials end, nothing is kept warm, nobody asks: everything is let go.
        bench.warm(&[]);
        while let Some((_, spiffe)) = shell.dials.pop() {
            bench.machine.handle_failed(&spiffe, "no answer", MIDDLE, bench.now);
            shell.perform(bench.outputs());
        }
        while let Some((number, spiffe)) = shell.better_dials.pop() {
            bench.machine.handle_better(&spiffe, number, None, MIDDLE, bench.now);
            shell.perform(bench.outputs());
        }
        bench.pass(SETTINGS.idle * 2);
        shell.perform(bench.outputs());
        prop_assert!(shell.links.is_empty() && shell.dials.is_empty());
        prop_assert_eq!(bench.machine.poll_timeout(), None);
        prop_assert!(bench.machine.peers.is_empty());
    }
}
