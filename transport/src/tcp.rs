//! The carrier that stands in where UDP is blocked: TLS 1.3 over TCP, with [`crate::mux`] for the streams in it.

mod dial;
mod door;
mod driver;
mod line;
mod registry;
mod streams;

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

pub(crate) use self::dial::{Dial, dial};
pub(crate) use self::door::{Door, admit};
pub(crate) use self::line::Line;
pub(crate) use self::registry::Registry;
pub(crate) use self::streams::{RecvStream, SendStream};

/// Bytes that the kernel may hold and not have sent yet: what is urgent must not wait behind more.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Nothing waits to be sent together with more, and the kernel gives up when the far host has not acknowledged for
/// `patience`.
fn prepare(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(stream);
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (patience, SockRef::from(stream));
    Ok(())
}
