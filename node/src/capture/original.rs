use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::OriginalDst;

/// Where a redirected connection wanted to go (`SO_ORIGINAL_DST`, from the kernel's connection tracking).
///
/// Takes any TCP socket, of tokio or of std. A connection that nobody redirected gives `NotFound`, or its own local
/// address where the kernel tracks it: compare with the VIP range before trusting it.
pub fn original_destination(stream: &impl AsFd) -> io::Result<SocketAddrV4> {
    let address = getsockopt(&stream.as_fd(), OriginalDst)?;
    let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}
