//! The flag that holds the redirects of ports, users and namespaces in force: elements of a set that expire by themselves, so that
//! a host whose node is gone gets its connections through again.

mod message;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// Which addresses a node answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

/// Raises and lowers the flag of the network namespace that it was opened in. Takes `CAP_NET_ADMIN`.
#[derive(Debug)]
pub(crate) struct Flag {
    socket: OwnedFd,
    sequence: AtomicU32,
}

impl Flag {
    /// # Errors
    /// If the kernel has no nftables.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        Ok(Self { socket, sequence: AtomicU32::new(0) })
    }

    /// Holds the redirects in force for the next five seconds. False if none are installed.
    ///
    /// # Errors
    /// Without privilege, `PermissionDenied`.
    pub(crate) fn raise(&self, families: Families) -> io::Result<bool> {
        self.set(families, true)
    }

    /// Ends the redirects. False if none are installed.
    ///
    /// # Errors
    /// As [`Flag::raise`].
    pub(crate) fn lower(&self) -> io::Result<bool> {
        self.set(Families { ipv4: true, ipv6: true }, false)
    }

    fn set(&self, families: Families, up: bool) -> io::Result<bool> {
        let sequence = self.sequence.fetch_add(message::MOST, Ordering::Relaxed);
        sendto(
            self.socket.as_raw_fd(),
            &message::batch(families, up, sequence),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        // The kernel has answered before the call came back. All is read, so that nothing waits for the next time.
        let mut refused = None;
        let mut answer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Ok(length) => refused = refused.or_else(|| message::refusal(&answer[..length])),
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match refused.map(io::Error::from_raw_os_error) {
            None => Ok(true),
            Some(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Some(error) => Err(error),
        }
    }
}
