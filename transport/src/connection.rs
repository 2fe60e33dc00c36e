//! A connection to a known peer.

mod lost;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use starling_proto::ErrorCode;
use tokio::sync::Notify;

pub use self::lost::Lost;
use crate::carrier::{Counted, Heard, RecvStream, SendStream, Wire};
use crate::certificate::PeerIdentity;
use crate::datagrams::{self, DatagramRecv, DatagramSend};
use crate::silence::{Board, Observation};
use crate::{Alpn, Carrier, RecvHalf, SendHalf, Tls};

/// A connection to a peer that showed a good certificate. Cheap to clone. It stays open while a clone or a half of one
/// of its streams lives, and is closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Link>);

/// After so many resets of streams by its peer a connection is left for a new one: some 300 KiB there.
const MOST_RESETS: usize = 4096;

/// What the clones of a connection share.
pub(crate) struct Link {
    wire: Wire,
    peer: Arc<PeerIdentity>,
    alpn: Alpn,
    /// The stream that showed us that the peer accepts us, to be used by the first request.
    spare: Mutex<Option<(SendStream, RecvStream)>>,
    has_spare: AtomicBool,
    /// Who looks for silence; none on connections that were accepted.
    board: Option<Arc<Board>>,
    watched: AtomicBool,
    outstanding: AtomicUsize,
    silent: AtomicBool,
    fell_silent: Notify,
    /// The peer drains.
    leaving: AtomicBool,
    /// We drain: new streams are refused.
    refusing: AtomicBool,
    /// Streams that the peer reset.
    resets: AtomicUsize,
    datagrams: Arc<datagrams::Board>,
    /// It runs over TCP and was dialed here: QUIC would be better.
    stands_in: bool,
    #[allow(dead_code, reason = "it works by being dropped")]
    counted: Counted,
}

impl Connection {
    /// `board`: who looks for silence, if this side dialed.
    pub(crate) fn new(wire: Wire, peer: PeerIdentity, alpn: Alpn, tls: &Tls, board: Option<Arc<Board>>) -> Self {
        let counted = tls.census().enter(wire.carrier());
        Self(Arc::new(Link {
            wire,
            peer: Arc::new(peer),
            alpn,
            spare: Mutex::new(None),
            has_spare: AtomicBool::new(false),
            board,
            watched: AtomicBool::new(false),
            outstanding: AtomicUsize::new(0),
            silent: AtomicBool::new(false),
            fell_silent: Notify::new(),
            leaving: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            resets: AtomicUsize::new(0),
            datagrams: Arc::default(),
            stands_in: false,
            counted,
        }))
    }

    /// Keeps a stream that was opened and not used.
    pub(crate) fn with_spare(self, stream: (SendStream, RecvStream)) -> Self {
        *self.0.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        self.0.has_spare.store(true, Ordering::Release);
        self
    }

    /// Says that QUIC is wanted in its place. To be called before it is cloned.
    pub(crate) fn into_stand_in(mut self) -> Self {
        if let Some(link) = Arc::get_mut(&mut self.0) {
            link.stands_in = true;
        }
        self
    }

    /// What it runs over.
    pub fn carrier(&self) -> Carrier {
        self.0.wire.carrier()
    }

    /// Does it run over TCP only since UDP did not pass, and is it for this side to try again?
    pub fn stands_in(&self) -> bool {
        self.0.stands_in
    }

    /// Who is at the other end, by its certificate.
    pub fn peer(&self) -> &Arc<PeerIdentity> {
        &self.0.peer
    }

    /// What it is for.
    pub fn alpn(&self) -> Alpn {
        self.0.alpn
    }

    /// Where the peer is now; it may change while a connection lives.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.wire.remote_address()
    }

    /// The smoothed round trip.
    pub fn rtt(&self) -> Duration {
        self.0.wire.rtt()
    }

    /// Tells this connection from others of this process while it lives.
    pub fn id(&self) -> usize {
        self.0.wire.stable_id()
    }

    /// Opens a stream. The peer learns of it with the first write. Waits while as many are open as the peer allows.
    ///
    /// # Errors
    /// If the connection is gone; nothing was sent then.
    pub async fn open(&self) -> Result<(SendHalf, RecvHalf), Lost> {
        let (send, recv) = match self.take_spare() {
            Some(stream) => stream,
            None => self.0.wire.open_bi().await?,
        };
        Ok((SendHalf::new(send), RecvHalf::new(recv, self.clone())))
    }

    fn take_spare(&self) -> Option<(SendStream, RecvStream)> {
        if !self.0.has_spare.load(Ordering::Relaxed) || !self.0.has_spare.swap(false, Ordering::Acquire) {
            return None;
        }
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The next stream that the peer opened; `None` once the connection is gone.
    /// After [`Self::refuse_streams`], new streams are reset with [`ErrorCode::Draining`] and not returned.
    pub async fn accept(&self) -> Option<(SendHalf, RecvHalf)> {
        loop {
            let (send, recv) = self.0.wire.accept_bi().await.ok()?;
            let (mut send, mut recv) = (SendHalf::new(send), RecvHalf::new(recv, self.clone()));
            if !self.0.refusing.load(Ordering::Relaxed) {
                return Some((send, recv));
            }
            send.reset(ErrorCode::Draining);
            recv.stop(ErrorCode::Draining);
        }
    }

    /// Opens a stream of one direction; on control connections only.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn open_uni(&self) -> Result<SendHalf, Lost> {
        Ok(SendHalf::new(self.0.wire.open_uni().await?))
    }

    /// The next stream of one direction that the peer opened; `None` once the connection is gone.
    pub async fn accept_uni(&self) -> Option<RecvHalf> {
        let stream = self.0.wire.accept_uni().await.ok()?;
        Some(RecvHalf::new(stream, self.clone()))
    }

    /// The datagrams of one of its streams; `None` over TCP, which has none.
    pub(crate) fn datagrams(&self, stream: &RecvStream) -> Option<(DatagramSend, DatagramRecv)> {
        match (&self.0.wire, stream) {
            (Wire::Quic(quic), RecvStream::Quic(stream)) => Some(self.0.datagrams.join(quic, stream.id().index())),
            _ => None,
        }
    }

    /// From now on, refuses new streams of the peer; those that are open go on. Only while [`Self::accept`] is called.
    pub fn refuse_streams(&self) {
        self.0.refusing.store(true, Ordering::Relaxed);
    }

    /// Closes the connection at once, with all its streams.
    pub fn close(&self, code: ErrorCode, reason: &str) {
        self.0.wire.close(code.number(), reason);
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> Lost {
        self.0.wire.closed().await
    }

    /// Why the connection is gone, if it is.
    pub fn lost(&self) -> Option<Lost> {
        self.0.wire.lost()
    }

    /// Counts a request as outstanding until the value is dropped. While there are any, silence is looked for.
    pub fn begin_request(&self) -> Request {
        let link = &self.0;
        link.outstanding.fetch_add(1, Ordering::Relaxed);
        if let Some(board) = &link.board
            && !link.watched.load(Ordering::Relaxed)
            && !link.watched.swap(true, Ordering::Relaxed)
        {
            board.add(Arc::downgrade(link));
        }
        Request(self.clone())
    }

    /// Requests outstanding here.
    pub fn outstanding(&self) -> usize {
        self.0.outstanding.load(Ordering::Relaxed)
    }

    /// Nothing came for at least max(3 probe timeouts, 200 ms) though requests were outstanding, and still nothing came.
    pub fn is_silent(&self) -> bool {
        self.0.silent.load(Ordering::Relaxed)
    }

    /// Waits until the connection is silent. It may heal later: [`Self::is_silent`] tells.
    pub async fn silent(&self) {
        loop {
            let fell_silent = self.0.fell_silent.notified();
            if self.is_silent() {
                return;
            }
            fell_silent.await;
        }
    }

    /// The peer refused a stream because it drains: no more should be opened.
    pub fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Relaxed)
    }

    /// The peer said that it drains.
    pub fn on_leaving(&self) {
        if !self.0.leaving.swap(true, Ordering::Relaxed)
            && let Some(board) = &self.0.board
        {
            board.on_changed();
        }
    }

    /// The peer reset a stream. quinn keeps some 80 bytes of each stream that was reset while somebody waited for it to be stopped, as a node
    /// that serves does, for as long as the connection lives (0.11.12: `Connection::stopped`); so one with many of them is
    /// replaced in time. To be taken out when quinn no longer does.
    pub(crate) fn on_reset(&self) {
        if self.carrier() == Carrier::Quic && self.0.resets.fetch_add(1, Ordering::Relaxed) + 1 == MOST_RESETS {
            self.on_leaving();
        }
    }

    /// Bytes received and sent since the connection began: UDP payload, or over TCP what TLS carried.
    pub fn traffic(&self) -> (u64, u64) {
        self.0.wire.traffic()
    }
}

impl Link {
    /// What is seen now; `None` once it is gone.
    pub(crate) fn observe(&self) -> Option<Observation> {
        let outstanding = self.outstanding.load(Ordering::Relaxed) > 0;
        self.wire.heard().map(|Heard { received, packets, rtt }| Observation { received, packets, outstanding, rtt })
    }

    /// Sends something that the peer must answer. Says whether the connection is still of use.
    pub(crate) fn probe(&self) -> bool {
        self.wire.probe()
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
        if silent {
            self.fell_silent.notify_waiters();
        }
    }

    /// It was idle: leave the watch, unless a request began this moment.
    pub(crate) fn stay_watched(&self) -> bool {
        self.watched.store(false, Ordering::Relaxed);
        self.outstanding.load(Ordering::Relaxed) > 0 && !self.watched.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = f.debug_struct("Link");
        link.field("peer", &self.peer.spiffe)
            .field("alpn", &self.alpn)
            .field("carrier", &self.wire.carrier())
            .field("id", &self.wire.stable_id());
        link.finish_non_exhaustive()
    }
}

/// A request that is outstanding on a connection; see [`Connection::begin_request`].
#[derive(Debug)]
pub struct Request(Connection);

impl Request {
    /// The connection it is on.
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}
