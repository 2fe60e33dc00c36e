use super::*;
use crate::sim::World;
use crate::{Input, Lifeguard};

/// How a node stands when something asks for a new identity.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// In a mesh of two, with nothing behind it.
    Settled,
    /// It renewed its identity a second ago.
    Renewed,
    /// And it is to do so again as soon as it may.
    Waiting,
    /// It refuted a suspicion just now.
    Refuted,
    /// It has refuted so often that the next would be the last.
    LastIncarnation,
    /// It has renewed so often that this generation has no numbers left.
    LastRejoin,
    /// It was raised above a remembered generation before.
    Raised,
    /// In a mesh of five, alone or with another member that holds it for down and does not listen.
    AmongMany,
    AmongManyAndDeaf,
    WithoutLifeguard,
    Leaving,
    WaitingAndLeaving,
}

impl Standing {
    const ALL: [Self; 12] = [
        Self::Settled,
        Self::Renewed,
        Self::Waiting,
        Self::Refuted,
        Self::LastIncarnation,
        Self::LastRejoin,
        Self::Raised,
        Self::AmongMany,
        Self::AmongManyAndDeaf,
        Self::WithoutLifeguard,
        Self::Leaving,
        Self::WaitingAndLeaving,
    ];

    fn world(self) -> World {
        let mut world = World::new(1);
        if matches!(self, Self::WithoutLifeguard) {
            world.lifeguard = Lifeguard::Off;
        }
        let size = if matches!(self, Self::AmongMany | Self::AmongManyAndDeaf) { 5 } else { 2 };
        for n in 0..size {
            world.add(&format!("n{n}"));
        }
        (1..size).for_each(|n| world.dial(n, 0));
        assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some(), "{}", world.table());
        let (now, other) = (world.now, world.nodes[size - 1].id);
        let engine = &mut world.nodes[0].engine;
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        match self {
            Self::Settled | Self::AmongMany | Self::WithoutLifeguard => {}
            Self::Renewed => engine.renewal.last = Some(ago(1)),
            Self::Waiting | Self::WaitingAndLeaving => {
                engine.renewal.last = Some(ago(1));
                engine.renewal.due = Some(ago(1) + engine.timings.renewal_gap);
                if matches!(self, Self::WaitingAndLeaving) {
                    world.input(0, Input::Leave { reason: String::new() });
                }
            }
            Self::Refuted => engine.renewal.refuted = Some(now),
            Self::LastIncarnation => {
                let suspected = Member::new(SwimIdentity(engine.me.identity), LAST_REFUTATION - 1, State::Suspect);
                engine.membership.apply(suspected, now);
                assert_eq!(engine.membership.incarnation(), LAST_REFUTATION);
            }
            Self::LastRejoin => engine.me.identity.rejoin = u16::MAX,
            Self::Raised => engine.renewal.raised = true,
            Self::AmongManyAndDeaf => _ = engine.renewal.told.insert(other, (ago(3), ago(1))),
            Self::Leaving => world.input(0, Input::Leave { reason: String::new() }),
        }
        world
    }
}

/// What asks for a new identity, or may.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A member takes it for gone on purpose.
    HeldForLeft,
    /// A member suspects it.
    Suspected,
    /// A member holds it for down; and has said so for two seconds.
    HeldForDown,
    StillHeldForDown,
    /// The mesh remembers a higher generation of it.
    Remembered,
    /// Time passes, less or as much as must lie between two renewals.
    TooEarly,
    Due,
}

const STEPS: [Step; 7] = [
    Step::HeldForLeft,
    Step::Suspected,
    Step::HeldForDown,
    Step::StillHeldForDown,
    Step::Remembered,
    Step::TooEarly,
    Step::Due,
];

fn take(step: Step, engine: &mut Engine, by: NodeId, now: Instant) {
    match step {
        Step::HeldForLeft => engine.want_renewal(now),
        Step::Suspected => engine.refute(by, engine.membership.incarnation(), now),
        Step::HeldForDown => engine.on_told_down(by, now),
        Step::StillHeldForDown => {
            let since = now.checked_sub(LISTENS).unwrap();
            engine.renewal.told.insert(by, (since, since));
            engine.on_told_down(by, now);
        }
        Step::Remembered => engine.raise_generation(Generation(5_000), now),
        Step::TooEarly => engine.renew_if_due(now),
        Step::Due => engine.renew_if_due(now + engine.timings.renewal_gap),
    }
}

/// What the node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Nothing,
    /// It said that it is there, in the same identity.
    Refute,
    Renew,
    /// It waits until it may renew.
    Wait,
    /// It began a new generation: the next, or one above the remembered.
    Next,
    Raise,
    /// It said that another node has its key.
    Tell,
}

fn did(engine: &Engine, before: &MemberIdentity, refutations: u64) -> Did {
    let after = engine.me.identity;
    let told = |output: &Output| matches!(output, Output::Event(Event::KeyInUse { .. }));
    match (after.generation.0 - before.generation.0, after.rejoin) {
        (0, rejoin) if Some(rejoin) == before.rejoin.checked_add(1) => Did::Renew,
        (0, rejoin) => {
            assert_eq!(rejoin, before.rejoin);
            if engine.doubts.tally.refutations > refutations {
                Did::Refute
            } else if engine.out.iter().any(told) {
                Did::Tell
            } else if engine.renewal.due.is_some() {
                Did::Wait
            } else {
                Did::Nothing
            }
        }
        (1, 0) => Did::Next,
        (4_001, 0) => Did::Raise,
        other => panic!("{other:?}"),
    }
}

#[test]
#[allow(clippy::match_same_arms, reason = "each state has a row of its own")]
fn every_input_renews_a_node_in_every_state_or_not_as_the_table_says() {
    use Did::{Next, Nothing, Raise, Refute, Renew, Tell, Wait};
    let table = |standing| match standing {
        // Held for left, suspected, held for down, and still; remembered; too early, due.
        Standing::Settled => [Renew, Refute, Refute, Renew, Raise, Nothing, Nothing],
        Standing::Renewed => [Wait, Refute, Refute, Wait, Raise, Nothing, Nothing],
        Standing::Waiting => [Wait, Refute, Refute, Wait, Raise, Wait, Renew],
        Standing::Refuted => [Renew, Nothing, Nothing, Renew, Raise, Nothing, Nothing],
        Standing::LastIncarnation => [Renew, Renew, Renew, Renew, Raise, Nothing, Nothing],
        Standing::LastRejoin => [Next, Refute, Refute, Next, Raise, Nothing, Nothing],
        Standing::Raised => [Renew, Refute, Refute, Renew, Tell, Nothing, Nothing],
        Standing::AmongMany => [Renew, Refute, Refute, Refute, Raise, Nothing, Nothing],
        Standing::AmongManyAndDeaf => [Renew, Refute, Refute, Renew, Raise, Nothing, Nothing],
        Standing::WithoutLifeguard => [Renew, Refute, Renew, Renew, Raise, Nothing, Nothing],
        Standing::Leaving => [Nothing, Nothing, Nothing, Nothing, Nothing, Nothing, Nothing],
        Standing::WaitingAndLeaving => [Wait, Wait, Wait, Wait, Wait, Wait, Nothing],
    };
    for standing in Standing::ALL {
        for (step, expected) in STEPS.into_iter().zip(table(standing)) {
            let mut world = standing.world();
            let (now, by) = (world.now, world.nodes[1].id);
            let engine = &mut world.nodes[0].engine;
            let (before, refutations) = (engine.me.identity, engine.doubts.tally.refutations);
            take(step, engine, by, now);
            assert_eq!(did(engine, &before, refutations), expected, "{standing:?}, {step:?}");
            if engine.me.identity != before {
                // Nobody said anything of the new one yet.
                let left = (engine.renewal.due, engine.renewal.told.len());
                assert_eq!(left, (None, 0), "{standing:?}, {step:?}");
            }
        }
    }
}

#[test]
fn one_is_deaf_that_goes_on_for_two_seconds_and_forgotten_after_ten() {
    let start = Instant::now();
    let cases: [(&[(u8, u64)], usize); 7] = [
        (&[(1, 0)], 0),
        (&[(1, 0), (1, 1)], 0),
        (&[(1, 0), (1, 2)], 1),
        (&[(1, 0), (2, 2)], 0),
        (&[(1, 0), (2, 0), (1, 2), (2, 2)], 2),
        (&[(1, 0), (1, 9), (1, 18)], 1),
        (&[(1, 0), (1, 10)], 0),
    ];
    for (told, deaf) in cases {
        let mut renewal = Renewal::default();
        let counts =
            told.iter().map(|(by, at)| renewal.deaf(NodeId::from_bytes([*by; 16]), start + Duration::from_secs(*at)));
        assert_eq!(counts.last(), Some(deaf), "{told:?}");
    }
}
