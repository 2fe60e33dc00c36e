use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{Ip6tOriginalDst, OriginalDst};

/// Where a redirected connection wanted to go (`SO_ORIGINAL_DST`, from the kernel's connection tracking).
///
/// Takes any TCP socket, of tokio or of std. A connection that nobody redirected gives `NotFound`, or its own local
/// address where the kernel tracks it: compare with the VIP range before trusting it.
pub fn original_destination(stream: &impl AsFd) -> io::Result<SocketAddr> {
    let fd = stream.as_fd();
    match getsockopt(&fd, OriginalDst) {
        Ok(address) => {
            let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
        }
        Err(error) => match getsockopt(&fd, Ip6tOriginalDst) {
            Ok(address) => {
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                Ok(SocketAddrV6::new(ip, u16::from_be(address.sin6_port), 0, address.sin6_scope_id).into())
            }
            // The first is the one to tell.
            Err(_) => Err(error.into()),
        },
    }
}
