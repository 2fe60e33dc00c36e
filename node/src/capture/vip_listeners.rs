use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::{PortHolder, holder_of};

/// Connections that may wait to be accepted on one VIP and port.
const BACKLOG: i32 = 1024;

/// The most VIPs and ports that are bound: each takes a descriptor. Beyond it, install the capture.
const MOST_LISTENERS: usize = 512;

/// Why a VIP and port can't be bound. None of them is fatal: the service can be called by other ways in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipBindError {
    /// A program has the port on all addresses.
    #[error("{address} is not open to callers: the port is taken by {}; `starling capture install` lets both be",
        holder.as_ref().map_or_else(|| "another program".to_owned(), ToString::to_string))]
    InUse {
        /// The VIP and port.
        address: SocketAddrV4,
        /// Who has it, where that can be seen.
        holder: Option<PortHolder>,
    },
    /// A port below 1024 for an ordinary user.
    #[error(
        "{0} is not open to callers: ports below 1024 need `starling capture install` once, or CAP_NET_BIND_SERVICE"
    )]
    Privileged(SocketAddrV4),
    /// More services and ports than are bound without the capture.
    #[error("{0} is not open to callers: without `starling capture install` at most {MOST_LISTENERS} are bound")]
    TooMany(SocketAddrV4),
    /// Anything else, by its text.
    #[error("{0} is not open to callers: {1}")]
    Other(SocketAddrV4, String),
}

/// Binds an address; gets how it failed the last time.
type Bind<'a> = dyn FnMut(SocketAddrV4, Option<&VipBindError>) -> Result<TcpListener, VipBindError> + 'a;

/// What one call of [`VipListeners::update`] changed.
#[derive(Debug, Default)]
pub struct VipChanges {
    /// New listeners, non-blocking, to be accepted from.
    pub opened: Vec<(SocketAddrV4, TcpListener)>,
    /// Those that are wanted no longer: the owner of the listener drops it.
    pub closed: Vec<SocketAddrV4>,
    /// Those that failed in a new way: to be logged. A failure that lasts is not told again.
    pub failed: Vec<VipBindError>,
}

/// The VIPs and ports that are bound on a host without the redirect.
#[derive(Debug)]
pub struct VipListeners {
    most: usize,
    open: BTreeSet<SocketAddrV4>,
    failed: BTreeMap<SocketAddrV4, VipBindError>,
}

impl Default for VipListeners {
    fn default() -> Self {
        Self::new()
    }
}

impl VipListeners {
    /// None yet.
    pub fn new() -> Self {
        Self { most: MOST_LISTENERS, open: BTreeSet::new(), failed: BTreeMap::new() }
    }

    /// Brings what is bound in line with what is wanted. What failed before is tried again, so call it now and then
    /// (every few seconds) even if nothing changed.
    pub fn update(&mut self, wanted: &BTreeSet<SocketAddrV4>) -> VipChanges {
        self.update_with(wanted, &mut bind)
    }

    fn update_with(&mut self, wanted: &BTreeSet<SocketAddrV4>, bind: &mut Bind<'_>) -> VipChanges {
        let mut changes =
            VipChanges { closed: self.open.difference(wanted).copied().collect(), ..VipChanges::default() };
        self.open.retain(|address| wanted.contains(address));
        self.failed.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if self.open.contains(address) {
                continue;
            }
            let full = self.open.len() >= self.most;
            match if full { Err(VipBindError::TooMany(*address)) } else { bind(*address, self.failed.get(address)) } {
                Ok(listener) => {
                    self.open.insert(*address);
                    self.failed.remove(address);
                    changes.opened.push((*address, listener));
                }
                Err(error) => {
                    if self.failed.insert(*address, error.clone()).as_ref() != Some(&error) {
                        changes.failed.push(error);
                    }
                }
            }
        }
        changes
    }
}

/// `before` is how it failed the last time: to find the holder of a port takes a walk through `/proc`, once.
fn bind(address: SocketAddrV4, before: Option<&VipBindError>) -> Result<TcpListener, VipBindError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::V4(address).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|error| match (error.kind(), before) {
        (io::ErrorKind::AddrInUse, Some(before @ VipBindError::InUse { .. })) => before.clone(),
        (io::ErrorKind::AddrInUse, _) => VipBindError::InUse { address, holder: holder_of(address.into()) },
        (io::ErrorKind::PermissionDenied, _) => VipBindError::Privileged(address),
        _ => VipBindError::Other(address, error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new([127, 77, 9, 9].into(), port)
    }

    #[allow(clippy::unnecessary_wraps, reason = "stands in for bind")]
    fn any_listener(_: SocketAddrV4, _: Option<&VipBindError>) -> Result<TcpListener, VipBindError> {
        Ok(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    #[test]
    fn what_is_wanted_is_opened_and_what_is_not_is_closed() {
        let mut listeners = VipListeners::new();
        let opened = |changes: &VipChanges| changes.opened.iter().map(|(address, _)| *address).collect::<Vec<_>>();
        let changes = listeners.update_with(&BTreeSet::from([vip(80), vip(81)]), &mut any_listener);
        assert_eq!((opened(&changes), changes.closed), (vec![vip(80), vip(81)], vec![]));
        let changes = listeners.update_with(&BTreeSet::from([vip(81), vip(82)]), &mut any_listener);
        assert_eq!((opened(&changes), changes.closed), (vec![vip(82)], vec![vip(80)]));
    }

    #[test]
    fn a_lasting_failure_is_told_once_and_tried_again() {
        let mut listeners = VipListeners::new();
        let wanted = BTreeSet::from([vip(80)]);
        let mut privileged = |address, _: Option<&VipBindError>| Err(VipBindError::Privileged(address));
        assert_eq!(listeners.update_with(&wanted, &mut privileged).failed, [VipBindError::Privileged(vip(80))]);
        assert_eq!(listeners.update_with(&wanted, &mut privileged).failed, []);
        let mut in_use = |address, _: Option<&VipBindError>| Err(VipBindError::InUse { address, holder: None });
        assert_eq!(listeners.update_with(&wanted, &mut in_use).failed.len(), 1);
        assert_eq!(listeners.update_with(&wanted, &mut any_listener).opened.len(), 1);
    }

    #[test]
    fn the_number_of_listeners_is_bounded() {
        let mut listeners = VipListeners { most: 3, ..VipListeners::new() };
        let wanted: BTreeSet<_> = (1..=4).map(vip).collect();
        let changes = listeners.update_with(&wanted, &mut any_listener);
        assert_eq!((changes.opened.len(), changes.failed), (3, vec![VipBindError::TooMany(vip(4))]));
    }

    #[test]
    fn a_program_on_all_addresses_is_named_in_the_failure() {
        let program = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = program.local_addr().unwrap().port();
        let failed = VipListeners::new().update(&BTreeSet::from([vip(port)])).failed;
        let text = failed[0].to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        assert!(text.contains("capture install"), "{text}");
    }

    #[test]
    fn a_free_vip_is_bound_and_reached() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let changes = VipListeners::new().update(&BTreeSet::from([vip(port)]));
        assert!(changes.failed.is_empty(), "{:?}", changes.failed);
        std::net::TcpStream::connect(vip(port)).unwrap();
    }
}
