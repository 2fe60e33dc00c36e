//! Datagrams beside the streams of a QUIC connection (RFC 9221): each belongs to a stream, whose index stands before it as a
//! variable-length integer of QUIC, as HTTP's datagrams have it (RFC 9297, section 2.1). They may be lost, doubled by nobody, and
//! overtake each other and the stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::SendDatagramError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Datagrams of one stream that wait for their reader. More are dropped, as a router would.
const QUEUE: usize = 128;

/// Why a datagram was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// No packet of this path holds it, or the peer takes none of its size. The stream itself may carry it.
    #[error("too large for a packet")]
    TooLarge,
    /// The connection is gone.
    #[error("the connection is gone")]
    Lost,
}

/// Sends datagrams that belong to one stream.
#[derive(Debug)]
pub struct DatagramSend {
    quic: quinn::Connection,
    index: Bytes,
}

/// Receives the datagrams that belong to one stream, until it is dropped.
#[derive(Debug)]
pub struct DatagramRecv {
    queue: mpsc::Receiver<Bytes>,
    missed: Arc<AtomicU64>,
    board: Arc<Board>,
    index: u64,
}

/// Where the datagrams of one connection go, by the index of their stream.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    streams: HashMap<u64, Entry>,
    /// Runs while there is a stream to read for.
    reader: Option<AbortHandle>,
}

#[derive(Debug)]
struct Entry {
    queue: mpsc::Sender<Bytes>,
    missed: Arc<AtomicU64>,
}

impl DatagramSend {
    /// Sends one, of any length down to nothing. Waits while the connection has as many to send as it may hold.
    ///
    /// # Errors
    /// If it is too large for a packet, or the connection is gone.
    pub async fn send(&self, datagram: &[u8]) -> Result<(), Unsent> {
        let len = self.index.len() + datagram.len();
        if self.quic.max_datagram_size().is_none_or(|most| len > most) {
            return Err(Unsent::TooLarge);
        }
        let mut whole = BytesMut::with_capacity(len);
        whole.put_slice(&self.index);
        whole.put_slice(datagram);
        self.quic.send_datagram_wait(whole.freeze()).await.map_err(|error| match error {
            SendDatagramError::ConnectionLost(_) => Unsent::Lost,
            SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                Unsent::TooLarge
            }
        })
    }
}

impl DatagramRecv {
    /// The next one. Waits for ever once the connection is gone: the stream tells. May be dropped and called again.
    pub async fn recv(&mut self) -> Bytes {
        match self.queue.recv().await {
            Some(datagram) => datagram,
            None => std::future::pending().await,
        }
    }

    /// How many were dropped since the last call: they came while as many waited as may.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for DatagramRecv {
    fn drop(&mut self) {
        self.board.leave(self.index);
    }
}

impl Board {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the datagrams of a stream from now on. The first one to want some starts the reader.
    pub(crate) fn join(self: &Arc<Self>, quic: &quinn::Connection, index: u64) -> (DatagramSend, DatagramRecv) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let missed = Arc::<AtomicU64>::default();
        let mut table = self.table();
        table.streams.insert(index, Entry { queue: sender, missed: Arc::clone(&missed) });
        if table.reader.is_none() {
            table.reader = Some(tokio::spawn(read(quic.clone(), Arc::clone(self))).abort_handle());
        }
        drop(table);
        let sender = DatagramSend { quic: quic.clone(), index: prefix(index) };
        (sender, DatagramRecv { queue, missed, board: Arc::clone(self), index })
    }

    fn leave(&self, index: u64) {
        let mut table = self.table();
        table.streams.remove(&index);
        if table.streams.is_empty()
            && let Some(reader) = table.reader.take()
        {
            // It holds the connection open.
            reader.abort();
        }
    }

    /// What belongs to no stream that is read is dropped: its flow is over, or it was a probe, which is empty.
    fn handle(&self, mut datagram: Bytes) {
        let Some(index) = take_index(&mut datagram) else { return };
        if let Some(entry) = self.table().streams.get(&index)
            && entry.queue.try_send(datagram).is_err()
        {
            entry.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn read(quic: quinn::Connection, board: Arc<Board>) {
    while let Ok(datagram) = quic.read_datagram().await {
        board.handle(datagram);
    }
}

/// An index below 2^62, as RFC 9000, section 16, writes it.
fn prefix(index: u64) -> Bytes {
    // The first two bits tell the length: one byte, two, four or eight.
    let form = match index {
        0..0x40 => 0,
        0x40..0x4000 => 1,
        0x4000..0x4000_0000 => 2,
        _ => 3,
    };
    let bytes = index.to_be_bytes();
    let mut prefix = BytesMut::from(&bytes[bytes.len() - (1 << form)..]);
    prefix[0] |= form << 6;
    prefix.freeze()
}

fn take_index(datagram: &mut Bytes) -> Option<u64> {
    let first = *datagram.first()?;
    let len = 1_usize << (first >> 6);
    if datagram.len() < len {
        return None;
    }
    let mut index = u64::from(first & 0x3f);
    for byte in &datagram[1..len] {
        index = index << 8 | u64::from(*byte);
    }
    datagram.advance(len);
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_whatever_its_length() {
        // The lengths of RFC 9000, table 4, at their bounds.
        for (index, len) in [(0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), ((1 << 30) - 1, 4), (1 << 30, 8)] {
            let mut datagram = BytesMut::from(&prefix(index)[..]);
            assert_eq!(datagram.len(), len, "{index}");
            datagram.put_slice(b"abc");
            let mut datagram = datagram.freeze();
            assert_eq!(take_index(&mut datagram), Some(index));
            assert_eq!(datagram, &b"abc"[..]);
        }
    }

    #[test]
    fn what_is_cut_within_its_index_belongs_to_none() {
        for cut in [&[][..], &[0x40], &[0x80, 0, 0], &[0xff, 1, 2, 3, 4, 5, 6]] {
            assert_eq!(take_index(&mut Bytes::from_static(cut)), None, "{cut:?}");
        }
    }
}
