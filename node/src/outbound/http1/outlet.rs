//! Answers on their way to a local client of HTTP/1.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame};

use super::date;
use super::inlet::Inlet;
use crate::hop_body::HopBodyError;
use crate::outbound::answer_body::AnswerBody;
use crate::outbound::interim::Interim;
use crate::wire::Wire;
use crate::write_queue::WriteQueue;

/// What of a request says how its answer looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) version: Version,
    /// The connection is kept after the answer, if the answer allows it.
    pub(super) keeps_alive: bool,
}

/// An answer that did not get through.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The client has gone.
    Gone,
    /// The client is there, and takes nothing.
    Slow,
    /// The answer broke off. Its client must not take it for whole.
    Broken,
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Slow } else { Self::Gone }
    }
}

/// How a client knows where an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    /// There is no body.
    Nothing,
    Length,
    Chunked,
    /// With the connection.
    Close,
}

/// A piece of a body that is copied behind its head, at most.
const SHORT: usize = 4096;
const CRLF: &[u8] = b"\r\n";

/// Bytes to be written.
#[derive(Debug)]
pub(super) struct Outlet<'s> {
    wire: &'s Wire,
    /// Something must be taken so often.
    patience: Duration,
    queue: WriteQueue,
}

impl<'s> Outlet<'s> {
    pub(super) fn new(wire: &'s Wire, patience: Duration) -> Self {
        Self { wire, patience, queue: WriteQueue::new() }
    }

    /// Sends these bytes.
    pub(super) async fn send_raw(&mut self, bytes: Bytes) -> io::Result<()> {
        self.queue.push(bytes);
        self.flush().await
    }

    /// Sends an interim answer.
    pub(super) async fn send_interim(&mut self, interim: &Interim) -> io::Result<()> {
        let mut head = start(interim.status);
        lines(&mut head, &interim.headers);
        head.put_slice(CRLF);
        self.queue.push(head.freeze());
        self.flush().await
    }

    /// Sends an answer that switches to `protocol` (or, after CONNECT, to anything): what follows is not HTTP/1.
    pub(super) async fn send_switch(&mut self, parts: &Parts, protocol: &[u8]) -> io::Result<()> {
        let mut head = start(parts.status);
        lines(&mut head, &parts.headers);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            head.put_slice(b"connection: upgrade\r\nupgrade: ");
            head.put_slice(protocol);
            head.put_slice(CRLF);
        }
        head.put_slice(CRLF);
        self.queue.push(head.freeze());
        self.flush().await
    }

    /// Sends an answer. Says whether another one may follow on the connection.
    pub(super) async fn send(
        &mut self,
        answer: Response<AnswerBody>,
        asked: Asked,
        inlet: &Inlet,
    ) -> Result<bool, Unsent> {
        let (mut parts, body) = answer.into_parts();
        let framed = framed(&parts, &body, asked);
        let keeps_alive = asked.keeps_alive && framed != Framed::Close;
        let mut head = head(&mut parts, &body, framed, asked, keeps_alive);
        if framed == Framed::Nothing {
            self.queue.push(head.freeze());
            self.flush().await?;
            return Ok(keeps_alive);
        }
        let mut body = pin!(body);
        // What is here of the body goes with its head.
        let mut next = match body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        };
        // A short one in the same piece: that is cheaper to write than two.
        if let Some(Some(Ok(frame))) = &mut next
            && framed == Framed::Length
            && let Some(data) = frame.data_mut().filter(|data| data.len() <= SHORT)
        {
            head.put_slice(&data.split_off(0));
        }
        self.queue.push(head.freeze());
        loop {
            let frame = if let Some(frame) = next.take() {
                frame
            } else {
                self.flush().await?;
                self.wait(body.as_mut(), inlet).await?
            };
            if self.queue_frame(frame, framed)? || (framed == Framed::Length && body.is_end_stream()) {
                self.flush().await?;
                return Ok(keeps_alive);
            }
        }
    }

    /// Waits for more of a body, no longer than the client does.
    async fn wait(
        &self,
        mut body: Pin<&mut AnswerBody>,
        inlet: &Inlet,
    ) -> Result<Option<Result<Frame<Bytes>, HopBodyError>>, Unsent> {
        tokio::select! {
            biased;
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => Ok(frame),
            () = inlet.gone() => Err(Unsent::Gone),
        }
    }

    /// Says whether this was the end.
    fn queue_frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, HopBodyError>>,
        framed: Framed,
    ) -> Result<bool, Unsent> {
        let is_chunked = framed == Framed::Chunked;
        let Some(frame) = frame else {
            if is_chunked {
                self.queue.push(Bytes::from_static(b"0\r\n\r\n"));
            }
            return Ok(true);
        };
        match frame.map_err(|_| Unsent::Broken)?.into_data() {
            Ok(data) if data.is_empty() => Ok(false),
            Ok(data) if is_chunked => {
                let size = Bytes::from(format!("{:x}\r\n", data.len()));
                for piece in [size, data, Bytes::from_static(CRLF)] {
                    self.queue.push(piece);
                }
                Ok(false)
            }
            Ok(data) => {
                self.queue.push(data);
                Ok(false)
            }
            Err(frame) => {
                if is_chunked {
                    let mut end = BytesMut::from("0\r\n");
                    lines(&mut end, frame.trailers_ref().unwrap_or(&HeaderMap::new()));
                    end.put_slice(CRLF);
                    self.queue.push(end.freeze());
                }
                Ok(true)
            }
        }
    }

    /// Writes all that is queued.
    ///
    /// # Errors
    /// If the connection fails, or its client takes nothing for too long.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        // Most often there is room for all of it, and no need of a timer.
        while self.poll_flush(&mut Context::from_waker(Waker::noop()))?.is_pending() {
            let patience = self.patience;
            let room = poll_fn(|cx| self.poll_flush_some(cx));
            tokio::time::timeout(patience, room).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        loop {
            let all = self.queue.is_empty();
            match self.poll_flush_some(cx) {
                Poll::Ready(Ok(())) if all => return Ok(Poll::Ready(())),
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
    }

    /// Writes some of what is queued; all of what was written before, if nothing is.
    fn poll_flush_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.queue.is_empty() {
            return self.wire.poll_flush(cx);
        }
        self.queue.poll_write(cx, self.wire)
    }
}

fn framed(parts: &Parts, body: &AnswerBody, asked: Asked) -> Framed {
    let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    if asked.is_head || has_none {
        Framed::Nothing
    } else if body.size_hint().exact().is_some() {
        Framed::Length
    } else if asked.version == Version::HTTP_11 {
        Framed::Chunked
    } else {
        Framed::Close
    }
}

fn head(parts: &mut Parts, body: &AnswerBody, framed: Framed, asked: Asked, keeps_alive: bool) -> BytesMut {
    let mut head = start(parts.status);
    match framed {
        Framed::Length => {
            if let Some(length) = body.size_hint().exact() {
                parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
        // An answer to HEAD tells the length of what it leaves out; 204 has none to tell (RFC 9110, section 8.6).
        Framed::Nothing if parts.status != StatusCode::NO_CONTENT => {}
        _ => drop(parts.headers.remove(header::CONTENT_LENGTH)),
    }
    lines(&mut head, &parts.headers);
    if framed == Framed::Chunked {
        head.put_slice(b"transfer-encoding: chunked\r\n");
    }
    if !parts.headers.contains_key(header::DATE) {
        head.put_slice(b"date: ");
        date::write(&mut head);
        head.put_slice(CRLF);
    }
    match (keeps_alive, asked.version) {
        (false, _) => head.put_slice(b"connection: close\r\n"),
        (true, Version::HTTP_10) => head.put_slice(b"connection: keep-alive\r\n"),
        (true, _) => {}
    }
    head.put_slice(CRLF);
    head
}

fn start(status: StatusCode) -> BytesMut {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_u8(b' ');
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(CRLF);
    head
}

fn lines(head: &mut BytesMut, headers: &HeaderMap) {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), CRLF] {
            head.put_slice(part);
        }
    };
    headers.iter().for_each(line);
}
