//! Notices: what a member says to all, signed by it, passed on by anyone.
//!
//! The signature covers the number of the kind and not its meaning, so that a node passes on kinds that are newer
//! than itself.

use bytes::{Bytes, BytesMut};
use prost::Message;
use starling_proto::mesh::v1;
use starling_proto::{Generation, MemberIdentity, NodeId, ServiceName, decode};

use crate::catalog::key::Key;
use crate::{Rejection, SigningKey, verify};

/// The most a notice's body may have, in bytes: with its signature it must fit into a datagram.
pub(crate) const MAX_BODY: usize = 900;
const DOMAIN: &[u8] = b"starling/notice/1\0";

/// What a notice says, once its author is known to have signed it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// "I saw this identity fail." `clear`: and it was not the author's own fault, as far as it can tell.
    Accusation { accused: MemberIdentity, incarnation: u16, clear: bool },
    /// "I leave on purpose."
    Departure { identity: MemberIdentity, reason: String },
    /// "This is a record of mine": an encoded `SignedValue`, and its key.
    Record { key: String, sequence: u64, value: Bytes },
    /// "My record under this key is now at this sequence."
    Announcement { key: String, sequence: u64 },
    /// "This instance of mine is (not) healthy from now on."
    Health(Flip),
    /// "I am overloaded from now on", or no longer. Packets of the author up to this counter are older.
    Overload { load: v1::LoadSummary, counter: u64 },
    /// "An operator here says that this member will not come back."
    Dismissal { identity: MemberIdentity, prune: bool, reason: String },
    /// A kind that this node does not act upon; passed on all the same.
    Else,
}

/// A change of the health of one service instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flip {
    pub(crate) service: ServiceName,
    pub(crate) instance: u32,
    pub(crate) healthy: bool,
    /// A record of this sequence or a higher one knows better.
    pub(crate) sequence: u64,
}

/// The bytes that an author signs.
pub(crate) fn statement(notice: &v1::Notice) -> Bytes {
    let mut bytes = BytesMut::with_capacity(DOMAIN.len() + 32 + notice.body.len());
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(&notice.kind.to_be_bytes());
    bytes.extend_from_slice(&notice.author);
    bytes.extend_from_slice(&notice.generation.to_be_bytes());
    bytes.extend_from_slice(&notice.seq.to_be_bytes());
    bytes.extend_from_slice(&notice.body);
    bytes.freeze()
}

/// Signs a notice. `None` if its body is too large.
pub(crate) fn sign(
    kind: v1::NoticeKind,
    generation: Generation,
    seq: u64,
    body: &impl Message,
    key: &SigningKey,
) -> Option<v1::Notice> {
    let mut notice = v1::Notice {
        kind: kind.into(),
        author: key.node_id().to_bytes(),
        generation: generation.0,
        seq,
        body: body.encode_to_vec().into(),
        signature: Bytes::new(),
    };
    if notice.body.len() > MAX_BODY {
        return None;
    }
    notice.signature = Bytes::copy_from_slice(&key.sign(&statement(&notice)));
    Some(notice)
}

/// Who claims to have written it, if it has the shape of a notice.
pub(crate) fn author(notice: &v1::Notice) -> Result<NodeId, Rejection> {
    if notice.body.len() > MAX_BODY || notice.signature.len() != 64 {
        return Err(Rejection::BadNotice);
    }
    NodeId::try_from(&notice.author[..]).map_err(|_| Rejection::BadNotice)
}

/// Did the owner of this key sign it?
pub(crate) fn is_signed_by(notice: &v1::Notice, public_key: &[u8; 32]) -> bool {
    verify(public_key, &statement(notice), &notice.signature)
}

/// Reads what it says.
pub(crate) fn read(notice: &v1::Notice) -> Result<Said, Rejection> {
    let identity = |wire: &Option<v1::NodeIdentity>| {
        wire.as_ref().and_then(|wire| MemberIdentity::try_from(wire).ok()).ok_or(Rejection::BadNotice)
    };
    match v1::NoticeKind::try_from(notice.kind) {
        Ok(v1::NoticeKind::Accusation) => {
            let body: v1::Accusation = body("Accusation", notice)?;
            let incarnation = u16::try_from(body.incarnation).map_err(|_| Rejection::BadNotice)?;
            let clear = body.reason() == v1::AccusationReason::ProbeFailed;
            Ok(Said::Accusation { accused: identity(&body.accused)?, incarnation, clear })
        }
        Ok(v1::NoticeKind::Departure) => {
            let body: v1::Departure = body("Departure", notice)?;
            let identity = identity(&body.identity)?;
            // Nobody departs in another's name, nor from another boot than the notice is of.
            let own = identity.node_id.as_bytes()[..] == notice.author[..];
            if !own || identity.generation.0 != notice.generation {
                return Err(Rejection::BadNotice);
            }
            Ok(Said::Departure { identity, reason: printable(&body.reason) })
        }
        Ok(v1::NoticeKind::Record) => {
            let value: v1::SignedValue = body("SignedValue", notice)?;
            if value.owner != notice.author {
                return Err(Rejection::BadNotice);
            }
            Ok(Said::Record { key: value.key, sequence: value.sequence, value: notice.body.clone() })
        }
        Ok(v1::NoticeKind::RecordAnnouncement) => {
            let body: v1::RecordAnnouncement = body("RecordAnnouncement", notice)?;
            Key::parse(&body.key).map_err(|_| Rejection::BadNotice)?;
            Ok(Said::Announcement { key: body.key, sequence: body.version })
        }
        Ok(v1::NoticeKind::Health) => {
            let body: v1::HealthFlip = body("HealthFlip", notice)?;
            let service = ServiceName::from_path(&body.service).map_err(|_| Rejection::BadNotice)?;
            let v1::HealthFlip { instance, healthy, sequence, .. } = body;
            Ok(Said::Health(Flip { service, instance, healthy, sequence }))
        }
        Ok(v1::NoticeKind::Overload) => {
            let body: v1::Overload = body("Overload", notice)?;
            Ok(Said::Overload { load: body.load.ok_or(Rejection::BadNotice)?, counter: body.counter })
        }
        Ok(v1::NoticeKind::Dismissal) => {
            let body: v1::Dismissal = body("Dismissal", notice)?;
            let identity = identity(&body.identity)?;
            // Whoever goes says so with a departure.
            if identity.node_id.as_bytes()[..] == notice.author[..] {
                return Err(Rejection::BadNotice);
            }
            Ok(Said::Dismissal { identity, prune: body.prune, reason: printable(&body.reason) })
        }
        _ => Ok(Said::Else),
    }
}

fn body<M: Message + Default>(what: &'static str, notice: &v1::Notice) -> Result<M, Rejection> {
    decode::message(what, notice.body.clone(), MAX_BODY).map_err(|_| Rejection::BadNotice)
}

/// A peer's words as they may stand in a log: at most 200 characters, none that steers a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_proto::NodeAddress;
    use std::net::IpAddr;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed([n; 32]).unwrap()
    }

    fn identity(n: u8) -> MemberIdentity {
        MemberIdentity {
            node_id: key(n).node_id(),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, n]), gossip_port: 7946, quic_port: 7947 },
            generation: Generation(9),
            rejoin: 0,
            cell: 0,
        }
    }

    fn departure(of: u8) -> v1::Departure {
        v1::Departure { identity: Some((&identity(of)).into()), reason: "up\u{1b}date".into() }
    }

    fn accusation() -> v1::Accusation {
        v1::Accusation {
            accused: Some((&identity(2)).into()),
            incarnation: 3,
            reason: v1::AccusationReason::ProbeFailed.into(),
            failed: 1,
            observed: 1,
        }
    }

    #[test]
    fn a_notice_says_what_its_author_signed() {
        let notice = sign(v1::NoticeKind::Accusation, Generation(9), 1, &accusation(), &key(1)).unwrap();
        assert_eq!(author(&notice), Ok(key(1).node_id()));
        assert!(is_signed_by(&notice, &key(1).public_key()));
        assert_eq!(read(&notice), Ok(Said::Accusation { accused: identity(2), incarnation: 3, clear: true }));
        let unclear = v1::Accusation { reason: v1::AccusationReason::ProbeUnclear.into(), ..accusation() };
        let notice = sign(v1::NoticeKind::Accusation, Generation(9), 2, &unclear, &key(1)).unwrap();
        assert_eq!(read(&notice), Ok(Said::Accusation { accused: identity(2), incarnation: 3, clear: false }));
    }

    #[test]
    fn a_departure_is_believed_of_oneself_only() {
        let sign = |of, generation| {
            sign(v1::NoticeKind::Departure, Generation(generation), 1, &departure(of), &key(1)).unwrap()
        };
        assert_eq!(read(&sign(1, 9)), Ok(Said::Departure { identity: identity(1), reason: "update".into() }));
        assert_eq!(read(&sign(2, 9)), Err(Rejection::BadNotice));
        assert_eq!(read(&sign(1, 8)), Err(Rejection::BadNotice));
    }

    #[test]
    fn each_part_of_a_notice_is_covered_by_its_signature() {
        let good = sign(v1::NoticeKind::Departure, Generation(9), 1, &departure(1), &key(1)).unwrap();
        let public = key(1).public_key();
        let changed: [fn(&mut v1::Notice); 5] = [
            |notice| notice.kind = 2,
            |notice| notice.author = key(2).node_id().to_bytes(),
            |notice| notice.generation = 10,
            |notice| notice.seq = 2,
            |notice| notice.body = Bytes::new(),
        ];
        for change in changed {
            let mut notice = good.clone();
            change(&mut notice);
            assert!(!is_signed_by(&notice, &public), "{notice:?}");
        }
    }

    #[test]
    fn a_kind_that_is_newer_than_this_node_can_still_be_checked() {
        let mut notice = sign(v1::NoticeKind::Health, Generation(9), 1, &v1::HealthFlip::default(), &key(1)).unwrap();
        notice.kind = 77;
        notice.signature = Bytes::copy_from_slice(&key(1).sign(&statement(&notice)));
        assert!(is_signed_by(&notice, &key(1).public_key()));
        assert_eq!(read(&notice), Ok(Said::Else));
    }

    #[test]
    fn health_and_overload_are_read_as_they_were_said() {
        let flip =
            v1::HealthFlip { service: "ns/shop/svc/orders".to_owned(), instance: 2, healthy: false, sequence: 7 };
        let signed = |body: &v1::HealthFlip| sign(v1::NoticeKind::Health, Generation(9), 1, body, &key(1)).unwrap();
        let notice = signed(&flip);
        let service = "orders.shop".parse().unwrap();
        assert_eq!(read(&notice), Ok(Said::Health(Flip { service, instance: 2, healthy: false, sequence: 7 })));
        let nameless = v1::HealthFlip { service: "orders".to_owned(), ..flip };
        assert_eq!(read(&signed(&nameless)), Err(Rejection::BadNotice));

        let load = v1::LoadSummary { overload: 90, ..Default::default() };
        let overload = |load| {
            let body = v1::Overload { load, counter: 5 };
            sign(v1::NoticeKind::Overload, Generation(9), 1, &body, &key(1)).unwrap()
        };
        assert_eq!(read(&overload(Some(load))), Ok(Said::Overload { load, counter: 5 }));
        assert_eq!(read(&overload(None)), Err(Rejection::BadNotice));
    }

    #[test]
    fn nobody_dismisses_itself() {
        let dismissal = |of| {
            let body = v1::Dismissal { identity: Some((&identity(of)).into()), prune: true, reason: "gone\n".into() };
            sign(v1::NoticeKind::Dismissal, Generation(9), 1, &body, &key(1)).unwrap()
        };
        let said = Said::Dismissal { identity: identity(2), prune: true, reason: "gone".into() };
        assert_eq!(read(&dismissal(2)), Ok(said));
        assert_eq!(read(&dismissal(1)), Err(Rejection::BadNotice));
    }

    #[test]
    fn a_notice_that_does_not_fit_is_neither_signed_nor_read() {
        let large = v1::Departure { identity: None, reason: "x".repeat(MAX_BODY) };
        assert!(sign(v1::NoticeKind::Departure, Generation(9), 1, &large, &key(1)).is_none());
        let mut notice = sign(v1::NoticeKind::Departure, Generation(9), 1, &departure(1), &key(1)).unwrap();
        notice.body = vec![0; MAX_BODY + 1].into();
        assert_eq!(author(&notice), Err(Rejection::BadNotice));
    }
}
