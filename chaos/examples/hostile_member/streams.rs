//! What it sends over control streams.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use starling_gossip::catalog::{MAX_VALUE, text};
use starling_gossip::raw;
use starling_proto::mesh::v1::{self, control_request};
use starling_proto::{MemberIdentity, NodeId};

use crate::member::Member;
use crate::mint::Minted;

const CHITCHAT: [u8; 3] = [0x53, 0xb0, 0];

/// Was it answered?
async fn is_answered(member: &mut Member, at: SocketAddr, kind: control_request::Kind) -> u64 {
    u64::from(member.ask(at, kind).await.is_some())
}

/// After thousands of nodes, and of keys.
pub(crate) async fn ask(member: &mut Member, at: SocketAddr) -> u64 {
    let node_ids = (0..2_000_u32).map(|n| NodeId::of_key(&n.to_be_bytes()).to_bytes()).collect();
    let resolved = is_answered(member, at, control_request::Kind::Resolve(v1::Resolve { node_ids })).await;
    let keys = (0..2_000).map(|n| format!("k{n}")).collect();
    let owner = member.others().first().map_or_else(Bytes::new, |other| other.node_id.to_bytes());
    resolved + is_answered(member, at, control_request::Kind::Pull(v1::Pull { keys, owner })).await
}

/// Each breaks another rule.
pub(crate) async fn chitchat(member: &mut Member, to: MemberIdentity) -> u64 {
    let mut sent = 0;
    for message in messages(member, &to) {
        sent += u64::from(member.push(to.address.quic(), message).await);
    }
    sent
}

/// Others have left, their counters are used up, their records are withdrawn; and more of its own than it may have.
pub(crate) async fn false_state(member: &mut Member, at: SocketAddr) -> u64 {
    let mut state = member.state();
    state.remembered_generation = u32::MAX;
    for known in &mut state.members {
        known.status = v1::MemberStatus::Left.into();
        known.counter_floor = u64::MAX;
    }
    for record in &mut state.records {
        record.withdrawn = true;
        record.body = Bytes::new();
        record.sequence = 1 << 48;
        record.version = 1 << 48;
        raw::sign_value(record, &member.key);
    }
    let own = *member.engine.identity();
    state.records.extend((0..2_000_u64).map(|n| {
        let mut value = v1::SignedValue {
            owner: own.node_id.to_bytes(),
            generation: own.generation.0,
            key: format!("svc/default/billing/{}", n % 300),
            version: n + 1,
            sequence: n + 1,
            body: service().into(),
            ..Default::default()
        };
        raw::sign_value(&mut value, &member.key);
        value
    }));
    is_answered(member, at, control_request::Kind::Join(state)).await
}

/// A service that no certificate of this mesh names.
fn service() -> Vec<u8> {
    let service = "ns/default/svc/billing".to_owned();
    v1::ServiceRecord { service, port: 1, protocol: 1, healthy: true, ..Default::default() }.encode_to_vec()
}

/// Identities it made up, as members that it knows. How many it named.
pub(crate) async fn name(member: &mut Member, at: SocketAddr, minted: &[Minted]) -> u64 {
    let mut state = member.state();
    let own = *member.engine.identity();
    let known = |one: &Minted| v1::MemberState {
        identity: Some((&one.identity(&own)).into()),
        status: v1::MemberStatus::Alive.into(),
        credential: one.credential.clone(),
        ..Default::default()
    };
    state.members = minted.iter().map(known).collect();
    is_answered(member, at, control_request::Kind::Join(state)).await * minted.len() as u64
}

fn put_text(text: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn put_id(id: &MemberIdentity, to: &mut Vec<u8>) {
    put_text(&id.node_id.to_string(), to);
    to.extend_from_slice(&u64::from(id.generation.0).to_le_bytes());
    if let IpAddr::V4(ip) = id.address.ip {
        to.push(4);
        to.extend_from_slice(&ip.octets());
    }
    to.extend_from_slice(&id.address.quic_port.to_le_bytes());
}

/// A delta of a node: where it was collected to, from which version on, and operations.
fn delta(of: &MemberIdentity, collected: u64, from: u64, operations: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    put_id(of, &mut bytes);
    bytes.extend_from_slice(&collected.to_le_bytes());
    bytes.extend_from_slice(&from.to_le_bytes());
    bytes.extend_from_slice(operations);
    ack(&bytes)
}

fn ack(operations: &[u8]) -> Vec<u8> {
    let mut message = [&CHITCHAT[..], &[2]].concat();
    for block in operations.chunks(16_000) {
        message.push(2);
        message.extend_from_slice(&u16::try_from(block.len()).unwrap_or(u16::MAX).to_le_bytes());
        message.extend_from_slice(block);
    }
    message.push(0);
    message
}

fn value(key: &str, text: &str, version: u64, status: u8) -> Vec<u8> {
    let mut bytes = vec![1];
    put_text(key, &mut bytes);
    put_text(text, &mut bytes);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.push(status);
    bytes
}

/// The highest heartbeat and version there are, of each of these.
fn digest(of: &[&MemberIdentity]) -> Vec<u8> {
    let count = u16::try_from(of.len()).unwrap_or(u16::MAX);
    let mut digest = [&CHITCHAT[..], &[0], &count.to_le_bytes()].concat();
    for id in of {
        put_id(id, &mut digest);
        for number in [u64::MAX, 0, u64::MAX] {
            digest.extend_from_slice(&number.to_le_bytes());
        }
    }
    put_text("chaos.example", &mut digest);
    digest
}

/// Those about others are about one that is not the victim: of itself it believes nothing anyway.
fn messages(member: &mut Member, victim: &MemberIdentity) -> Vec<Vec<u8>> {
    let others = member.others();
    let Some(other) = others.iter().find(|other| other.node_id != victim.node_id) else { return Vec::new() };
    let mut stolen = v1::SignedValue {
        owner: other.node_id.to_bytes(),
        generation: other.generation.0,
        key: "node".to_owned(),
        version: 9,
        sequence: 9,
        ..Default::default()
    };
    raw::sign_value(&mut stolen, &member.key);
    let stolen = text::encode(&stolen.encode_to_vec());
    let noise: Vec<u8> = (0..3_000).map(|_| member.rng.random()).collect();
    let mut messages = vec![
        delta(other, 0, 0, &value("node", &stolen, 9, 0)),
        delta(other, 0, 0, &value("node", "", 1 << 40, 1)),
        delta(other, 0, 0, &[&[2][..], &u64::MAX.to_le_bytes()].concat()),
        delta(other, u64::MAX, 0, &[]),
        delta(other, 0, 0, &value("node", &"A".repeat(2 * MAX_VALUE), 9, 0)),
        digest(&[other]),
        digest(&[other, other]),
        noise,
        [&CHITCHAT[..], &[7]].concat(),
    ];
    // One of these is about the victim itself.
    messages.extend(others.iter().map(|other| delta(other, 0, 0, &value("mine", &stolen, 1 << 40, 0))));
    messages
}
