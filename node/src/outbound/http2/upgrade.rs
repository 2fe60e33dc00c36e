//! From HTTP/1.1 to HTTP/2 on one connection (RFC 7540, section 3.2). RFC 9113 lets go of it; curl and others still ask.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::PREFACE;
use crate::fields::{self, PassedOn};
use crate::outbound::http1::Http1Inlet;

/// A request that goes on as the first stream of a connection of HTTP/2.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// Its HEADERS frame, as the client would have sent it.
    frames: Bytes,
}

/// What the client is answered.
pub(crate) const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const FRAME_HEADER: usize = 9;
/// What a frame may hold if nobody said otherwise (RFC 9113, section 4.2).
const MAX_FRAME: usize = 16_384;
/// No sound client has more to say in its first SETTINGS.
const MAX_SETTINGS: usize = 1024;

impl Upgrade {
    /// Does this request, which has no body, ask for HTTP/2? One that asks wrongly is served as it came.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let lists = |name: HeaderName, word: &str| fields::lists(&parts.headers, name, word);
        if !lists(header::UPGRADE, "h2c") || !lists(header::CONNECTION, "http2-settings") {
            return None;
        }
        let mut settings = parts.headers.get_all(&HTTP2_SETTINGS).iter();
        let (Some(only), None) = (settings.next(), settings.next()) else { return None };
        // What it holds comes again with the client's first SETTINGS frame, which is the one that is acknowledged.
        let payload = URL_SAFE_NO_PAD.decode(only.as_bytes()).ok()?;
        payload.len().is_multiple_of(6).then(|| Self { frames: frames(&block(parts)) })
    }

    /// Reads what the client sends first, and puts the request behind it, where it would stand had the client begun with
    /// HTTP/2.
    ///
    /// # Errors
    /// If the client sends something else, or goes away.
    pub(crate) async fn begin(self, inlet: &Http1Inlet) -> io::Result<Bytes> {
        let settings = PREFACE.len() + FRAME_HEADER;
        let first = inlet.read_until(settings).await;
        let header = first.get(PREFACE.len()..settings).ok_or(io::ErrorKind::UnexpectedEof)?;
        let len = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if !first.starts_with(PREFACE) || len > MAX_SETTINGS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let first = inlet.read_until(settings + len).await;
        let (before, rest) = first.split_at_checked(settings + len).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok([before, &self.frames, rest].concat().into())
    }
}

/// The request's fields in HPACK, each as a literal that is not indexed: the client's own table stays untouched (RFC 7541,
/// section 6.2.2).
fn block(parts: &Parts) -> BytesMut {
    let mut block = BytesMut::new();
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let host = parts.headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let authority = parts.uri.authority().map_or(host, |authority| authority.as_str().as_bytes());
    for (name, value) in [
        (&b":method"[..], parts.method.as_str().as_bytes()),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", authority),
    ] {
        literal(&mut block, name, value);
    }
    let headers: &HeaderMap = &parts.headers;
    for (name, value) in PassedOn::of(headers).lines(|name| *name == header::HOST) {
        literal(&mut block, name, value);
    }
    block
}

fn literal(block: &mut BytesMut, name: &[u8], value: &[u8]) {
    block.put_u8(0);
    for part in [name, value] {
        integer(block, part.len());
        block.put_slice(part);
    }
}

/// With a prefix of seven bits, and no Huffman coding (RFC 7541, sections 5.1 and 5.2).
#[allow(clippy::cast_possible_truncation, reason = "masked")]
fn integer(block: &mut BytesMut, value: usize) {
    const PREFIX: usize = 0x7f;
    let Some(mut rest) = value.checked_sub(PREFIX) else { return block.put_u8(value as u8) };
    block.put_u8(PREFIX as u8);
    while rest >= 0x80 {
        block.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    block.put_u8(rest as u8);
}

/// HEADERS on stream 1, which ends with it, and CONTINUATION where it is long.
fn frames(block: &[u8]) -> Bytes {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let mut frames = BytesMut::with_capacity(block.len() + FRAME_HEADER);
    let mut parts = block.chunks(MAX_FRAME).peekable();
    let mut kind = (HEADERS, END_STREAM);
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        frames.put_uint(part.len() as u64, 3);
        frames.put_slice(&[kind.0, kind.1 | last]);
        frames.put_u32(1);
        frames.put_slice(part);
        kind = (CONTINUATION, 0);
    }
    frames.freeze()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::wire::Wire;

    fn request(fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get("/x").header("host", "a.mesh");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const ASKS: [(&str, &str); 3] =
        [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")];

    #[test]
    fn only_a_whole_wish_for_http2_is_one() {
        assert!(Upgrade::of(&request(&ASKS)).is_some());
        assert!(Upgrade::of(&request(&ASKS[..2])).is_none());
        assert!(Upgrade::of(&request(&ASKS[1..])).is_none());
        assert!(Upgrade::of(&request(&[ASKS[0], ASKS[1], ("http2-settings", "A=B")])).is_none());
        assert!(Upgrade::of(&request(&[ASKS[0], ASKS[1], ASKS[2], ASKS[2]])).is_none());
        assert!(Upgrade::of(&request(&[ASKS[0], ("upgrade", "websocket"), ASKS[2]])).is_none());
    }

    #[tokio::test]
    async fn the_request_comes_right_after_the_clients_first_frame() {
        let settings = [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0], &[0, 3, 0, 0, 0, 100]].concat();
        let upgrade = Upgrade::of(&request(&ASKS)).unwrap();
        let frames = upgrade.frames.clone();
        let (mut client, inlet) = inlet().await;
        for piece in [&settings[..30], &settings[30..], b"more"] {
            client.write_all(piece).await.unwrap();
        }
        client.shutdown().await.unwrap();
        let first = upgrade.begin(&inlet).await.unwrap();
        assert!(first.starts_with(&[&settings[..], &frames].concat()));
        let (mut client, inlet) = self::inlet().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nand so on and on").await.unwrap();
        assert!(Upgrade::of(&request(&ASKS)).unwrap().begin(&inlet).await.is_err());
    }

    async fn inlet() -> (TcpStream, Http1Inlet) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let wire = Wire::from(listener.accept().await.unwrap().0);
        (client, Http1Inlet::new(Arc::new(wire), Bytes::new(), false))
    }

    #[test]
    fn long_fields_are_written_as_hpack_writes_them() {
        let mut block = BytesMut::new();
        for (value, bytes) in [(0, &[0][..]), (126, &[126]), (127, &[127, 0]), (1337, &[127, 0xba, 9])] {
            integer(&mut block, value);
            assert_eq!(&block.split()[..], bytes, "{value}");
        }
        let frames = frames(&vec![7; MAX_FRAME + 1]);
        assert_eq!(&frames[..9], [0, 0x40, 0, 1, 1, 0, 0, 0, 1]);
        assert_eq!(&frames[9 + MAX_FRAME..], [0, 0, 1, 9, 4, 0, 0, 0, 1, 7]);
    }
}
