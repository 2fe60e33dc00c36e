use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use crate::refusal::{Refusal, Refusals};

/// Connection ids of one listening shard, eight bytes:
///
/// ```text
/// | shard | boot | nonce, 3 bytes | tag, 3 bytes |
/// ```
///
/// The kernel steers by the first byte. The tag is an HMAC over the rest, under a key that the node keeps across
/// restarts: what does not carry it is noise, which is counted and gets no answer.
#[derive(Clone)]
pub(super) struct ShardIds {
    shard: u8,
    boot: u8,
    key: hmac::Key,
    refusals: Arc<Refusals>,
}

const BODY: usize = 5;
const LEN: usize = 8;

impl ShardIds {
    pub(super) fn new(shard: u8, boot: u8, key: hmac::Key, refusals: Arc<Refusals>) -> Self {
        Self { shard, boot, key, refusals }
    }

    fn tag(&self, body: &[u8]) -> [u8; LEN - BODY] {
        let tag = hmac::sign(&self.key, body);
        let [a, b, c, ..] = tag.as_ref() else { unreachable!("HMAC-SHA256 has 32 bytes") };
        [*a, *b, *c]
    }

    /// May a packet that carries this id, and belongs to no connection here, be answered with a stateless reset?
    /// Yes for a predecessor's and for our own; never for one that a living sibling shard may know, or a stranger
    /// could make one shard kill another's connections (RFC 9000, section 21.11).
    fn may_reset(&self, id: &[u8]) -> bool {
        let Some((body, tag)) = id.split_at_checked(BODY) else { return false };
        if tag != self.tag(body) {
            self.refusals.count(Refusal::Noise);
            return false;
        }
        body[1] != self.boot || body[0] == self.shard
    }
}

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LEN];
        id[0] = self.shard;
        id[1] = self.boot;
        aws_lc_rs::rand::fill(&mut id[2..BODY]).expect("the system's random source works");
        let tag = self.tag(&id[..BODY]);
        id[BODY..].copy_from_slice(&tag);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        if self.may_reset(id) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u8, boot: u8, key: &[u8]) -> ShardIds {
        ShardIds::new(shard, boot, hmac::Key::new(hmac::HMAC_SHA256, key), Arc::default())
    }

    #[test]
    fn an_id_names_its_shard_in_its_first_byte() {
        let mut ids = shard(7, 1, b"node");
        let (first, second) = (ids.generate_cid(), ids.generate_cid());
        assert_ne!(first, second);
        assert_eq!((first[0], first.len()), (7, ids.cid_len()));
    }

    #[test]
    fn a_reset_answers_predecessors_and_ourselves_but_no_living_sibling_and_no_noise() {
        let this = shard(0, 5, b"node");
        let answers = |mut other: ShardIds| this.validate(&other.generate_cid()).is_ok();
        assert!(answers(shard(0, 5, b"node")), "our own, of a connection that is over");
        assert!(answers(shard(0, 4, b"node")), "our predecessor's");
        assert!(answers(shard(3, 4, b"node")), "a predecessor's of another shard: the node may have fewer now");
        assert!(!answers(shard(1, 5, b"node")), "a living sibling's: it may know the connection");
        assert_eq!(this.refusals.of(Refusal::Noise), 0);
        assert!(!answers(shard(0, 4, b"other")), "another node's");
        for len in [0, 4, 8, 20] {
            assert!(this.validate(&ConnectionId::new(&[0x41; 20][..len])).is_err(), "noise of {len} bytes");
        }
        assert_eq!(this.refusals.of(Refusal::Noise), 3, "only what has the length of an id is looked at");
    }
}
