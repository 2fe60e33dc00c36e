//! The socket of a listener, with an eye on what comes in that is no QUIC of this mesh.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::refusal::{Refusal, Refusals};

/// The one version that is spoken (RFC 9000).
pub(crate) const QUIC_1: u32 = 1;
/// A client's datagram with a first packet has at least so many bytes (RFC 9000, section 14.1).
const MIN_INITIAL: usize = 1_200;
/// The first byte and a connection id of ours.
const MIN_SHORT: usize = 1 + 8;

/// A socket that counts noise. What looks like ours by its header goes on uncounted: connection ids are checked where they
/// are looked up.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Arc<dyn AsyncUdpSocket>,
    refusals: Arc<Refusals>,
}

impl Watched {
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>, refusals: Arc<Refusals>) -> Self {
        Self { socket, refusals }
    }
}

impl AsyncUdpSocket for Watched {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.socket.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter().zip(&*meta).take(received) {
            // Of several datagrams in one buffer all but the last have `stride` bytes.
            let datagrams = buffer[..meta.len].chunks(meta.stride.max(1));
            if meta.len == 0 {
                self.refusals.count(Refusal::Noise);
            }
            datagrams.filter(|datagram| is_noise(datagram)).for_each(|_| self.refusals.count(Refusal::Noise));
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// Can no connection of ours, open or new, begin a datagram like this? (RFC 9000, section 17.)
fn is_noise(datagram: &[u8]) -> bool {
    match datagram {
        [first, version @ ..] if first & 0x80 != 0 => {
            let Some((version, _)) = version.split_first_chunk() else { return true };
            let initial = first & 0x30 == 0;
            u32::from_be_bytes(*version) != QUIC_1 || (initial && datagram.len() < MIN_INITIAL)
        }
        short => short.len() < MIN_SHORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_quic_of_this_version_is_noise() {
        let with = |start: &[u8], len: usize| {
            let mut datagram = start.to_vec();
            datagram.resize(len, 0);
            datagram
        };
        for (start, len, noise) in [
            (&[][..], 0, true),
            (&[0x40], 8, true),
            (&[0x40], 9, false),
            (&[0xc0], 4, true),
            (&[0xc0, 0, 0, 0, 1], 1_199, true),
            (&[0xc0, 0, 0, 0, 1], 1_200, false),
            (&[0xe0, 0, 0, 0, 1], 60, false),
            (&[0xc0, 0, 0, 0, 0], 1_200, true),
            (&[0xc0, 0x6b, 0x33, 0x43, 0xcf], 1_200, true),
            (b"GET / HTTP/1.1\r\n", 16, false),
        ] {
            assert_eq!(is_noise(&with(start, len)), noise, "{start:?} of {len} bytes");
        }
    }
}
