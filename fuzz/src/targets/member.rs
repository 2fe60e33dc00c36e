//! A whole engine, and a member that has good keys and no manners: its packets, its states, what it passes on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use starling_gossip::{Engine, Input, Output, State, raw};
use starling_proto::mesh::v1;

use super::envelope::packet;
use super::notice::notices;
use super::people::{catalog, credential, engine, id, identity, key, keyring, spiffe};
use super::{Run, Target};
use crate::fingerprint::hash;

/// An engine starts anew after so many inputs.
const LIFE: u32 = 128;
/// Time between two inputs: less than it takes to suspect anyone, and more than a rate of anything allows.
const STEP: Duration = Duration::from_millis(5);

pub(super) fn target() -> Target {
    Target {
        name: "member",
        about: "an engine beside a member that has good keys and no manners",
        memory: 8 << 20,
        least_answers: 15,
        seeds,
        start,
    }
}

/// The hostile member's state, as it stands when it is good.
fn state() -> v1::JoinState {
    v1::JoinState {
        version: 1,
        identity: Some((&identity(1)).into()),
        credential: credential(1),
        key_epochs: vec![1],
        members: vec![v1::MemberState {
            identity: Some((&identity(3)).into()),
            status: v1::MemberStatus::Alive.into(),
            credential: credential(3),
            ..Default::default()
        }],
        records: catalog(1).values().cloned().collect(),
        ..Default::default()
    }
}

/// The first byte says what follows: 0 a packet, 1 a state, 2 an answer about strangers, 3 a value, 4 a ping's answer.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        [&[0], &packet().encode_to_vec()[..]].concat(),
        [&[1], &state().encode_to_vec()[..]].concat(),
        [&[2], &v1::Resolved { members: state().members }.encode_to_vec()[..]].concat(),
        vec![4],
    ];
    seeds.extend(catalog(1).values().map(|value| [&[3], &value.encode_to_vec()[..]].concat()));
    for notice in notices() {
        let packet = v1::Packet { notices: vec![notice], ..packet() };
        seeds.push([&[0], &packet.encode_to_vec()[..]].concat());
    }
    seeds
}

/// An engine that knows the hostile member 1 and the honest member 2.
struct Victim {
    engine: Engine,
    now: Instant,
    counter: u64,
}

impl Victim {
    fn new() -> Self {
        let now = Instant::now();
        let mut victim = Self { engine: engine(9, now), now, counter: 0 };
        victim.give(Input::Joined { peer: spiffe(1), state: state() });
        let honest = engine(2, now);
        let mut joined = honest.join_state(None);
        joined.records = catalog(2).values().cloned().collect();
        victim.give(Input::Joined { peer: spiffe(2), state: joined });
        victim
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = self.engine.handle(input, self.now);
        while self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
            outputs.extend(self.engine.handle(Input::Tick, self.now));
        }
        outputs
    }

    fn run(&mut self, input: &[u8]) -> Option<Vec<Output>> {
        let (kind, bytes) = input.split_first()?;
        self.now += STEP;
        let peer = spiffe(1);
        let outputs = match kind % 5 {
            0 => {
                let mut packet = v1::Packet::decode(bytes).ok()?;
                self.counter += 1;
                packet.version = 1;
                packet.sender = id(1).to_bytes();
                packet.destination = id(9).to_bytes();
                packet.generation = identity(1).generation.0;
                packet.counter = self.counter;
                for notice in packet.notices.iter_mut().filter(|notice| notice.seq % 2 == 0) {
                    // Its own, signed; the others are forged or were seen.
                    notice.author = id(1).to_bytes();
                    notice.seq = self.counter * 100 + notice.seq % 100;
                    raw::sign_notice(notice, &key(1));
                }
                let bytes = raw::seal(&packet, &key(1), &keyring(), [7; 12])?;
                self.give(Input::Datagram { from: identity(1).address.gossip(), bytes })
            }
            1 => self.give(Input::Joined { peer, state: v1::JoinState::decode(bytes).ok()? }),
            2 => self.give(Input::Resolved { members: v1::Resolved::decode(bytes).ok()?.members }),
            3 => {
                let mut value = v1::SignedValue::decode(bytes).ok()?;
                value.owner = id(1).to_bytes();
                raw::sign_value(&mut value, &key(1));
                let (key, value) = (value.key.clone(), Bytes::from(value.encode_to_vec()));
                self.give(Input::Value { owner: id(1), key, value })
            }
            _ => self.give(Input::Tick),
        };
        Some(outputs)
    }

    /// The honest member is there, and what it offers.
    fn check(&self) {
        let view = self.engine.view();
        let honest = &view.members[&id(2)];
        assert_eq!(honest.state, State::Alive);
        assert_eq!((honest.generation, honest.address), (identity(2).generation, identity(2).address));
        assert_eq!(self.engine.catalog().hash_of(id(2)), catalog(2).hash(), "another's values changed");
        assert!(!self.engine.offenders().contains_key(&id(2)), "the honest one is blamed");
        let sizes = self.engine.sizes();
        assert!(sizes.members <= 100 && sizes.notices <= 256 && sizes.hints <= 4_096, "{sizes:?}");
        assert_eq!(self.engine.counters().swim_errors, 0, "an error that no peer can cause");
    }
}

fn start() -> Run {
    let mut victim = Victim::new();
    let mut life = 0;
    Box::new(move |input| {
        life += 1;
        if life % LIFE == 0 {
            victim = Victim::new();
        }
        let before = victim.engine.counters();
        let outputs = victim.run(input);
        victim.check();
        let Some(outputs) = outputs else { return 0 };
        // Which kinds of things came of it, not how many, nor those that come by themselves.
        let after = victim.engine.counters();
        let mut answer = String::new();
        for (reason, count) in &after.rejected {
            if before.rejected.get(reason) != Some(count) {
                answer.push_str(reason.as_str());
            }
        }
        for (reason, count) in &after.refused {
            if before.refused.get(reason) != Some(count) {
                answer.push_str(reason);
            }
        }
        let said = |wanted: fn(&Output) -> bool| if outputs.iter().any(wanted) { 'y' } else { 'n' };
        answer.extend([
            said(|output| matches!(output, Output::View(_))),
            said(|output| matches!(output, Output::Resolve { .. })),
            said(|output| matches!(output, Output::Pull { .. })),
            said(|output| matches!(output, Output::Dial { .. })),
            said(|output| matches!(output, Output::Refused { .. })),
            said(|output| matches!(output, Output::Event(_))),
            if after.records_rejected > before.records_rejected { 'y' } else { 'n' },
            char::from(b'0' + input[0] % 5),
        ]);
        hash(answer.as_bytes())
    })
}
