//! Whose is a TCP socket of this host: the kernel is asked by netlink (`NETLINK_SOCK_DIAG`), and its tables in `/proc`
//! where it refuses.
//!
//! Both take no privilege and see one network namespace: that of the thread that opened them.

mod groups;
mod message;
mod proc_table;

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

pub(crate) use groups::{control_groups, is_within};

/// What is known of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketOwner {
    /// The user that made it.
    pub(crate) uid: u32,
    /// The id of the control group (version 2) that it was made in, which is the inode number of the group's
    /// directory; `None` where the kernel does not say.
    pub(crate) cgroup: Option<u64>,
    /// No program holds it any more: only the kernel still ends its connection.
    pub(crate) orphaned: bool,
}

/// A connection as one of its ends sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl Tuple {
    /// IPv4 within IPv6 is IPv4: the kernel keeps both in one table.
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self { local: plain(local), remote: plain(remote) }
    }
}

thread_local! {
    static SOCK_DIAG: OnceCell<Option<SockDiag>> = const { OnceCell::new() };
}

/// The owner of the socket with exactly this connection, in this thread's network namespace; `None` if there is none.
///
/// Takes some microseconds and never waits for anything.
///
/// # Errors
/// If neither the kernel nor `/proc` tells.
pub(crate) fn owner_of(tuple: Tuple) -> io::Result<Option<SocketOwner>> {
    let asked = SOCK_DIAG.with(|cell| cell.get_or_init(|| SockDiag::open().ok()).as_ref().map(|diag| diag.find(tuple)));
    match asked {
        Some(Ok(found)) => Ok(found),
        _ => proc_table::find(tuple),
    }
}

/// A netlink socket. The kernel answers within the call that asks.
struct SockDiag {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl SockDiag {
    fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    fn find(&self, tuple: Tuple) -> io::Result<Option<SocketOwner>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let Some(request) = message::request(tuple, sequence) else { return Ok(None) };
        sendto(self.socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0; message::LONGEST];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            match message::read(&answer[..length], tuple, sequence) {
                // One to an earlier question that was given up.
                message::Answer::Stale => {}
                message::Answer::Found(owner) => return Ok(Some(owner)),
                message::Answer::Absent => return Ok(None),
                message::Answer::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
                message::Answer::Unreadable => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn tuple(stream: &TcpStream) -> Tuple {
        Tuple::new(stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    }

    #[test]
    fn the_kernel_names_the_owner_of_a_socket_of_either_family() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, server) = pair(address);
            let diag = SockDiag::open().unwrap();
            for stream in [&client, &server] {
                let owner = diag.find(tuple(stream)).unwrap().unwrap();
                assert_eq!((owner.uid, owner.orphaned), (nix::unistd::geteuid().as_raw(), false), "{address}");
            }
        }
    }

    #[test]
    fn ipv4_over_an_ipv6_socket_is_found_too() {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(server.peer_addr().unwrap().is_ipv6());
        for stream in [&client, &server] {
            assert!(SockDiag::open().unwrap().find(tuple(stream)).unwrap().is_some());
        }
    }

    #[test]
    fn a_listener_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = "127.0.0.1:9".parse().unwrap();
        let tuple = Tuple::new(listener.local_addr().unwrap(), remote);
        assert_eq!(SockDiag::open().unwrap().find(tuple).unwrap(), None);
        assert_eq!(proc_table::find(tuple).unwrap(), None);
    }

    #[test]
    fn proc_says_the_same_without_the_group() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (client, _server) = pair(address);
            let found = SockDiag::open().unwrap().find(tuple(&client)).unwrap().unwrap();
            let read = proc_table::find(tuple(&client)).unwrap().unwrap();
            assert_eq!(read, SocketOwner { cgroup: None, ..found }, "{address}");
        }
    }

    #[test]
    fn many_questions_of_one_socket_keep_their_answers_apart() {
        let pairs: Vec<_> = (0..20).map(|_| pair("127.0.0.1:0")).collect();
        for (client, server) in &pairs {
            assert!(owner_of(tuple(client)).unwrap().is_some() && owner_of(tuple(server)).unwrap().is_some());
        }
        let gone: Vec<Tuple> = pairs.iter().map(|(client, _)| tuple(client)).collect();
        drop(pairs);
        for tuple in gone {
            assert!(owner_of(tuple).unwrap().is_none_or(|owner| owner.orphaned), "{tuple:?}");
        }
    }
}
