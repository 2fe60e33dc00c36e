use super::*;

fn seeds(seeds: &[u8], hints: &[u8], now: Instant) -> Seeds<u8> {
    Seeds::new(seeds.iter().copied(), hints.iter().copied(), Backoff::default(), now)
}

/// The pauses before each of some looks that all end alike, in milliseconds.
fn pauses(seeds: &mut Seeds<u8>, sought: Sought, count: usize, now: &mut Instant) -> Vec<u64> {
    let step = |_| {
        let due = seeds.poll_timeout().unwrap();
        let pause = due - *now;
        *now = due;
        for seed in seeds.poll_due(*now) {
            seeds.on_result(&seed, sought, 0.0, *now);
        }
        u64::try_from(pause.as_millis()).unwrap()
    };
    (0..count).map(step).collect()
}

#[test]
fn a_seed_that_never_answered_is_dialed_fast_then_every_six_seconds_for_ever() {
    let mut now = Instant::now();
    let mut seeds = seeds(&[1], &[], now);
    let expected = [0, 100, 200, 400, 800, 1_600, 3_200, 6_000, 6_000, 6_000, 6_000];
    assert_eq!(pauses(&mut seeds, Sought::Silent, expected.len(), &mut now), expected);
}

#[test]
fn pauses_depend_on_what_was_found_there() {
    for (sought, expected) in [
        (Sought::Met, [0, 5_000, 10_000, 20_000, 40_000, 80_000, 120_000, 120_000]),
        (Sought::Admitted, [0, 5_000, 10_000, 20_000, 40_000, 80_000, 120_000, 120_000]),
        (Sought::Lost, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400]),
        (Sought::Refused, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400]),
    ] {
        let mut now = Instant::now();
        let mut seeds = seeds(&[1], &[], now);
        assert_eq!(pauses(&mut seeds, sought, expected.len(), &mut now), expected, "{sought:?}");
        let later = pauses(&mut seeds, sought, 5, &mut now);
        let most = if sought > Sought::Admitted { 30_000 } else { 120_000 };
        assert_eq!(later.last(), Some(&most), "{sought:?}");
    }
}

#[test]
fn a_seed_that_was_met_for_long_and_is_silent_is_dialed_soon_again() {
    let mut now = Instant::now();
    let mut seeds = seeds(&[1], &[], now);
    pauses(&mut seeds, Sought::Met, 9, &mut now);
    pauses(&mut seeds, Sought::Silent, 1, &mut now);
    assert_eq!(pauses(&mut seeds, Sought::Silent, 2, &mut now), [6_000, 6_000]);
}

#[test]
fn a_seed_under_way_is_not_due_and_jitter_shortens_its_pause() {
    let now = Instant::now();
    let mut seeds = seeds(&[1, 2], &[], now);
    assert_eq!(seeds.poll_due(now), [1, 2]);
    assert_eq!((seeds.poll_due(now), seeds.poll_timeout()), (vec![], None));
    seeds.on_result(&2, Sought::Silent, 1.0, now);
    assert_eq!(seeds.poll_timeout(), Some(now + Duration::from_millis(75)));
}

#[test]
fn hints_follow_the_seeds_one_by_one_and_a_seed_among_them_stays() {
    let now = Instant::now();
    let mut seeds = seeds(&[2], &[1, 2, 3], now);
    let mut order = Vec::new();
    while let Some(due) = seeds.poll_timeout() {
        order.extend(seeds.poll_due(due).into_iter().map(|seed| (seed, (due - now).as_millis())));
    }
    assert_eq!(order, [(2, 0), (1, 50), (3, 100)]);
    for target in [1, 2, 3] {
        seeds.on_result(&target, Sought::Silent, 0.0, now);
    }
    seeds.forget_hints();
    assert_eq!(seeds.poll_due(now + Duration::from_secs(1)), [2]);
}

#[test]
fn a_hint_is_dropped_once_met_and_tried_ever_slower_until_then() {
    for found in [Sought::Met, Sought::Admitted] {
        let now = Instant::now();
        let mut seeds = seeds(&[], &[1], now);
        assert_eq!(seeds.poll_due(now + Duration::from_secs(1)), [1]);
        seeds.on_result(&1, found, 0.0, now);
        assert_eq!(seeds.poll_timeout(), None, "{found:?}");
    }
    for sought in [Sought::Refused, Sought::Lost, Sought::Silent] {
        let mut now = Instant::now();
        let mut seeds = seeds(&[], &[1], now);
        assert_eq!(pauses(&mut seeds, sought, 14, &mut now).last(), Some(&120_000), "{sought:?}");
    }
}

#[test]
fn once_anybody_admitted_this_node_the_hints_wait_until_they_can_have_been_met() {
    let now = Instant::now();
    let mut seeds = seeds(&[1], &[2, 3, 4], now);
    assert_eq!(seeds.poll_due(now), [1]);
    assert_eq!(seeds.poll_due(now + Duration::from_millis(50)), [2]);
    seeds.on_result(&1, Sought::Admitted, 0.0, now);
    assert_eq!(seeds.poll_due(now + Duration::from_secs(5)), [1]);
    assert_eq!(seeds.poll_due(now + Duration::from_millis(5_100)), [3, 4]);
    seeds.on_result(&2, Sought::Met, 0.0, now);
    assert_eq!(seeds.poll_timeout(), None);
}

#[test]
fn a_loss_has_those_looked_at_who_were_met_and_nobody_else() {
    for (sought, soon) in [(Sought::Met, true), (Sought::Admitted, false)] {
        let mut now = Instant::now();
        let mut seeds = seeds(&[1], &[], now);
        pauses(&mut seeds, sought, 8, &mut now);
        let before = seeds.poll_timeout();
        assert!(before.unwrap() > now + Duration::from_mins(1));
        seeds.hasten(now);
        let expected = if soon { Some(now + Duration::from_secs(5)) } else { before };
        assert_eq!(seeds.poll_timeout(), expected, "{sought:?}");
    }
}

/// What is asked of a machine with one target.
#[derive(Debug, Clone, Copy)]
enum Step {
    Due,
    Result(Sought),
    Loss,
    /// What a loss leaves of the pause shows in the one after the next look.
    LossThenSilence,
    HintsForgotten,
}

const STEPS: [Step; 9] = [
    Step::Due,
    Step::Result(Sought::Met),
    Step::Result(Sought::Admitted),
    Step::Result(Sought::Refused),
    Step::Result(Sought::Lost),
    Step::Result(Sought::Silent),
    Step::Loss,
    Step::LossThenSilence,
    Step::HintsForgotten,
];

/// Where the target stands after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Dropped,
    UnderWay,
    /// It is due in so many milliseconds.
    In(u128),
    /// The same, and the last look found a member that is up.
    MetIn(u128),
}

fn after(seeds: &Seeds<u8>, now: Instant) -> After {
    let Some(target) = seeds.targets.get(&1) else { return After::Dropped };
    match target.due.map(|due| (due - now).as_millis()) {
        None => After::UnderWay,
        Some(due) if target.met => After::MetIn(due),
        Some(due) => After::In(due),
    }
}

/// One target in each state, all at `now`. A hint that is met is gone: there is none.
fn states(now: Instant) -> [(&'static str, Seeds<u8>); 7] {
    let looked = |mut seeds: Seeds<u8>, sought, times: usize, under_way: bool| {
        (0..times).for_each(|_| seeds.on_result(&1, sought, 0.0, now));
        if under_way {
            seeds.poll_due(now + Duration::from_mins(2));
        }
        seeds
    };
    let seed = || seeds(&[1], &[], now);
    let hint = || seeds(&[], &[1], now);
    [
        ("a new seed", seed()),
        ("a seed, silent thrice", looked(seed(), Sought::Silent, 3, false)),
        ("a seed, long met", looked(seed(), Sought::Met, 7, false)),
        ("a seed, long met and looked at", looked(seed(), Sought::Met, 7, true)),
        ("a new hint", hint()),
        ("a hint, long silent", looked(hint(), Sought::Silent, 12, false)),
        ("a hint, long silent and looked at", looked(hint(), Sought::Silent, 12, true)),
    ]
}

#[test]
fn every_input_moves_every_target_as_the_table_says() {
    use After::{Dropped, In, MetIn, UnderWay};
    let now = Instant::now();
    let table = |step| match step {
        Step::Due => [UnderWay; 7],
        Step::Result(Sought::Met) => {
            [MetIn(5_000), MetIn(5_000), MetIn(120_000), MetIn(120_000), Dropped, Dropped, Dropped]
        }
        Step::Result(Sought::Admitted) => [In(5_000), In(5_000), In(120_000), In(120_000), Dropped, Dropped, Dropped],
        Step::Result(Sought::Refused | Sought::Lost) => {
            [In(100), In(800), In(30_000), In(30_000), In(100), In(120_000), In(120_000)]
        }
        Step::Result(Sought::Silent) => [In(100), In(800), In(6_000), In(6_000), In(100), In(120_000), In(120_000)],
        Step::Loss => [In(0), In(400), MetIn(5_000), UnderWay, In(50), In(120_000), UnderWay],
        Step::LossThenSilence => [In(100), In(800), In(5_000), In(5_000), In(100), In(120_000), In(120_000)],
        Step::HintsForgotten => [In(0), In(400), MetIn(120_000), UnderWay, Dropped, Dropped, Dropped],
    };
    for step in STEPS {
        for ((state, mut seeds), expected) in states(now).into_iter().zip(table(step)) {
            match step {
                Step::Due => drop(seeds.poll_due(now + Duration::from_mins(2))),
                Step::Result(sought) => seeds.on_result(&1, sought, 0.0, now),
                Step::Loss => seeds.hasten(now),
                Step::LossThenSilence => {
                    seeds.hasten(now);
                    seeds.on_result(&1, Sought::Silent, 0.0, now);
                }
                Step::HintsForgotten => seeds.forget_hints(),
            }
            assert_eq!(after(&seeds, now), expected, "{state}, {step:?}");
        }
    }
}
