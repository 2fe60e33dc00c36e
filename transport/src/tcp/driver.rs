use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

use super::line::Shared;
use super::registry::Entry;
use crate::Lost;

/// How long a connection may be without a word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Then it is gone.
    pub(super) idle: Duration,
    /// The dialing side makes the other one speak this often.
    pub(super) keep_alive: Option<Duration>,
}

/// Room for reading at least.
const INPUT: usize = 32 << 10;
/// How long the far side has to close after us: what it sends until then would make the kernel drop our last words.
const LINGER: Duration = Duration::from_millis(300);

/// Reads, feeds the streams, writes what they have to say. A task of its own for each connection.
pub(super) struct Driver<S> {
    stream: S,
    shared: Arc<Shared>,
    patience: Patience,
    input: BytesMut,
    output: BytesMut,
    timer: Pin<Box<Sleep>>,
    heard: Instant,
    probed: Instant,
    phase: Phase,
    _entry: Entry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The streams are over; the last words are to be sent.
    Ending,
    /// They were sent.
    Lingering,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(super) fn new(stream: S, shared: Arc<Shared>, patience: Patience, entry: Entry) -> Self {
        let now = Instant::now();
        let first = patience.keep_alive.unwrap_or(patience.idle).min(patience.idle);
        Self {
            stream,
            shared,
            patience,
            input: BytesMut::new(),
            output: BytesMut::new(),
            timer: Box::pin(tokio::time::sleep(first)),
            heard: now,
            probed: now,
            phase: Phase::Running,
            _entry: entry,
        }
    }

    /// Reads all that is there.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            self.input.reserve(INPUT);
            let lost = match ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx)) {
                // Without a word of goodbye: whoever had the other end is no more.
                Ok(0) => Lost::Restarted,
                Ok(len) => {
                    self.heard = Instant::now();
                    self.shared.on_received(len);
                    self.shared.with(|mux| mux.handle_input(&mut self.input, self.heard));
                    continue;
                }
                Err(error) => lost_by(&error),
            };
            return Poll::Ready(lost);
        }
    }

    /// Writes all that is to be said.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.output.is_empty() {
                let output = &mut self.output;
                self.shared.with(|mux| {
                    mux.poll_output(output);
                    if output.is_empty() {
                        mux.set_driver(Some(cx.waker()));
                    }
                });
            }
            if self.output.is_empty() {
                return Pin::new(&mut self.stream).poll_flush(cx);
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.shared.on_sent(written);
            self.output.advance(written);
        }
    }

    /// Looks at the time; says when it is over.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = self.heard + self.patience.idle;
            if now >= next {
                return Poll::Ready(());
            }
            if let Some(keep_alive) = self.patience.keep_alive {
                if now >= self.probed + keep_alive {
                    self.probed = now;
                    self.shared.with(|mux| mux.probe(now));
                }
                next = next.min(self.probed + keep_alive);
            }
            if self.input.is_empty() {
                // A connection that rests holds no buffers.
                self.input = BytesMut::new();
            }
            if self.output.is_empty() {
                self.output = BytesMut::new();
            }
            self.timer.as_mut().reset(next.into());
        }
        Poll::Pending
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What is said meanwhile goes out below.
        self.shared.with(|mux| mux.set_driver(None));
        let read = self.poll_input(cx);
        if self.poll_time(cx).is_ready() {
            self.lose(Lost::TimedOut);
        }
        match self.poll_output(cx) {
            // What came before the end of what can be read is more than that nothing can be written.
            Poll::Ready(Err(error)) if read.is_pending() => self.lose(lost_by(&error)),
            _ => {}
        }
        if let Poll::Ready(lost) = read {
            self.lose(lost);
        }
        if self.shared.with(|mux| mux.lost().is_some()) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn lose(&self, lost: Lost) {
        self.shared.with(|mux| mux.handle_lost(lost));
    }

    /// Sends the last words and the end of TLS.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_output(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Drops what still comes, until the far side has closed.
    fn poll_lingering(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.input.clear();
            self.input.reserve(INPUT);
            match ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx)) {
                Ok(len) if len > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.phase == Phase::Running {
            ready!(this.poll_running(cx));
            this.phase = Phase::Ending;
            this.timer.as_mut().reset((Instant::now() + LINGER).into());
        }
        if this.phase == Phase::Ending
            && let Poll::Ready(ended) = this.poll_ending(cx)
        {
            if ended.is_err() {
                return Poll::Ready(());
            }
            this.phase = Phase::Lingering;
        }
        if this.phase == Phase::Lingering && this.poll_lingering(cx).is_ready() {
            return Poll::Ready(());
        }
        this.timer.as_mut().poll(cx)
    }
}

fn lost_by(error: &io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Lost::Restarted,
        io::ErrorKind::TimedOut => Lost::TimedOut,
        _ => Lost::Protocol(error.to_string()),
    }
}
