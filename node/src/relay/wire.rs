use std::io;

use bytes::Bytes;

use super::edge::edge_ends;
use super::tcp::tcp_ends;
use super::{Sink, Source};
use crate::wire::{Wire, unlock};

/// The two directions of a connection.
pub(crate) fn wire_ends(wire: Wire) -> (impl Source, impl Sink) {
    match wire {
        Wire::Plain(stream) => {
            let (source, sink) = tcp_ends(stream);
            (End::Plain(source), End::Plain(sink))
        }
        Wire::Tls(stream) => {
            let (source, sink) = edge_ends(unlock(stream));
            (End::Tls(source), End::Tls(sink))
        }
    }
}

/// One direction, as it is or under TLS.
enum End<P, T> {
    Plain(P),
    Tls(T),
}

impl<P: Source, T: Source> Source for End<P, T> {
    async fn next(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Plain(source) => source.next().await,
            Self::Tls(source) => source.next().await,
        }
    }
}

impl<P: Sink, T: Sink> Sink for End<P, T> {
    async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.send(bytes).await,
            Self::Tls(sink) => sink.send(bytes).await,
        }
    }

    async fn end(&mut self) {
        match self {
            Self::Plain(sink) => sink.end().await,
            Self::Tls(sink) => sink.end().await,
        }
    }

    fn abort(self) {
        match self {
            Self::Plain(sink) => sink.abort(),
            Self::Tls(sink) => sink.abort(),
        }
    }
}
