use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::driver::{Driver, Patience};
use super::registry::Registry;
use super::streams::{RecvStream, SendStream};
use crate::mux::{Bounds, Direction, Mux, StreamId};
use crate::{Alpn, Limits, Lost};

/// A connection over TCP + TLS. Cheap to clone; closed when the last clone, and the last half of a stream, is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Line(Arc<Handle>);

/// What closes the connection when it is dropped.
#[derive(Debug)]
struct Handle(Arc<Shared>);

/// What the handles and the driver share.
pub(crate) struct Shared {
    mux: Mutex<Mux>,
    may_open: Notify,
    arrived: Notify,
    lost: Notify,
    remote: SocketAddr,
    /// Bytes so far, without what TLS adds.
    received: AtomicU64,
    sent: AtomicU64,
}

/// Bytes of all streams that wait for the socket; the kernel holds more.
const QUEUE: usize = 1 << 20;

impl Line {
    /// Runs the streams of a connection whose TLS handshake is over, on the current runtime.
    pub(super) fn start<S>(stream: S, remote: SocketAddr, side: Side, limits: &Limits, registry: &Registry) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Side { alpn, is_dialer } = side;
        let (both, one) = limits.remote_stream_counts(alpn, !is_dialer);
        let bounds = Bounds {
            stream_window: limits.stream_window,
            window: limits.connection_window.into(),
            both,
            one,
            queue: QUEUE.min(limits.send_window as usize),
        };
        let shared = Arc::new(Shared {
            mux: Mutex::new(Mux::new(is_dialer, bounds)),
            may_open: Notify::new(),
            arrived: Notify::new(),
            lost: Notify::new(),
            remote,
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let patience = Patience { idle: limits.idle_timeout, keep_alive: is_dialer.then_some(limits.keep_alive) };
        let entry = registry.enter(&shared);
        tokio::spawn(Driver::new(stream, Arc::clone(&shared), patience, entry));
        Self(Arc::new(Handle(shared)))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Mux) -> T) -> T {
        self.shared().with(act)
    }

    /// Waits until the far side has said what it allows: it knows us by then.
    pub(super) async fn ready(&self) -> Result<(), Lost> {
        let look = |mux: &mut Mux| match mux.lost() {
            Some(lost) => Some(Err(lost.clone())),
            None => mux.is_ready().then_some(Ok(())),
        };
        self.wait(&self.shared().may_open, look).await
    }

    /// Opens a stream of both directions. Waits while as many are open as the far side allows.
    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        let id = self.open(Direction::Both).await?;
        Ok((SendStream::new(self.clone(), id), RecvStream::new(self.clone(), id)))
    }

    /// Opens a stream of one direction.
    pub(crate) async fn open_uni(&self) -> Result<SendStream, Lost> {
        Ok(SendStream::new(self.clone(), self.open(Direction::One).await?))
    }

    /// The next stream of both directions that the far side opened.
    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        let id = self.accept(Direction::Both).await?;
        Ok((SendStream::new(self.clone(), id), RecvStream::new(self.clone(), id)))
    }

    /// The next stream of one direction that the far side opened.
    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Lost> {
        Ok(RecvStream::new(self.clone(), self.accept(Direction::One).await?))
    }

    async fn open(&self, direction: Direction) -> Result<StreamId, Lost> {
        self.wait(&self.shared().may_open, |mux| mux.open(direction).transpose()).await
    }

    async fn accept(&self, direction: Direction) -> Result<StreamId, Lost> {
        self.wait(&self.shared().arrived, |mux| mux.accept(direction).transpose()).await
    }

    async fn wait<T>(&self, news: &Notify, mut look: impl FnMut(&mut Mux) -> Option<T>) -> T {
        loop {
            let changed = news.notified();
            if let Some(found) = self.with(&mut look) {
                return found;
            }
            changed.await;
        }
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.with(|mux| mux.close(code, reason));
    }

    /// Waits until the connection is gone.
    pub(crate) async fn closed(&self) -> Lost {
        self.wait(&self.shared().lost, |mux| mux.lost().cloned()).await
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        self.with(|mux| mux.lost().cloned())
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.shared().remote
    }

    pub(crate) fn rtt(&self) -> Duration {
        self.with(|mux| mux.rtt())
    }

    pub(super) fn on_rtt(&self, measured: Duration) {
        self.with(|mux| mux.on_rtt(measured));
    }

    /// Makes the far side answer. Says whether the connection is still of use.
    pub(crate) fn probe(&self) -> bool {
        self.with(|mux| {
            mux.probe(Instant::now());
            mux.lost().is_none()
        })
    }

    /// Bytes received and sent so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let shared = self.shared();
        (shared.received.load(Ordering::Relaxed), shared.sent.load(Ordering::Relaxed))
    }

    /// Tells this connection from others while it lives.
    pub(crate) fn stable_id(&self) -> usize {
        std::ptr::from_ref(self.shared()).addr()
    }
}

/// Which end of which kind of connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side {
    pub(super) alpn: Alpn,
    pub(super) is_dialer: bool,
}

impl Shared {
    /// Does something with the streams, and tells whoever waits for what came of it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Mux) -> T) -> T {
        let (outcome, news) = {
            let mut mux = self.mux.lock().unwrap_or_else(PoisonError::into_inner);
            (act(&mut mux), mux.take_news())
        };
        if news.may_open {
            self.may_open.notify_waiters();
        }
        if news.arrived {
            self.arrived.notify_waiters();
        }
        if news.is_lost {
            self.lost.notify_waiters();
        }
        outcome
    }

    pub(super) fn on_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn on_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|mux| mux.close(0, ""));
    }
}
