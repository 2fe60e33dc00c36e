//! Messages of `NETLINK_SOCK_DIAG` as bytes (`linux/netlink.h`, `linux/inet_diag.h`), in the byte order of the machine but
//! for ports and addresses.

use std::net::{IpAddr, SocketAddr};

use super::{SocketOwner, Tuple};

/// Longer than any answer about one socket.
pub(super) const LONGEST: usize = 4096;

const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
/// `inet_diag_msg`; attributes follow.
const SOCKET: usize = 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP_LISTEN: u8 = 10;
const INET_DIAG_CGROUP_ID: u16 = 21;
const ENOENT: i32 = 2;

/// What the kernel says of one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Found(SocketOwner),
    Absent,
    Refused(i32),
    /// It answers another question.
    Stale,
    Unreadable,
}

/// Asks for the one socket with this connection; `None` if its two ends are of two families.
pub(super) fn request(tuple: Tuple, sequence: u32) -> Option<Vec<u8>> {
    let family = match (tuple.local, tuple.remote) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => AF_INET,
        (SocketAddr::V6(_), SocketAddr::V6(_)) => AF_INET6,
        _ => return None,
    };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend(u32::try_from(REQUEST).ok()?.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    // No extension is asked for; all states.
    bytes.extend([family, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(tuple.local.port().to_be_bytes());
    bytes.extend(tuple.remote.port().to_be_bytes());
    bytes.extend(sixteen(tuple.local.ip()));
    bytes.extend(sixteen(tuple.remote.ip()));
    // Any interface, any socket by that name (INET_DIAG_NOCOOKIE).
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    Some(bytes)
}

fn sixteen(ip: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    bytes
}

/// Reads what came back.
pub(super) fn read(bytes: &[u8], tuple: Tuple, sequence: u32) -> Answer {
    let header = u32_at(bytes, 0).zip(u16_at(bytes, 4)).zip(u32_at(bytes, 8));
    let Some(((length, kind), answers)) = header else { return Answer::Unreadable };
    if answers != sequence {
        return Answer::Stale;
    }
    let Some(body) = usize::try_from(length).ok().and_then(|length| bytes.get(HEADER..length)) else {
        return Answer::Unreadable;
    };
    match kind {
        NLMSG_ERROR => match u32_at(body, 0).map(|errno| errno.cast_signed().saturating_neg()) {
            Some(ENOENT) => Answer::Absent,
            Some(errno) if errno > 0 => Answer::Refused(errno),
            _ => Answer::Unreadable,
        },
        SOCK_DIAG_BY_FAMILY => socket(body, tuple),
        _ => Answer::Unreadable,
    }
}

fn socket(body: &[u8], tuple: Tuple) -> Answer {
    let (Some(state), Some(remote), Some(uid), Some(inode)) =
        (body.get(1), body.get(6..8), u32_at(body, 64), u32_at(body, 68))
    else {
        return Answer::Unreadable;
    };
    // Where no connection is, the kernel gives the listener on that port.
    if *state == TCP_LISTEN || remote != tuple.remote.port().to_be_bytes() {
        return Answer::Absent;
    }
    let cgroup = attribute(body.get(SOCKET..).unwrap_or_default(), INET_DIAG_CGROUP_ID);
    let cgroup = cgroup.and_then(|value| value.first_chunk()).map(|value| u64::from_ne_bytes(*value));
    Answer::Found(SocketOwner { uid, cgroup, orphaned: inode == 0 })
}

/// The value of an attribute: length (with its own four bytes), type, value, and up to the next multiple of four nothing.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let value = bytes.get(4..usize::from(length))?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple() -> Tuple {
        Tuple::new("127.0.0.1:40000".parse().unwrap(), "127.77.3.4:80".parse().unwrap())
    }

    fn answer(state: u8, inode: u32, attributes: &[u8]) -> Vec<u8> {
        let mut body = vec![0; SOCKET];
        body[1] = state;
        body[4..6].copy_from_slice(&40_000_u16.to_be_bytes());
        body[6..8].copy_from_slice(&80_u16.to_be_bytes());
        body[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
        body[68..].copy_from_slice(&inode.to_ne_bytes());
        body.extend(attributes);
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let head = [&length.to_ne_bytes()[..], &20_u16.to_ne_bytes(), &[0; 2], &7_u32.to_ne_bytes(), &[0; 4]].concat();
        [head, body].concat()
    }

    #[test]
    fn the_group_stands_among_the_attributes() {
        let shutdown = [&5_u16.to_ne_bytes()[..], &8_u16.to_ne_bytes(), &[3, 0, 0, 0]].concat();
        let group = [&12_u16.to_ne_bytes()[..], &21_u16.to_ne_bytes(), &4711_u64.to_ne_bytes()].concat();
        let bytes = answer(1, 9, &[shutdown, group].concat());
        let owner = SocketOwner { uid: 1000, cgroup: Some(4711), orphaned: false };
        assert_eq!(read(&bytes, tuple(), 7), Answer::Found(owner));
        assert_eq!(read(&bytes, tuple(), 8), Answer::Stale);
        let owner = SocketOwner { cgroup: None, orphaned: true, ..owner };
        assert_eq!(read(&answer(5, 0, &[]), tuple(), 7), Answer::Found(owner));
        assert_eq!(read(&answer(TCP_LISTEN, 9, &[]), tuple(), 7), Answer::Absent);
    }

    #[test]
    fn ends_of_two_families_are_no_connection() {
        let mixed = Tuple { local: "127.0.0.1:1".parse().unwrap(), remote: "[::1]:2".parse().unwrap() };
        assert_eq!(request(mixed, 1), None);
        assert_eq!(request(tuple(), 1).unwrap().len(), REQUEST);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), sequence in 0_u32..3) {
            let _ = read(&bytes, tuple(), sequence);
        }

        #[test]
        fn a_cut_answer_is_no_socket(cut in 0_usize..(HEADER + SOCKET)) {
            prop_assert!(!matches!(read(&answer(1, 9, &[])[..cut], tuple(), 7), Answer::Found(_)));
        }
    }
}
