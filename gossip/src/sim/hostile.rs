//! A member with a good certificate and the group key that does all it can think of, for a minute. The mesh keeps its
//! members and its catalog, blames nobody honest, and names the offender.

use std::time::Duration;

use bytes::Bytes;
use foca::{Header, Member, Message as SwimMessage, State as SwimState};
use prost::Message;
use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity};

use super::adversary::{Forged, gossip};
use super::{World, credential, spiffe};
use crate::catalog::Catalog;
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Event, Input, SigningKey, State};

/// Honest ones, and the one after them that is not.
const HONEST: usize = 8;
const HOSTILE: usize = HONEST;

struct Attacker {
    rng: StdRng,
    /// Packets made so far.
    packets: u64,
    /// Notices made so far.
    notices: u64,
    captured: Vec<Bytes>,
}

impl Attacker {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), packets: 0, notices: 0, captured: Vec::new() }
    }

    fn honest(&mut self) -> usize {
        self.rng.random_range(0..HONEST)
    }

    fn packet(&mut self, world: &World, to: usize) -> Forged {
        self.packets += 1;
        let mut forged = Forged::new(world, HOSTILE, to);
        forged.packet.counter = 1_000_000 + self.packets;
        forged
    }

    fn send(world: &mut World, to: usize, forged: &Forged) {
        let from = world.gossip(HOSTILE);
        world.input(to, Input::Datagram { from, bytes: forged.seal() });
    }

    fn notice(&mut self, world: &World, kind: v1::NoticeKind, body: &impl Message) -> v1::Notice {
        self.notices += 1;
        let generation = world.nodes[HOSTILE].engine.identity().generation;
        crate::notice::sign(kind, generation, 1_000_000 + self.notices, body, &World::key(HOSTILE)).unwrap()
    }

    fn say(&mut self, world: &mut World, to: usize, of: Vec<Member<SwimIdentity>>) {
        let forged = self.packet(world, to).saying(world, HOSTILE, to, of);
        Self::send(world, to, &forged);
    }

    fn tell(&mut self, world: &mut World, to: usize, notices: Vec<v1::Notice>) {
        let mut forged = self.packet(world, to);
        forged.packet.notices = notices;
        Self::send(world, to, &forged);
    }

    fn join(world: &mut World, to: usize, change: impl FnOnce(&mut v1::JoinState)) {
        let mut state = world.nodes[HOSTILE].engine.join_state(None);
        change(&mut state);
        world.input(to, Input::Joined { peer: spiffe("hostile"), state });
    }

    /// Lies about members, in the SWIM engine's own words.
    fn lie(&mut self, world: &mut World, to: usize) {
        let own = *world.nodes[HOSTILE].engine.identity();
        let all: Vec<MemberIdentity> = (0..HONEST).map(|n| *world.nodes[n].engine.identity()).collect();
        let choice = self.rng.random_range(0..5);
        let lie = |identity: &MemberIdentity| match choice {
            0 => Member::alive(SwimIdentity(MemberIdentity {
                generation: Generation(u32::MAX),
                rejoin: u16::MAX,
                address: own.address,
                ..*identity
            })),
            1 => Member::new(SwimIdentity(*identity), u16::MAX, SwimState::Down),
            2 => Member::new(SwimIdentity(*identity), 0, SwimState::Down),
            3 => Member::new(SwimIdentity(*identity), u16::MAX, SwimState::Suspect),
            _ => Member::new(SwimIdentity(*identity), u16::MAX, SwimState::Alive),
        };
        self.say(world, to, all.iter().map(lie).collect());
    }

    /// Tells a member that it is down, suspected, in another's boot.
    fn threaten(&mut self, world: &mut World, to: usize) {
        let (from, dst) = (*world.nodes[HOSTILE].engine.identity(), *world.nodes[to].engine.identity());
        let header = Header {
            src: SwimIdentity(from),
            src_incarnation: u16::MAX,
            dst: SwimIdentity(dst),
            message: SwimMessage::TurnUndead,
        };
        let mut forged = self.packet(world, to);
        forged.packet.swim = SwimPacket { header, updates: vec![] }.encode().unwrap();
        forged.packet.suspect_flag = true;
        forged.packet.keyring = u64::MAX;
        forged.packet.catalog_hash = 1;
        forged.packet.load = Some(v1::LoadSummary {
            in_flight: u32::MAX,
            cpu_permille: u32::MAX,
            overload: u32::MAX,
            unhealthy: u32::MAX,
        });
        Self::send(world, to, &forged);
    }

    fn accuse(&mut self, world: &mut World, to: usize) {
        let accusations = (0..3).map(|_| {
            let accused = *world.nodes[self.honest()].engine.identity();
            let body = v1::Accusation {
                accused: Some((&accused).into()),
                incarnation: u16::MAX.into(),
                reason: v1::AccusationReason::ProbeFailed.into(),
                failed: u32::MAX,
                observed: u32::MAX,
            };
            self.notice(world, v1::NoticeKind::Accusation, &body)
        });
        let accusations = accusations.collect();
        self.tell(world, to, accusations);
    }

    /// In the name of others.
    fn forge(&mut self, world: &mut World, to: usize) {
        let victim = self.honest();
        let identity = *world.nodes[victim].engine.identity();
        let body = v1::Departure { identity: Some((&identity).into()), reason: "bye".to_owned() };
        let mut departure = self.notice(world, v1::NoticeKind::Departure, &body);
        let own = departure.clone();
        departure.author = identity.node_id.to_bytes();
        departure.generation = identity.generation.0;
        self.tell(world, to, vec![departure, own]);
        let body = v1::Dismissal { identity: Some((&identity).into()), prune: true, reason: String::new() };
        let dismissal = self.notice(world, v1::NoticeKind::Dismissal, &body);
        self.tell(world, to, vec![dismissal]);
        let flip =
            v1::HealthFlip { service: format!("ns/default/svc/s{victim}"), sequence: u64::MAX, ..Default::default() };
        let mut flip = self.notice(world, v1::NoticeKind::Health, &flip);
        let own = flip.clone();
        flip.author = identity.node_id.to_bytes();
        self.tell(world, to, vec![flip, own]);
        // A packet of the victim, signed by another; and one of ours that speaks for it.
        let mut forged = Forged::new(world, victim, to);
        forged.key = World::key(HOSTILE);
        forged.packet.counter = u64::MAX;
        Self::send(world, to, &forged);
        let mut forged = self.packet(world, to);
        forged.packet.swim = gossip(identity, *world.nodes[to].engine.identity(), vec![]);
        Self::send(world, to, &forged);
    }

    /// Values in others' names, and impossible ones of its own.
    fn publish(&mut self, world: &mut World, to: usize) {
        let victim = self.honest();
        let (owner, generation) = (world.nodes[victim].id, world.nodes[victim].engine.identity().generation);
        let known = world.nodes[to].engine.catalog().values_of(owner).next().cloned();
        let mut forged = known.unwrap_or_default();
        forged.withdrawn = true;
        forged.body = Bytes::new();
        forged.version = 1 << 48;
        forged.sequence = 1 << 48;
        forged.generation = generation.0 + self.rng.random_range(0..2);
        let statement = crate::catalog::statement(&forged);
        forged.signature = Bytes::copy_from_slice(&World::key(HOSTILE).sign(&statement));
        let (key, value) = (forged.key.clone(), forged.encode_to_vec().into());
        world.input(to, Input::Value { owner, key, value });
        let own = *world.nodes[HOSTILE].engine.identity();
        let mut catalog = Catalog::new(own.node_id, Generation(own.generation.0 + 5));
        let key = World::key(HOSTILE);
        let many = (0..300).filter_map(|n| catalog.set(&format!("x{n}"), Bytes::from_static(&[1; 100]), &key).ok());
        let many: Vec<_> = many.map(|bytes| v1::SignedValue::decode(bytes).unwrap()).collect();
        Self::join(world, to, |state| {
            state.records.push(forged);
            state.records.extend(many.iter().cycle().take(2_000).cloned());
            state.remembered_generation = u32::MAX;
            for member in &mut state.members {
                member.status = v1::MemberStatus::Left.into();
                member.counter_floor = u64::MAX;
            }
        });
    }

    fn mint(&mut self, world: &mut World, to: usize) {
        let address = world.nodes[HOSTILE].address;
        let members: Vec<_> = (0..500)
            .map(|_| {
                let key = SigningKey::from_seed(self.rng.random()).unwrap();
                let identity =
                    MemberIdentity { node_id: key.node_id(), address, generation: Generation(1), rejoin: 0, cell: 0 };
                v1::MemberState {
                    identity: Some((&identity).into()),
                    status: v1::MemberStatus::Alive.into(),
                    credential: credential(&key, "hostile"),
                    ..Default::default()
                }
            })
            .collect();
        world.input(to, Input::Resolved { members: members.clone() });
        Self::join(world, to, |state| state.members = members);
    }

    fn replay(&mut self, world: &mut World, to: usize) {
        self.captured.extend(world.tap.replace(Vec::new()).into_iter().flatten().map(|(_, _, bytes)| bytes));
        let keep = self.captured.len().saturating_sub(500);
        self.captured.drain(..keep);
        for _ in 0..20 {
            if self.captured.is_empty() {
                return;
            }
            let bytes = self.captured[self.rng.random_range(0..self.captured.len())].clone();
            let from = world.gossip(self.rng.random_range(0..=HONEST));
            world.input(to, Input::Datagram { from, bytes });
        }
    }

    fn flood(&mut self, world: &mut World, to: usize) {
        for _ in 0..300 {
            let forged = self.packet(world, to);
            Self::send(world, to, &forged);
        }
    }

    fn attack(&mut self, world: &mut World) {
        let to = self.honest();
        match self.rng.random_range(0..9) {
            0 | 1 => self.lie(world, to),
            2 => self.threaten(world, to),
            3 => self.accuse(world, to),
            4 => self.forge(world, to),
            5 => self.publish(world, to),
            6 => self.mint(world, to),
            7 => self.replay(world, to),
            _ => self.flood(world, to),
        }
    }
}

fn services(world: &World, n: usize) -> usize {
    let view = world.nodes[n].engine.view();
    let honest = (0..HONEST).filter(|other| {
        let name = format!("s{other}").parse().unwrap();
        view.services.get(&name).is_some_and(|endpoints| endpoints.len() == 1 && endpoints[0].healthy)
    });
    honest.count()
}

/// What `at` holds of each honest owner.
fn records(world: &World, at: usize) -> Vec<u64> {
    world.nodes[..HONEST].iter().map(|owner| world.nodes[at].engine.catalog().hash_of(owner.id)).collect()
}

fn mesh_with_services(seed: u64) -> World {
    let mut world = World::mesh(seed, HONEST);
    let hostile = world.add("hostile");
    world.dial(hostile, 0);
    for n in 0..HONEST {
        world.offer(n, &format!("s{n}"));
    }
    assert!(world.run_until(Duration::from_secs(10), World::all_alive).is_some());
    world.run_for(Duration::from_secs(2));
    world
}

fn hold_out(seed: u64) {
    let mut world = mesh_with_services(seed);
    world.tap = Some(Vec::new());
    let before: Vec<_> = (0..HONEST).map(|n| *world.nodes[n].engine.identity()).collect();
    let signed: Vec<_> = (0..HONEST).map(|n| records(&world, n)[n]).collect();
    assert!(signed.iter().all(|hash| *hash != 0), "seed {seed}: no records");
    let mut attacker = Attacker::new(seed);
    for tenth in 0..400 {
        attacker.attack(&mut world);
        world.run_for(Duration::from_millis(100));
        for n in 0..HONEST {
            assert_eq!(records(&world, n), signed, "seed {seed}, tenth {tenth}: others' records at {n}");
            assert_eq!(services(&world, n), HONEST, "seed {seed}, tenth {tenth}: the catalog of {n}");
            let gone = (0..HONEST).find(|other| !world.sees(n, *other).is_some_and(State::is_up));
            assert_eq!(gone, None, "seed {seed}, tenth {tenth}: {n} lost it{}", world.table());
        }
    }
    let honest = |node| world.nodes[..HONEST].iter().any(|known| known.id == node);
    for (n, before) in before.iter().enumerate() {
        let engine = &world.nodes[n].engine;
        let now = engine.identity();
        assert_eq!((now.generation, now.address), (before.generation, before.address), "seed {seed}");
        for (node, offences) in engine.offenders() {
            assert!(!honest(node), "seed {seed}: {n} blames {node} for {offences:?}");
        }
        assert!(engine.offenders().contains_key(&world.nodes[HOSTILE].id), "seed {seed}: {n} names nobody");
        let named = |event: &Event| matches!(event, Event::Offender { name, .. } if name == "hostile");
        assert!(world.nodes[n].events.iter().any(|(_, event)| named(event)), "seed {seed}");
        let sizes = engine.sizes();
        assert!(sizes.members <= HONEST + 1 && sizes.notices <= 256 && sizes.contacts <= HONEST + 1, "{sizes:?}");
        assert_eq!(engine.counters().swim_errors, 0, "seed {seed}");
    }
    // When it is over, all is as it should be within moments.
    let honest = |world: &World| (0..HONEST).all(|a| (0..HONEST).all(|b| world.sees(a, b) == Some(State::Alive)));
    assert!(world.run_until(Duration::from_secs(5), honest).is_some(), "seed {seed}{}", world.table());
    assert!((0..HONEST).all(|n| records(&world, n) == signed), "seed {seed}: catalogs differ");
}

#[test]
fn a_mesh_keeps_its_members_and_its_catalog_whatever_one_member_does() {
    for seed in 0..2 {
        hold_out(seed);
    }
}
