//! What a connection carries, where nobody said it: HTTP/1.1, HTTP/2, or bytes of any other protocol. Nothing waits for the
//! answer to that: the service is connected to at once, and whichever side speaks first decides.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::http2::PREFACE;
use super::tcp::{self, Tunnel};
use super::{Caller, Destination, Way, http1};
use crate::blocks;
use crate::shard::Shard;

/// The rest of a first line comes together with its beginning, or right behind it. If it does not, bytes are carried as
/// they come, which is never wrong.
const PATIENCE: Duration = Duration::from_millis(50);
/// A client may need so long for its first word after the service turned out not to be there: HTTP can be told of it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// No first line of HTTP is longer, in bytes.
const MOST: usize = 8 * 1024;

/// What the first bytes of a client show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// More are needed.
    Nothing,
    /// HTTP of either version.
    Http,
    /// Anything else.
    Opaque,
}

/// Carries a connection to the service `to`, as what it turns out to be.
pub(super) async fn serve(shard: Arc<Shard>, stream: TcpStream, to: Destination, caller: Caller) {
    let mut opening = Box::pin(tcp::open(&shard, &caller, &to));
    let mut tunnel: Option<Tunnel> = None;
    let mut failed = None;
    let mut early = BytesMut::new();
    let mut until = None;
    let shown = loop {
        let waiting = tunnel.is_none() && failed.is_none();
        tokio::select! {
            biased;
            more = read(&stream) => match more {
                Ok(bytes) if bytes.is_empty() => break Shown::Opaque,
                Ok(bytes) => {
                    early.extend_from_slice(&bytes);
                    match shown(&early) {
                        Shown::Nothing => drop(until.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)))),
                        shown => break shown,
                    }
                }
                Err(_) => return,
            },
            opened = &mut opening, if waiting => match opened {
                Ok(opened) => tunnel = Some(opened),
                Err(refused) => {
                    failed = Some(refused);
                    until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORD)));
                }
            },
            spoken = async { tunnel.as_mut().expect("guarded").has_spoken().await }, if tunnel.is_some() => {
                if spoken {
                    break Shown::Opaque;
                }
                return;
            }
            () = async { until.as_mut().expect("guarded").await }, if until.is_some() => break Shown::Opaque,
        }
    };
    let early = early.freeze();
    if shown == Shown::Http {
        drop(opening);
        if let Some(tunnel) = tunnel {
            tunnel.discard();
        }
        let way = Way::To { destination: to, protocol: None };
        return http1::serve(shard, stream.into(), early, way, caller).await;
    }
    let opened = match (tunnel, failed) {
        (Some(tunnel), _) => Ok(tunnel),
        (None, Some(failed)) => Err(failed),
        (None, None) => opening.await,
    };
    match opened {
        Ok(tunnel) => tunnel.carry(stream.into(), early).await,
        Err((mut record, failure)) => {
            record.fail(&failure);
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// What there is to read; nothing at the end.
async fn read(stream: &TcpStream) -> io::Result<Bytes> {
    loop {
        stream.readable().await?;
        let (result, bytes) = blocks::read(|block| blocks::receive(stream, block));
        match result {
            Ok(_) => return Ok(bytes.freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A line such as `GET / HTTP/1.1`, or what HTTP/2 begins with.
fn shown(early: &[u8]) -> Shown {
    let preface = early.len().min(PREFACE.len());
    if early[..preface] == PREFACE[..preface] {
        return if preface == PREFACE.len() { Shown::Http } else { Shown::Nothing };
    }
    match early.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = early[..end].strip_suffix(b"\r").unwrap_or(&early[..end]);
            let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let is_http = matches!(words[..], [method, _, b"HTTP/1.1" | b"HTTP/1.0"] if is_method(method));
            if is_http { Shown::Http } else { Shown::Opaque }
        }
        None if early.len() > MOST || !early.iter().all(|byte| (b' '..0x7f).contains(byte) || *byte == b'\r') => {
            Shown::Opaque
        }
        None => {
            let first = early.split(|byte| *byte == b' ').next().unwrap_or_default();
            if is_method(first) { Shown::Nothing } else { Shown::Opaque }
        }
    }
}

/// Methods in use are written in capitals.
fn is_method(word: &[u8]) -> bool {
    (1..=24).contains(&word.len()) && word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_http_from_all_else() {
        let table: [(&[u8], Shown); 16] = [
            (b"G", Shown::Nothing),
            (b"GET /a", Shown::Nothing),
            (b"GET / HTTP/1.1\r", Shown::Nothing),
            (b"GET / HTTP/1.1\r\n", Shown::Http),
            (b"M-SEARCH * HTTP/1.1\r\nx", Shown::Http),
            (b"PUT / HTTP/1.0\n", Shown::Http),
            (b"PRI", Shown::Nothing),
            (PREFACE, Shown::Http),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Shown::Opaque),
            (b"PING\r\n", Shown::Opaque),
            (b"*1\r\n$4\r\nPING\r\n", Shown::Opaque),
            (b"\x16\x03\x01", Shown::Opaque),
            (b"get / HTTP/1.1\r\n", Shown::Opaque),
            (b"GET / HTTP/2.0\r\n", Shown::Opaque),
            (b"EHLO me\r\n", Shown::Opaque),
            (b"\0\0\0\x08", Shown::Opaque),
        ];
        for (early, expected) in table {
            assert_eq!(shown(early), expected, "{}", String::from_utf8_lossy(early));
        }
        assert_eq!(shown(&[b"GET /", &vec![b'a'; MOST][..]].concat()), Shown::Opaque);
    }
}
