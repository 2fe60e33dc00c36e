//! What it sends over control streams.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use starling_gossip::catalog::{MAX_VALUE, text};
use starling_gossip::raw;
use starling_proto::mesh::v1::{self, control_request};
use starling_proto::{Generation, MemberIdentity, NodeId};

use crate::QUIC;
use crate::member::Member;

const CHITCHAT: [u8; 3] = [0x53, 0xb0, 0];

/// One attack on a victim. Says which.
pub(crate) async fn attack(member: &mut Member, victim: IpAddr, minted: &[(NodeId, Bytes)]) -> &'static str {
    let at = SocketAddr::new(victim, QUIC);
    match member.rng.random_range(0..6) {
        0 => false_state(member, at).await,
        1 => minted_identities(member, at, minted).await,
        2 => {
            let node_ids = (0..2_000_u32).map(|n| NodeId::of_key(&n.to_be_bytes()).to_bytes()).collect();
            member.ask(at, control_request::Kind::Resolve(v1::Resolve { node_ids })).await;
            let keys = (0..2_000).map(|n| format!("k{n}")).collect();
            let owner = member.others().first().map_or_else(Bytes::new, |other| other.node_id.to_bytes());
            member.ask(at, control_request::Kind::Pull(v1::Pull { keys, owner })).await;
            "great questions"
        }
        _ => {
            for message in messages(member) {
                member.push(at, message).await;
            }
            "messages of chitchat"
        }
    }
}

/// Others have left, their counters are used up, their records are withdrawn; and more of its own than it may have.
async fn false_state(member: &mut Member, at: SocketAddr) -> &'static str {
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
    member.ask(at, control_request::Kind::Join(state)).await;
    "false states"
}

/// A service that no certificate of this mesh names.
fn service() -> Vec<u8> {
    let service = "ns/default/svc/billing".to_owned();
    v1::ServiceRecord { service, port: 1, protocol: 1, healthy: true, ..Default::default() }.encode_to_vec()
}

async fn minted_identities(member: &mut Member, at: SocketAddr, minted: &[(NodeId, Bytes)]) -> &'static str {
    let mut state = member.state();
    let own = *member.engine.identity();
    state.members = minted
        .iter()
        .map(|(node_id, credential)| {
            let identity = MemberIdentity { node_id: *node_id, generation: Generation(1), ..own };
            let status = v1::MemberStatus::Alive.into();
            v1::MemberState {
                identity: Some((&identity).into()),
                status,
                credential: credential.clone(),
                ..Default::default()
            }
        })
        .collect();
    member.ask(at, control_request::Kind::Join(state)).await;
    "minted identities"
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

/// Each breaks another rule.
fn messages(member: &mut Member) -> Vec<Vec<u8>> {
    let others = member.others();
    let Some(other) = others.first() else { return Vec::new() };
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
    let mut digest = [&CHITCHAT[..], &[0], &1_u16.to_le_bytes()].concat();
    put_id(other, &mut digest);
    for number in [u64::MAX, 0, u64::MAX] {
        digest.extend_from_slice(&number.to_le_bytes());
    }
    put_text("chaos.example", &mut digest);
    let noise: Vec<u8> = (0..3_000).map(|_| member.rng.random()).collect();
    let mut messages = vec![
        delta(other, 0, 0, &value("node", &stolen, 9, 0)),
        delta(other, 0, 0, &value("node", "", 1 << 40, 1)),
        delta(other, 0, 0, &[&[2][..], &u64::MAX.to_le_bytes()].concat()),
        delta(other, u64::MAX, 0, &[]),
        delta(other, 0, 0, &value("node", &"A".repeat(2 * MAX_VALUE), 9, 0)),
        digest,
        noise,
        [&CHITCHAT[..], &[7]].concat(),
    ];
    // About the victims themselves.
    messages.extend(others.iter().map(|other| delta(other, 0, 0, &value("mine", &stolen, 1 << 40, 0))));
    messages
}
