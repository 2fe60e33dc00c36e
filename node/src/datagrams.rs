//! Datagrams on a hop stream, each behind its length: how a flow of UDP is carried where a QUIC datagram is none, or is too small.

use bytes::{BufMut, Bytes, BytesMut};
use starling_transport::{RecvHalf, SendHalf, StreamError};

/// The most that a datagram of UDP holds, in bytes.
pub(crate) const MAX: usize = u16::MAX as usize;

/// Sends one. Waits while the reader is behind.
///
/// # Errors
/// If the stream is lost.
pub(crate) async fn send(stream: &mut SendHalf, datagram: &[u8]) -> Result<(), StreamError> {
    let Ok(len) = u16::try_from(datagram.len()) else { return Ok(()) };
    let mut framed = BytesMut::with_capacity(2 + datagram.len());
    framed.put_u16(len);
    framed.put_slice(datagram);
    stream.write_raw(framed.freeze()).await
}

/// Reads them, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    read: BytesMut,
}

impl Reader {
    /// The next one; `None` at the end of the stream. May be dropped and called again.
    ///
    /// # Errors
    /// If the stream is lost.
    pub(crate) async fn next(&mut self, stream: &mut RecvHalf) -> Result<Option<Bytes>, StreamError> {
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
