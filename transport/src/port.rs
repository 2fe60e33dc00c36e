//! One UDP port, shared by the shards of a node.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

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
    pub(crate) shard: u8,
}

/// Why a port could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it.
    #[error("UDP {0} is in use")]
    InUse(SocketAddr),
    /// A number of shards that connection ids cannot carry.
    #[error("1 to {MAX_SHARDS} shards, not {0}")]
    Shards(usize),
    /// Anything else.
    #[error("cannot bind UDP {address}: {source}")]
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
    /// Binds `shards` sockets to one address. Port 0 takes a free one.
    ///
    /// # Errors
    /// If anyone, this process included, has the port: sharing is for the shards of one node only.
    pub fn bind(address: SocketAddr, shards: usize) -> Result<Self, BindError> {
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(BindError::Shards(shards));
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Io { address, source },
        };
        // Without SO_REUSEPORT, so that a second node of the same user is noticed and not let in.
        let probe = UdpSocket::bind(address).map_err(failed)?;
        let address = probe.local_addr().map_err(failed)?;
        drop(probe);
        let mut sockets = Vec::with_capacity(shards);
        for shard in 0..=u8::MAX {
            if sockets.len() < shards {
                sockets.push(ShardSocket { socket: bound(address, true).map_err(failed)?, shard });
            }
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

    #[test]
    fn a_port_that_is_taken_is_named_even_if_its_owner_shares_it() {
        let port = Port::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let error = Port::bind(port.local_addr(), 2).unwrap_err();
        assert!(matches!(error, BindError::InUse(address) if address == port.local_addr()), "{error}");
    }

    #[test]
    fn the_shards_of_a_node_share_one_port_in_order() {
        let port = Port::bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = port.local_addr();
        let sockets = port.into_sockets();
        assert_eq!(sockets.iter().map(|socket| socket.shard).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(sockets.iter().all(|socket| socket.socket.local_addr().unwrap() == address));
    }
}
