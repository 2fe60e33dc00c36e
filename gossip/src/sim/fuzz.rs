//! Whatever arrives, an engine neither panics nor loses its members.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use starling_proto::mesh::v1;

use super::adversary::Forged;
use super::{World, credential, spiffe};
use crate::{Input, State};

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn identity() -> impl Strategy<Value = Option<v1::NodeIdentity>> {
    let node = prop_oneof![bytes(20), (0_usize..4).prop_map(|n| World::key(n).node_id().to_bytes()),];
    let ip = prop_oneof![bytes(20), Just(Bytes::from_static(&[10, 0, 0, 9]))];
    let numbers = (any::<u16>(), any::<u16>(), any::<u32>(), any::<u16>());
    (node, ip, numbers).prop_map(|(node_id, ip, (gossip_port, quic_port, generation, rejoin))| {
        Some(v1::NodeIdentity {
            node_id,
            ip,
            gossip_port: gossip_port.into(),
            quic_port: quic_port.into(),
            generation,
            rejoin: rejoin.into(),
            cell: 0,
        })
    })
}

fn some_credential() -> impl Strategy<Value = Bytes> {
    prop_oneof![bytes(60), (0_usize..4).prop_map(|n| credential(&World::key(n), &format!("n{n}")))]
}

prop_compose! {
    fn member()(
        identity in identity(),
        incarnation in any::<u32>(),
        status in 0_i32..7,
        credential in some_credential(),
        counter_floor in any::<u64>(),
    ) -> v1::MemberState {
        v1::MemberState { identity, incarnation, status, credential, counter_floor }
    }
}

prop_compose! {
    fn record()(owner in bytes(20), key in ".{0,20}", body in bytes(50), numbers in any::<(u32, u64, u64, bool)>())
        -> v1::SignedValue {
        let (generation, version, sequence, withdrawn) = numbers;
        v1::SignedValue { owner, generation, key, version, sequence, withdrawn, body, signature: Bytes::new() }
    }
}

prop_compose! {
    fn join()(
        identity in identity(),
        version in 0_u32..3,
        incarnation in any::<u16>(),
        credential in some_credential(),
        numbers in any::<(u64, u32)>(),
        members in proptest::collection::vec(member(), 0..6),
        records in proptest::collection::vec(record(), 0..4),
    ) -> v1::JoinState {
        v1::JoinState {
            version,
            identity,
            incarnation: incarnation.into(),
            credential,
            counter_floor: numbers.0,
            remembered_generation: numbers.1,
            key_epochs: vec![],
            members,
            records,
            clock: 0,
            member_limit: 0,
            ..Default::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_datagrams_never_panic(datagrams in proptest::collection::vec(bytes(1_300), 1..20)) {
        let mut world = World::mesh(1, 2);
        let from = world.gossip(1);
        for bytes in datagrams {
            world.input(0, Input::Datagram { from, bytes });
        }
        prop_assert_eq!(world.sees(0, 1), Some(State::Alive));
    }

    #[test]
    fn arbitrary_packets_of_a_member_never_panic(
        swim in bytes(960),
        notices in proptest::collection::vec((0_i32..9, bytes(100), bytes(65)), 0..3),
        counter in any::<u64>(),
        generation in any::<u32>(),
    ) {
        let mut world = World::mesh(1, 3);
        let mut forged = Forged::new(&world, 1, 0);
        let author = forged.packet.sender.clone();
        let notice = |(kind, body, signature)| v1::Notice { kind, author: author.clone(), generation: 1_000, seq: 99, body, signature };
        forged.packet.notices = notices.into_iter().map(notice).collect();
        let from = world.gossip(1);
        let bytes = crate::envelope::seal(&forged.packet, &forged.key, &forged.keyring, forged.keyring.in_use(), [0; 12]);
        if let Some(bytes) = bytes {
            world.input(0, Input::Datagram { from, bytes });
        }
        forged.packet.notices.clear();
        forged.packet.counter += 1;
        forged.packet.swim = swim;
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        forged.packet.counter = counter;
        forged.packet.generation = generation;
        world.input(0, Input::Datagram { from, bytes: forged.seal() });
        world.run_for(Duration::from_secs(1));
        prop_assert_eq!(world.sees(0, 2), Some(State::Alive));
    }

    #[test]
    fn arbitrary_states_never_panic(states in proptest::collection::vec(join(), 1..6), name in 0..4) {
        let mut world = World::mesh(1, 2);
        for state in states {
            let members = state.members.clone();
            world.input(0, Input::Joined { peer: spiffe(&format!("n{name}")), state });
            world.input(0, Input::Resolved { members });
        }
        world.run_for(Duration::from_secs(1));
        prop_assert_eq!(world.sees(0, 0), Some(State::Alive));
    }
}
