//! The kernel's tables of TCP sockets as text: all of them are read, so this is only for where netlink is refused.

use std::fs;
use std::io;
use std::net::SocketAddr;

use super::{SocketOwner, Tuple};
use crate::capture::socket_address;

/// `TCP_LISTEN`.
const LISTENING: &str = "0A";

pub(super) fn find(tuple: Tuple) -> io::Result<Option<SocketOwner>> {
    let mut failed = None;
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        match fs::read_to_string(table) {
            Ok(text) => {
                if let Some(owner) = text.lines().find_map(|line| owner(line, tuple)) {
                    return Ok(Some(owner));
                }
            }
            // A host without IPv6 has no second table.
            Err(error) => failed = failed.or_else(|| (!table.ends_with('6')).then_some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// The owner in a line, if it shows this connection.
fn owner(line: &str, tuple: Tuple) -> Option<SocketOwner> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let same = |field: &str, address: SocketAddr| {
        socket_address(field)
            .is_some_and(|found| (found.ip().to_canonical(), found.port()) == (address.ip(), address.port()))
    };
    let fits = same(fields.next()?, tuple.local) && same(fields.next()?, tuple.remote);
    if !fits || fields.next()? == LISTENING {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode: u64 = fields.nth(1)?.parse().ok()?;
    Some(SocketOwner { uid, cgroup: None, orphaned: inode == 0 })
}
