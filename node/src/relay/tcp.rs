use std::io;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Sink, Source};
use crate::blocks;

/// The two directions of a TCP connection.
pub(super) fn tcp_ends(stream: TcpStream) -> (impl Source, impl Sink) {
    let (reader, writer) = stream.into_split();
    (TcpSource(reader), TcpSink(writer))
}

struct TcpSource(OwnedReadHalf);

struct TcpSink(OwnedWriteHalf);

impl Source for TcpSource {
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            self.0.readable().await?;
            let (result, bytes) = blocks::read(|block| blocks::receive(self.0.as_ref(), block));
            match result {
                Ok(_) => return Ok(bytes.freeze()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Sink for TcpSink {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.write_all(&bytes).await
    }

    async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Makes the close an RST.
    fn abort(self) {
        let _ = SockRef::from(self.0.as_ref()).set_linger(Some(Duration::ZERO));
        // Dropped otherwise, it would first say FIN: that all was sent.
        self.0.forget();
    }
}
