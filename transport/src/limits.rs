//! How much of everything one connection, and one listener, may use.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::{Alpn, Carriers};

/// Bounds of a listener, a dialer and their connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests at a time on one data connection; more wait in [`Connection::open`](crate::Connection::open).
    pub streams: u32,
    /// Bytes that one stream may hold unread, at the reader. A writer that outruns its reader by this much waits.
    pub stream_window: u32,
    /// Bytes that all streams of a connection may hold unread. Many times `stream_window`: a stalled reader keeps
    /// its stream's share, and must not starve the others.
    pub connection_window: u32,
    /// Bytes that a connection may hold sent but not acknowledged.
    pub send_window: u32,
    /// Handshakes at a time on one listener. From half of it on, callers must first prove their address (a Retry).
    pub handshakes: usize,
    /// Connections at a time on one listener.
    pub connections: usize,
    /// A connection is gone when nothing came for so long. Long enough for a stream to outlive a short partition.
    pub idle_timeout: Duration,
    /// How often the dialing side of an idle connection shows that it is alive.
    pub keep_alive: Duration,
    /// What connections of this node run over.
    pub carriers: Carriers,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 1024,
            stream_window: 1 << 20,
            connection_window: 64 << 20,
            send_window: 8 << 20,
            handshakes: 256,
            connections: 4096,
            idle_timeout: Duration::from_secs(20),
            keep_alive: Duration::from_secs(5),
            carriers: Carriers::Both,
        }
    }
}

/// Streams at a time on a control connection, of either kind.
const CONTROL_STREAMS: u32 = 64;
/// Guess of the round trip before it is known: a lost first packet is sent again after three times this, so that a
/// handshake survives a loss well within a connect timeout of one second. (quinn's default of 333 ms would not.)
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Datagrams of flows of UDP that a connection may hold, unsent and unread, in bytes: some 200 full ones each way, as much as a socket of
/// the system holds by default. quinn counts 32 bytes more for each.
const DATAGRAM_BUFFER: usize = 256 << 10;

impl Limits {
    /// Streams that the far side may open: of both directions, of one direction.
    pub(crate) fn remote_stream_counts(&self, alpn: Alpn, accepted: bool) -> (u32, u32) {
        match (alpn, accepted) {
            (Alpn::Data, true) => (self.streams, 0),
            (Alpn::Data, false) => (0, 0),
            (Alpn::Control, _) => (CONTROL_STREAMS, CONTROL_STREAMS),
        }
    }

    /// The same for QUIC.
    pub(crate) fn remote_streams(&self, alpn: Alpn, accepted: bool) -> (VarInt, VarInt) {
        let (both, one) = self.remote_stream_counts(alpn, accepted);
        (both.into(), one.into())
    }

    fn shared(&self) -> TransportConfig {
        let mut config = TransportConfig::default();
        let idle = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        config
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.connection_window.into())
            .send_window(self.send_window.into())
            .initial_rtt(INITIAL_RTT)
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
            .datagram_send_buffer_size(DATAGRAM_BUFFER);
        config
    }

    /// For connections that this node dials.
    pub(crate) fn dialing(&self, alpn: Alpn) -> Arc<TransportConfig> {
        let mut config = self.shared();
        let (both, one) = self.remote_streams(alpn, false);
        config
            .max_concurrent_bidi_streams(both)
            .max_concurrent_uni_streams(one)
            .keep_alive_interval(Some(self.keep_alive));
        Arc::new(config)
    }

    /// For connections that this node accepts: no stream before the caller is known, see
    /// [`Listener`](crate::Listener).
    pub(crate) fn accepting(&self) -> Arc<TransportConfig> {
        let mut config = self.shared();
        config.max_concurrent_bidi_streams(0_u32.into()).max_concurrent_uni_streams(0_u32.into());
        Arc::new(config)
    }
}
