//! From HTTP/1.1 to HTTP/2 on one connection (RFC 7540, section 3.2). RFC 9113 lets go of it; curl and others still ask.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::PREFACE;
use crate::fields::PassedOn;

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
        let lists = |name: HeaderName, word: &str| {
            let values = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
        };
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
    /// HTTP/2. `early` was read before.
    ///
    /// # Errors
    /// If the client sends something else, or goes away.
    pub(crate) async fn begin<S: AsyncRead + Unpin>(self, early: Bytes, stream: &mut S) -> std::io::Result<Bytes> {
        let mut first = BytesMut::from(early);
        let settings = PREFACE.len() + FRAME_HEADER;
        while first.len() < settings {
            read_some(&mut first, stream).await?;
        }
        let header = &first[PREFACE.len()..settings];
        let len = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        if !first.starts_with(PREFACE) || len > MAX_SETTINGS {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        while first.len() < settings + len {
            read_some(&mut first, stream).await?;
        }
        let rest = first.split_off(settings + len);
        first.put(self.frames);
        first.put(rest);
        Ok(first.freeze())
    }
}

async fn read_some<S: AsyncRead + Unpin>(buffer: &mut BytesMut, stream: &mut S) -> std::io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
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
    use super::*;

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
        let upgrade = Upgrade::of(&request(&ASKS)).unwrap();
        let frames = upgrade.frames.clone();
        let settings = [&PREFACE[..], &[0, 0, 6, 4, 0, 0, 0, 0, 0], &[0, 3, 0, 0, 0, 100]].concat();
        let sent = [&settings[..], b"more"].concat();
        let (early, rest) = sent.split_at(30);
        let first = upgrade.begin(Bytes::copy_from_slice(early), &mut &rest[..]).await.unwrap();
        assert_eq!(first, [&settings[..], &frames, b"more"].concat());
        let other = Upgrade::of(&request(&ASKS)).unwrap();
        assert!(
            other.begin(Bytes::new(), &mut &b"GET / HTTP/1.1\r\nhost: a\r\n\r\nand so on and on"[..]).await.is_err()
        );
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
