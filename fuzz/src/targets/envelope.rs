//! What arrives on the gossip port: from outsiders, and behind the group key.

use bytes::Bytes;
use prost::Message;
use starling_gossip::{Rejection, raw};
use starling_proto::mesh::v1;

use super::people::{id, identity, key, keyring};
use super::{Run, Target};
use crate::fingerprint::{letter, of_answer};

/// An empty notice takes two bytes of a datagram, and a list grows by doubling: while it does, half of the old one is there too.
const MOST_NOTICES: usize = (raw::MAX_DATAGRAM / 2).next_power_of_two();

/// What the answer takes as text.
const TEXT: usize = 64 << 10;

pub(super) fn target() -> Target {
    Target {
        name: "envelope",
        about: "datagrams of outsiders, and what may stand behind the group key",
        memory: MOST_NOTICES * (3 * size_of::<v1::Notice>() + size_of::<Result<(), Rejection>>()) / 2 + TEXT,
        least_answers: 8,
        seeds,
        start,
    }
}

pub(super) fn packet() -> v1::Packet {
    v1::Packet {
        version: 1,
        sender: id(1).to_bytes(),
        destination: id(2).to_bytes(),
        generation: 1_000,
        counter: 7,
        load: Some(v1::LoadSummary { in_flight: 3, ..Default::default() }),
        swim: raw::gossip(identity(1), identity(2), &[(identity(3), 0, raw::SwimState::Alive)]).unwrap_or_default(),
        notices: vec![super::notice::departure()],
        padding: Bytes::from_static(&[0; 16]),
        credential: Bytes::from_static(&[1; 32]),
        ..Default::default()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let signed = v1::SignedPacket { packet: packet().encode_to_vec().into(), signature: vec![1; 64].into() };
    let datagram = raw::seal(&packet(), &key(1), &keyring(), [3; 12]).unwrap_or_default();
    vec![signed.encode_to_vec(), datagram.to_vec(), Vec::new()]
}

fn start() -> Run {
    let keyring = keyring();
    Box::new(move |input| {
        let outside = raw::open(input, &keyring).map(|_| ());
        let inside = raw::seal_bytes(input, &keyring, [5; 12]).ok_or("not sealed").map(|datagram| {
            let opened = raw::open(&datagram, &keyring);
            if let Ok(packet) = &opened {
                assert!(datagram.len() <= raw::MAX_DATAGRAM);
                assert!(packet.encoded_len() <= raw::MAX_DATAGRAM);
            }
            opened.map(|packet| {
                let swim = raw::swim(&packet.swim).is_ok().then_some(letter(packet.swim.len()));
                let notices: Vec<_> =
                    packet.notices.iter().map(|notice| raw::read_notice(notice).map(|_| ())).collect();
                (swim, notices, packet.load.is_some(), packet.suspect_flag, packet.padding.is_empty())
            })
        });
        of_answer(&format!("{outside:?} {inside:?}"))
    })
}
