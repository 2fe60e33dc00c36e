//! Notices, signed or not.

use prost::Message;
use starling_gossip::raw;
use starling_proto::mesh::v1;

use super::people::{GENERATION, catalog, id, identity, key};
use super::{Run, Target};
use crate::fingerprint::of_answer;

pub(super) fn target() -> Target {
    Target { name: "notice", about: "what members say to all", memory: 128 << 10, least_answers: 6, seeds, start }
}

pub(super) fn departure() -> v1::Notice {
    let body = v1::Departure { identity: Some((&identity(1)).into()), reason: "update".to_owned() };
    notice(v1::NoticeKind::Departure, &body)
}

fn notice(kind: v1::NoticeKind, body: &impl Message) -> v1::Notice {
    let body = body.encode_to_vec().into();
    let author = id(1).to_bytes();
    let mut notice =
        v1::Notice { kind: kind.into(), author, generation: GENERATION, seq: 1, body, ..Default::default() };
    raw::sign_notice(&mut notice, &key(1));
    notice
}

pub(super) fn notices() -> Vec<v1::Notice> {
    let three = Some((&identity(3)).into());
    let accusation = v1::Accusation { accused: three.clone(), incarnation: 3, reason: 1, failed: 1, observed: 1 };
    let flip = v1::HealthFlip { service: "ns/default/svc/orders".to_owned(), sequence: 2, ..Default::default() };
    let load = v1::LoadSummary { overload: 90, ..Default::default() };
    let announcement = v1::RecordAnnouncement { key: "k9".to_owned(), version: 9 };
    let mut all = vec![
        departure(),
        notice(v1::NoticeKind::Accusation, &accusation),
        notice(v1::NoticeKind::Health, &flip),
        notice(v1::NoticeKind::Overload, &v1::Overload { load: Some(load), counter: 3 }),
        notice(v1::NoticeKind::RecordAnnouncement, &announcement),
        notice(v1::NoticeKind::Dismissal, &v1::Dismissal { identity: three, ..Default::default() }),
    ];
    all.extend(
        catalog(1).values().filter(|value| value.body.len() < 10).map(|value| notice(v1::NoticeKind::Record, value)),
    );
    all
}

fn seeds() -> Vec<Vec<u8>> {
    notices().iter().map(Message::encode_to_vec).collect()
}

fn start() -> Run {
    Box::new(|input| {
        let answer = v1::Notice::decode(input).map_err(|error| error.to_string()).map(|notice| {
            let read = raw::read_notice(&notice).map(|_| ());
            // The body's place is a kind's; each kind is tried with each body.
            let others = (1..9).map(|kind| raw::read_notice(&v1::Notice { kind, ..notice.clone() }).is_ok());
            (read, others.collect::<Vec<_>>())
        });
        of_answer(&format!("{answer:?}"))
    })
}
