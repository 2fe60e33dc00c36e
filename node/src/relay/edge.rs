use std::io;

use bytes::Bytes;
use starling_transport::edge::EdgeStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Sink, Source};
use crate::blocks;

/// The two directions of a connection under TLS.
pub(super) fn edge_ends(stream: EdgeStream) -> (impl Source, impl Sink) {
    let (reader, writer) = tokio::io::split(stream);
    (EdgeSource(reader), EdgeSink(writer))
}

struct EdgeSource(ReadHalf<EdgeStream>);

struct EdgeSink(WriteHalf<EdgeStream>);

impl Source for EdgeSource {
    async fn next(&mut self) -> io::Result<Bytes> {
        let mut block = bytes::BytesMut::with_capacity(blocks::READ_SIZE / 4);
        match self.0.read_buf(&mut block).await {
            Ok(_) => Ok(block.freeze()),
            // Many end a connection without the goodbye of TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Bytes::new()),
            Err(error) => Err(error),
        }
    }
}

impl Sink for EdgeSink {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.write_all(&bytes).await?;
        self.0.flush().await
    }

    async fn end(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Without the goodbye of TLS nobody takes what came for the whole.
    fn abort(self) {}
}
