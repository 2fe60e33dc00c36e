//! Messages of `nf_tables` as bytes (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`): the numbers of netlink in
//! the byte order of the machine, those of `nf_tables` in that of the network.

use super::Families;
use crate::capture::selection::{ACTIVE, TABLE};

/// The most messages of one batch.
pub(super) const MOST: u32 = 16;

/// How long the flag stands by itself: some misses of the node's second are no harm, and after a crash nobody waits long.
const STANDS_MS: u64 = 5_000;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Subsystem and message: the high and the low byte.
const NF_TABLES: u16 = 0x0a;
const NEW_ELEMENT: u16 = 0x0a0c;
const DELETE_ELEMENT: u16 = 0x0a0e;
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NESTED: u16 = 0x8000;

/// Takes effect as a whole: the elements are added, for all kernels taken out (what stands there is not renewed by adding it
/// again), and if the flag is to be up, added anew.
pub(super) fn batch(families: Families, up: bool, sequence: u32) -> Vec<u8> {
    let named = [(families.ipv4, NFPROTO_IPV4), (families.ipv6, NFPROTO_IPV6)];
    let protocols = || named.into_iter().filter(|(wanted, _)| *wanted).map(|(_, protocol)| protocol);
    let elements: Vec<u8> = protocols().flat_map(element).collect();
    let mut messages = vec![(NEW_ELEMENT, &elements), (DELETE_ELEMENT, &elements)];
    if up {
        messages.push((NEW_ELEMENT, &elements));
    }
    let mut bytes = message(BATCH_BEGIN, REQUEST, sequence, 0, NF_TABLES.to_be_bytes(), &[]);
    for (number, (kind, elements)) in (1..).zip(messages) {
        let text = |text: &str| [text.as_bytes(), &[0]].concat();
        let body = [attribute(1, &text(TABLE)), attribute(2, &text(ACTIVE)), attribute(3 | NESTED, elements)].concat();
        let flags = if kind == NEW_ELEMENT { REQUEST | ACK | CREATE } else { REQUEST | ACK };
        bytes.extend(message(kind, flags, sequence.wrapping_add(number), NFPROTO_INET, [0, 0], &body));
    }
    bytes.extend(message(BATCH_END, REQUEST, sequence.wrapping_add(MOST - 1), 0, NF_TABLES.to_be_bytes(), &[]));
    bytes
}

/// One element: its key, a protocol of the network layer, and how long it stands.
fn element(protocol: u8) -> Vec<u8> {
    let key = attribute(1 | NESTED, &attribute(1, &[protocol]));
    let timeout = attribute(4, &STANDS_MS.to_be_bytes());
    attribute(1 | NESTED, &[timeout, key].concat())
}

/// Netlink's header, that of netfilter, and the rest.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: [u8; 2], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(20 + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource);
    bytes.extend(body);
    bytes
}

/// Length, type, value, and nothing up to the next multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The first error among the kernel's answers, as a positive number.
pub(super) fn refusal(mut bytes: &[u8]) -> Option<i32> {
    while let (Some(length), Some(kind)) = (bytes.first_chunk::<4>(), bytes.get(4..6)) {
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok().filter(|length| *length >= 16)?;
        if kind == NLMSG_ERROR.to_ne_bytes() {
            let code = bytes.get(16..20)?.first_chunk().map(|code| i32::from_ne_bytes(*code))?;
            if code < 0 {
                return Some(code.saturating_neg());
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_element_is_written_as_nft_writes_it() {
        // What `nft add element inet starling active { ipv4 timeout 5s }` sends of it.
        let expected = b"\x1c\x00\x01\x80\x0c\x00\x04\x00\x00\x00\x00\x00\x00\x00\x13\x88\x0c\x00\x01\x80\x05\x00\x01\x00\x02\x00\x00\x00";
        if cfg!(target_endian = "little") {
            assert_eq!(element(NFPROTO_IPV4), expected);
        }
    }

    #[test]
    fn lowered_it_is_not_added_anew() {
        let both = Families { ipv4: true, ipv6: true };
        let (up, down) = (batch(both, true, 7), batch(both, false, 7));
        assert!(up.len() > down.len());
        assert_eq!(up.len() % 4, 0);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = refusal(&bytes);
        }
    }
}
