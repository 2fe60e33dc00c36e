//! One port, of UDP and of TCP, shared by the shards of a node.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Carriers;

/// The sockets of one port, one for each shard, bound together in the order of the shards.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    sockets: Vec<ShardSocket>,
}

/// A shard's socket of a [`Port`]. May be sent to the shard's thread.
#[derive(Debug)]
pub struct ShardSocket {
    pub(crate) socket: UdpSocket,
    /// None: TCP is not wanted.
    pub(crate) tcp: Option<TcpListener>,
    pub(crate) shard: u8,
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it.
    #[error("UDP {0} is in use")]
    InUse(SocketAddr),
    /// Somebody has the TCP port of the same number.
    #[error("TCP {0} is in use")]
    TcpInUse(SocketAddr),
    /// A number of shards that connection ids cannot carry.
    #[error("1 to {MAX_SHARDS} shards, not {0}")]
    Shards(usize),
    /// Anything else.
    #[error("cannot bind {address}: {source}")]
    Io {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// The most shards of one node: what one byte of a connection id can name.
pub const MAX_SHARDS: usize = 256;
/// Asked of the system for each socket, in bytes; it gives less where its limits are lower.
const SOCKET_BUFFER: usize = 4 << 20;

impl Port {
    /// Binds `shards` sockets to one address, and as many of TCP unless `carriers` leaves TCP out. Port 0 takes one that is
    /// free for both.
    ///
    /// # Errors
    /// If anyone, this process included, has the port: sharing is for the shards of one node only.
    pub fn bind(address: SocketAddr, shards: usize, carriers: Carriers) -> Result<Self, BindError> {
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(BindError::Shards(shards));
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Io { address, source },
        };
        let (address, probe) = free_for_both(address, carriers)?;
        drop(probe);
        let mut sockets = Vec::with_capacity(shards);
        for shard in (0..=u8::MAX).take(shards) {
            let tcp = if carriers == Carriers::Quic { None } else { Some(listening(address).map_err(failed)?) };
            sockets.push(ShardSocket { socket: bound(address, true).map_err(failed)?, tcp, shard });
        }
        if shards > 1 {
            steer(&sockets[0].socket);
        }
        Ok(Self { address, sockets })
    }

    /// The address that all of them share.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// One socket for each shard.
    pub fn into_sockets(self) -> Vec<ShardSocket> {
        self.sockets
    }
}

/// Connections that wait to be accepted; the kernel drops those beyond.
const BACKLOG: i32 = 1_024;
/// A port that the system chose for UDP may be taken for TCP: another is asked for.
const FREE_PORTS: usize = 16;

/// Sockets that hold a port. Without `SO_REUSEPORT`, so that a second node of the same user is noticed and not let in.
type Probe = (UdpSocket, Option<TcpListener>);

fn free_for_both(wanted: SocketAddr, carriers: Carriers) -> Result<(SocketAddr, Probe), BindError> {
    let tries = if wanted.port() == 0 { FREE_PORTS } else { 1 };
    let mut taken = BindError::TcpInUse(wanted);
    for _ in 0..tries {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(wanted),
            _ => BindError::Io { address: wanted, source },
        };
        let udp = UdpSocket::bind(wanted).map_err(failed)?;
        let address = udp.local_addr().map_err(failed)?;
        if carriers == Carriers::Quic {
            return Ok((address, (udp, None)));
        }
        match TcpListener::bind(address) {
            Ok(tcp) => return Ok((address, (udp, Some(tcp)))),
            Err(source) if source.kind() == io::ErrorKind::AddrInUse => taken = BindError::TcpInUse(address),
            Err(source) => return Err(BindError::Io { address, source }),
        }
    }
    Err(taken)
}

/// Listens on a port that others of this node share.
fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // A node that restarts need not wait for its predecessor's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket with large buffers, ready for quinn.
pub(crate) fn bound(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Best effort: an unprivileged process gets what net.core.rmem_max and wmem_max allow.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Makes the kernel give a packet to the shard that its connection id names, so that a peer whose address changes
/// stays with its shard. Packets with a long header, and ids that name no shard, go by the hash of the addresses.
/// Best effort: without it the hash serves for all.
#[cfg(target_os = "linux")]
fn steer(socket: &UdpSocket) {
    use nix::libc::{sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

    const fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
        sock_filter { code, jt, jf, k }
    }
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const RETURN_LOADED: u16 = 0x16; // BPF_RET | BPF_A
    const NO_SHARD: u32 = u32::MAX;

    // The first bit of a packet tells a long header (RFC 9000, section 17); after a short header's first byte
    // comes the connection id.
    let mut program = [
        step(LOAD_BYTE, 0, 0, 0),
        step(JUMP_IF_SET, 0, 1, 0x80),
        step(RETURN, 0, 0, NO_SHARD),
        step(LOAD_BYTE, 0, 0, 1),
        step(RETURN_LOADED, 0, 0, 0),
    ];
    let program = sock_fprog { len: 5, filter: program.as_mut_ptr() };
    let _ = setsockopt(socket, AttachReusePortCbpf, &program);
}

#[cfg(not(target_os = "linux"))]
fn steer(_socket: &UdpSocket) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn anywhere() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_port_that_is_taken_is_named_even_if_its_owner_shares_it() {
        let port = Port::bind(anywhere(), 2, Carriers::Both).unwrap();
        let error = Port::bind(port.local_addr(), 2, Carriers::Both).unwrap_err();
        assert!(matches!(error, BindError::InUse(address) if address == port.local_addr()), "{error}");
    }

    #[test]
    fn a_tcp_port_that_another_program_has_is_named_unless_tcp_is_not_wanted() {
        let (address, (udp, tcp)) = free_for_both(anywhere(), Carriers::Both).unwrap();
        drop(udp);
        let error = Port::bind(address, 1, Carriers::Both).unwrap_err();
        assert!(matches!(error, BindError::TcpInUse(taken) if taken == address), "{error}");
        assert_eq!(Port::bind(address, 1, Carriers::Quic).unwrap().local_addr(), address);
        drop(tcp);
    }

    #[test]
    fn the_shards_of_a_node_share_one_port_in_order() {
        let port = Port::bind(anywhere(), 3, Carriers::Both).unwrap();
        let address = port.local_addr();
        let sockets = port.into_sockets();
        assert_eq!(sockets.iter().map(|socket| socket.shard).collect::<Vec<_>>(), [0, 1, 2]);
        for socket in &sockets {
            assert_eq!(socket.socket.local_addr().unwrap(), address);
            assert_eq!(socket.tcp.as_ref().unwrap().local_addr().unwrap(), address);
        }
    }
}
