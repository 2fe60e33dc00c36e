//! HTTP/1.1 as both ends of the churn read it: strictly, and with the bodies' nonces.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedWriteHalf;

use super::order::Follow;

/// What was read of a connection.
#[derive(Debug)]
pub(super) struct Reader<R> {
    from: R,
    pub(super) read: BytesMut,
}

/// The start line, and the fields with names in lower case.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: String,
    fields: Vec<(String, String)>,
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    Nothing,
    Length(usize),
    Chunked,
    ToClose,
}

/// Why something was not read whole.
#[derive(Debug)]
pub(super) enum Unread {
    /// The connection ended, or broke, within it.
    Cut,
    /// It ended before anything came.
    End,
    /// What came is wrong, whoever sent it.
    Wrong(String),
}

impl From<io::Error> for Unread {
    fn from(_: io::Error) -> Self {
        Self::Cut
    }
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status of an answer; 0 if it is none.
    pub(super) fn status(&self) -> u16 {
        self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
    }

    /// Does the connection end after it?
    pub(super) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How a body is framed, where there may be one; `otherwise` where neither field says it.
    pub(super) fn framed(&self, otherwise: Framed) -> Result<Framed, Unread> {
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some("chunked"), None) => Ok(Framed::Chunked),
            (None, Some(length)) => {
                length.parse().map(Framed::Length).map_err(|_| Unread::Wrong(format!("a length of '{length}'")))
            }
            (None, None) => Ok(otherwise),
            (coding, length) => Err(Unread::Wrong(format!("coding {coding:?} and length {length:?}"))),
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Unread> {
        let wrong = || Unread::Wrong(format!("no head: {:?}", String::from_utf8_lossy(text)));
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let mut lines = text.trim_end().split("\r\n");
        let start = lines.next().filter(|start| start.contains("HTTP/1.1")).ok_or_else(wrong)?.to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self { start, fields: fields.collect::<Result<_, Unread>>()? })
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from, read: BytesMut::new() }
    }

    pub(super) async fn head(&mut self) -> Result<Head, Unread> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                return Head::parse(&self.read.split_to(end + 4));
            }
            let began = !self.read.is_empty();
            match self.more().await {
                Ok(0) | Err(_) if !began => return Err(Unread::End),
                more => drop(
                    more.and_then(|len| if len == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(len) })?,
                ),
            }
        }
    }

    /// Reads a body to its end, or the first `most` bytes of it; says how many came. Each must be of the nonce.
    pub(super) async fn body(&mut self, framed: Framed, nonce: u64, most: usize) -> Result<usize, Unread> {
        let mut follow = Follow::new(nonce);
        match framed {
            Framed::Nothing => {}
            Framed::Length(length) => self.exactly(length.min(most), &mut follow).await?,
            Framed::ToClose => loop {
                let here = self.read.split();
                check(&mut follow, &here)?;
                if follow.seen >= most || self.more().await? == 0 {
                    break;
                }
            },
            Framed::Chunked => loop {
                let size = self.line().await?;
                let size =
                    usize::from_str_radix(&size, 16).map_err(|_| Unread::Wrong(format!("a chunk of '{size}'")))?;
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    break;
                }
                self.exactly(size, &mut follow).await?;
                if !self.line().await?.is_empty() {
                    return Err(Unread::Wrong("a chunk without an end".to_owned()));
                }
                if follow.seen >= most {
                    break;
                }
            },
        }
        Ok(follow.seen)
    }

    async fn exactly(&mut self, mut left: usize, follow: &mut Follow) -> Result<(), Unread> {
        while left > 0 {
            if self.read.is_empty() && self.more().await? == 0 {
                return Err(Unread::Cut);
            }
            let here = self.read.split_to(left.min(self.read.len()));
            check(follow, &here)?;
            left -= here.len();
        }
        Ok(())
    }

    /// A line without its end.
    pub(super) async fn line(&mut self) -> Result<String, Unread> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            if self.more().await? == 0 {
                return Err(Unread::Cut);
            }
        }
    }

    /// Waits for the end; true if nothing came before it.
    pub(super) async fn is_silent(&mut self) -> bool {
        self.read.is_empty() && !matches!(self.more().await, Ok(1..))
    }

    /// Reads more; 0 at the end.
    pub(super) async fn more(&mut self) -> io::Result<usize> {
        self.read.reserve(16 * 1024);
        self.from.read_buf(&mut self.read).await
    }
}

/// Breaks a connection off by a reset: its writing half, dropped, would say an end first.
pub(super) fn reset(writer: OwnedWriteHalf) {
    let _ = writer.as_ref().set_zero_linger();
    writer.forget();
}

fn check(follow: &mut Follow, bytes: &[u8]) -> Result<(), Unread> {
    if follow.take(bytes) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    Err(Unread::Wrong(format!("a body of something else, before byte {}: {shown:?}", follow.seen)))
}
