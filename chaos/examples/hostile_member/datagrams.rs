//! What it sends to gossip ports.

use std::net::IpAddr;

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use starling_gossip::raw::{self, SwimState};
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity};

use crate::member::Member;

/// One attack on a victim. Says which.
pub(crate) fn attack(member: &mut Member, victim: IpAddr) -> &'static str {
    let Some(victim) = member.at(victim) else { return "nobody" };
    match member.rng.random_range(0..7) {
        0 | 1 => lie(member, victim),
        2 => threaten(member, victim),
        3 => accuse(member, victim),
        4 => forge(member, victim),
        5 => replay(member, victim),
        _ => flood(member, victim),
    }
}

fn lie(member: &mut Member, to: MemberIdentity) -> &'static str {
    let own = *member.engine.identity();
    let choice = member.rng.random_range(0..4);
    let lies = member.others().into_iter().map(|other| match choice {
        0 => {
            let moved =
                MemberIdentity { generation: Generation(u32::MAX), rejoin: u16::MAX, address: own.address, ..other };
            (moved, 0, SwimState::Alive)
        }
        1 => (other, u16::MAX, SwimState::Down),
        2 => (other, 0, SwimState::Down),
        _ => (other, u16::MAX, SwimState::Suspect),
    });
    let lies = lies.collect::<Vec<_>>();
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(own, to, &lies).unwrap_or_default();
    member.send(to.address.gossip(), &packet);
    "lies about members"
}

fn threaten(member: &mut Member, to: MemberIdentity) -> &'static str {
    let own = *member.engine.identity();
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(own, to, &[(to, u16::MAX, SwimState::Down)]).unwrap_or_default();
    packet.suspect_flag = true;
    packet.catalog_hash = 1;
    packet.keyring = u64::MAX;
    packet.load = Some(v1::LoadSummary { in_flight: u32::MAX, overload: u32::MAX, ..Default::default() });
    member.send(to.address.gossip(), &packet);
    "told that it is down"
}

fn notice(member: &mut Member, kind: v1::NoticeKind, body: &impl Message) -> v1::Notice {
    member.notices += 1;
    let own = member.engine.identity();
    let mut notice = v1::Notice {
        kind: kind.into(),
        author: own.node_id.to_bytes(),
        generation: own.generation.0,
        seq: member.notices,
        body: body.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    raw::sign_notice(&mut notice, &member.key);
    notice
}

fn accuse(member: &mut Member, to: MemberIdentity) -> &'static str {
    let mut packet = member.packet(to.node_id);
    for other in member.others().into_iter().take(3) {
        let body = v1::Accusation {
            accused: Some((&other).into()),
            incarnation: u16::MAX.into(),
            reason: v1::AccusationReason::ProbeFailed.into(),
            failed: 1,
            observed: 1,
        };
        packet.notices.push(notice(member, v1::NoticeKind::Accusation, &body));
    }
    member.send(to.address.gossip(), &packet);
    "accusations"
}

/// In the name of another, whom it tells its victim of.
fn forge(member: &mut Member, to: MemberIdentity) -> &'static str {
    let others = member.others();
    let Some(other) = others.iter().find(|other| other.node_id != to.node_id) else { return "nobody" };
    let body = v1::Departure { identity: Some(other.into()), reason: "bye".to_owned() };
    let own = notice(member, v1::NoticeKind::Departure, &body);
    let mut forged = own.clone();
    forged.author = other.node_id.to_bytes();
    forged.generation = other.generation.0;
    let dismissal = v1::Dismissal { identity: Some(other.into()), prune: true, reason: String::new() };
    let dismissal = notice(member, v1::NoticeKind::Dismissal, &dismissal);
    for said in [own, forged, dismissal] {
        let mut packet = member.packet(to.node_id);
        packet.notices.push(said);
        member.send(to.address.gossip(), &packet);
    }
    let mut packet = member.packet(to.node_id);
    packet.sender = other.node_id.to_bytes();
    packet.generation = other.generation.0;
    packet.counter = u64::MAX;
    member.send(to.address.gossip(), &packet);
    let mut packet = member.packet(to.node_id);
    packet.swim = raw::gossip(*other, to, &[]).unwrap_or_default();
    member.send(to.address.gossip(), &packet);
    let mut packet = member.packet(to.node_id);
    packet.swim = (0..200).map(|_| member.rng.random::<u8>()).collect();
    member.send(to.address.gossip(), &packet);
    "in the name of others"
}

/// What others sent to it goes to a third, and back.
fn replay(member: &mut Member, to: MemberIdentity) -> &'static str {
    for bytes in member.captured.iter().rev().take(30) {
        member.send_bytes(to.address.gossip(), bytes);
    }
    "replays"
}

fn flood(member: &mut Member, to: MemberIdentity) -> &'static str {
    for _ in 0..60 {
        let packet = member.packet(to.node_id);
        member.send(to.address.gossip(), &packet);
    }
    "floods"
}
