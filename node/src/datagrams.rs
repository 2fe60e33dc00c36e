//! A flow of UDP between a local program and the hop: in QUIC datagrams, which may be lost as others may, and where one is too large for a
//! packet, or the hop runs over TCP, on the flow's stream, each behind its length.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use starling_transport::drain::DrainWatch;
use starling_transport::{DatagramRecv, DatagramSend, RecvHalf, SendHalf, StreamError, Unsent};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::plane::Plane;
use crate::relay::Counts;
use crate::telemetry::{DroppedDatagram, Telemetry, Vehicle};
use crate::vigil::Vigil;

/// The most that a datagram of UDP holds, in bytes.
pub(crate) const MAX: usize = u16::MAX as usize;
/// While the node drains, a flow ends when nothing came for so long, and at the latest after [`LAST_WORD`]: its programs cannot say that they
/// are done.
const SILENCE_OF_DRAIN: Duration = Duration::from_secs(1);
const LAST_WORD: Duration = Duration::from_secs(5);

thread_local! {
    /// All sockets of a shard receive into one room: an idle flow costs no buffer.
    static ROOM: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX].into());
}

/// The next datagram of a socket, and what `receive` says of it. May be dropped and called again.
///
/// # Errors
/// Those of the socket.
pub(crate) async fn next_of<R>(
    socket: &UdpSocket,
    receive: impl Fn(&mut [u8]) -> io::Result<(usize, R)> + Send,
) -> io::Result<(Bytes, R)> {
    loop {
        socket.readable().await?;
        let received =
            ROOM.with_borrow_mut(|room| receive(room).map(|(len, what)| (Bytes::copy_from_slice(&room[..len]), what)));
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// What comes from a local program.
pub(crate) trait Source: Send {
    /// The next datagram; may be dropped and called again.
    fn next(&mut self) -> impl Future<Output = Bytes> + Send;
}

/// What goes to a local program.
pub(crate) trait Sink: Send {
    /// Delivers a datagram, or drops it.
    fn deliver(&mut self, datagram: Bytes) -> impl Future<Output = ()> + Send;
}

/// Carries the datagrams of a flow both ways, until none came for `limits.flow_timeout`, the far side ends it, or the node drains.
///
/// # Errors
/// If the stream is lost.
pub(crate) async fn carry(
    plane: &Plane,
    counts: &Counts,
    (mut source, mut sink): (impl Source, impl Sink),
    (send, recv): (SendHalf, RecvHalf),
) -> Result<(), StreamError> {
    let (activity, vigil, connection) = (Activity::new(), Vigil::default(), recv.connection().clone());
    let (beside_send, beside_recv) = recv.datagrams().unzip();
    let mut outgoing = Outgoing { stream: send, beside: beside_send, telemetry: &plane.telemetry };
    let mut incoming = Incoming { stream: recv, beside: beside_recv, reader: Reader::default() };
    // Each direction on its own: one that waits for room must not keep the other from being read, or both ends would wait.
    let sending = async {
        loop {
            let datagram = source.next().await;
            activity.note();
            counts.sent.fetch_add(datagram.len() as u64, Ordering::Relaxed);
            vigil.note();
            if let Err(error) = outgoing.send(&datagram).await {
                return error;
            }
        }
    };
    let receiving = async {
        while let Some(datagram) = incoming.next().await? {
            activity.note();
            counts.received.fetch_add(datagram.len() as u64, Ordering::Relaxed);
            vigil.note();
            sink.deliver(datagram).await;
        }
        Ok(())
    };
    let ended = tokio::select! {
        error = sending => Err(error),
        ended = receiving => ended,
        never = vigil.keep(&connection, counts) => match never {},
        () = activity.over(plane.limits.flow_timeout, plane.drain.clone()) => Ok(()),
    };
    plane.telemetry.on_dropped(DroppedDatagram::QueueFull, incoming.missed());
    if ended.is_ok() {
        let _ = outgoing.stream.finish();
    }
    ended
}

/// When something went by last.
struct Activity(Mutex<Instant>);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn silent(&self, patience: Duration) {
        loop {
            let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    async fn over(&self, patience: Duration, mut drain: DrainWatch) {
        tokio::select! {
            () = self.silent(patience) => return,
            () = drain.started() => {}
        }
        let _ = tokio::time::timeout(LAST_WORD, self.silent(SILENCE_OF_DRAIN.min(patience))).await;
    }
}

struct Outgoing<'t> {
    stream: SendHalf,
    /// `None` where the hop has no datagrams.
    beside: Option<DatagramSend>,
    telemetry: &'t Telemetry,
}

impl Outgoing<'_> {
    async fn send(&mut self, datagram: &[u8]) -> Result<(), StreamError> {
        if let Some(beside) = &self.beside {
            match beside.send(datagram).await {
                Ok(()) => {
                    self.telemetry.on_datagram(Vehicle::Datagram);
                    return Ok(());
                }
                Err(Unsent::TooLarge | Unsent::Lost) => {}
            }
        }
        let Ok(len) = u16::try_from(datagram.len()) else { return Ok(()) };
        let mut framed = BytesMut::with_capacity(2 + datagram.len());
        framed.put_u16(len);
        framed.put_slice(datagram);
        self.telemetry.on_datagram(Vehicle::Stream);
        // If the connection is gone, this tells why.
        self.stream.write_raw(framed.freeze()).await
    }
}

struct Incoming {
    stream: RecvHalf,
    beside: Option<DatagramRecv>,
    reader: Reader,
}

impl Incoming {
    /// The next one, of whichever vehicle; `None` at the end of the flow.
    async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        let Some(beside) = &mut self.beside else { return self.reader.next(&mut self.stream).await };
        tokio::select! {
            datagram = beside.recv() => Ok(Some(datagram)),
            datagram = self.reader.next(&mut self.stream) => datagram,
        }
    }

    fn missed(&self) -> u64 {
        self.beside.as_ref().map_or(0, DatagramRecv::take_missed)
    }
}

/// Reads datagrams from a stream, one after the other.
#[derive(Debug, Default)]
struct Reader {
    read: BytesMut,
}

impl Reader {
    /// The next one; `None` at the end of the stream. May be dropped and called again.
    ///
    /// # Errors
    /// If the stream is lost.
    async fn next(&mut self, stream: &mut RecvHalf) -> Result<Option<Bytes>, StreamError> {
        loop {
            if let Some(datagram) = self.take() {
                return Ok(Some(datagram));
            }
            match stream.read_raw(MAX + 2).await? {
                Some(bytes) => self.read.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let len = usize::from(u16::from_be_bytes([*self.read.first()?, *self.read.get(1)?]));
        if self.read.len() < 2 + len {
            return None;
        }
        let mut datagram = self.read.split_to(2 + len);
        Some(datagram.split_off(2).freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in_however_the_bytes_are_cut() {
        let bytes = [&[0, 0][..], &[0, 3], b"abc", &[0, 1], b"d"].concat();
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            let mut all = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.read.extend_from_slice(part);
                while let Some(datagram) = reader.take() {
                    all.push(datagram);
                }
            }
            assert_eq!(all, [&b""[..], b"abc", b"d"], "{cut}");
        }
    }
}
