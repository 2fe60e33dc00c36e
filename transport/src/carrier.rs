//! What a connection runs over: QUIC, or TCP where UDP is blocked. All else of it is the same.

mod streams;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;

pub(crate) use self::streams::{RecvStream, SendStream};
use crate::Lost;
use crate::tcp::Line;

/// What a connection runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl Carrier {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Quic, Self::Tcp];

    /// A stable word for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What connections of a node may run over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carriers {
    /// QUIC, and TCP where and while UDP does not pass.
    #[default]
    Both,
    /// QUIC alone.
    Quic,
    /// TCP alone for what this node dials: all UDP is known to be blocked. Others may come in over either.
    Tcp,
}

/// How many connections are open, by carrier. Shared by the shards of a node.
#[derive(Debug, Default)]
pub struct Census([AtomicUsize; Carrier::ALL.len()]);

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Census>, Carrier);

impl Census {
    /// Connections that run over this now, of either side.
    pub fn of(&self, carrier: Carrier) -> usize {
        self.0[carrier as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>, carrier: Carrier) -> Counted {
        self.0[carrier as usize].fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self), carrier)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What was heard of a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Changes when the peer shows that it hears us.
    pub(crate) received: u64,
    /// Packets that came since the connection began; over TCP, where `received` tells all, none.
    pub(crate) packets: u64,
    /// The smoothed round trip.
    pub(crate) rtt: Duration,
}

/// A connection of either kind.
#[derive(Debug)]
pub(crate) enum Wire {
    Quic(quinn::Connection),
    Tcp(Line),
}

impl Wire {
    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Quic(_) => Carrier::Quic,
            Self::Tcp(_) => Carrier::Tcp,
        }
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(quic) => quic.remote_address(),
            Self::Tcp(line) => line.remote_address(),
        }
    }

    pub(crate) fn rtt(&self) -> Duration {
        match self {
            Self::Quic(quic) => quic.rtt(),
            Self::Tcp(line) => line.rtt(),
        }
    }

    pub(crate) fn stable_id(&self) -> usize {
        match self {
            Self::Quic(quic) => quic.stable_id(),
            Self::Tcp(line) => line.stable_id(),
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        Ok(match self {
            Self::Quic(quic) => both(quic.open_bi().await?),
            Self::Tcp(line) => line.open_bi().await.map(|(s, r)| (SendStream::Tcp(s), RecvStream::Tcp(r)))?,
        })
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        Ok(match self {
            Self::Quic(quic) => both(quic.accept_bi().await?),
            Self::Tcp(line) => line.accept_bi().await.map(|(s, r)| (SendStream::Tcp(s), RecvStream::Tcp(r)))?,
        })
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, Lost> {
        Ok(match self {
            Self::Quic(quic) => SendStream::Quic(quic.open_uni().await?),
            Self::Tcp(line) => SendStream::Tcp(line.open_uni().await?),
        })
    }

    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, Lost> {
        Ok(match self {
            Self::Quic(quic) => RecvStream::Quic(quic.accept_uni().await?),
            Self::Tcp(line) => RecvStream::Tcp(line.accept_uni().await?),
        })
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        match self {
            Self::Quic(quic) => quic.close(VarInt::from_u32(code), reason.as_bytes()),
            Self::Tcp(line) => line.close(code, reason),
        }
    }

    pub(crate) async fn closed(&self) -> Lost {
        match self {
            Self::Quic(quic) => quic.closed().await.into(),
            Self::Tcp(line) => line.closed().await,
        }
    }

    pub(crate) fn lost(&self) -> Option<Lost> {
        match self {
            Self::Quic(quic) => quic.close_reason().map(Lost::from),
            Self::Tcp(line) => line.lost(),
        }
    }

    /// Bytes received and sent since the connection began: UDP payload, or what TLS carried.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        match self {
            Self::Quic(quic) => {
                let stats = quic.stats();
                (stats.udp_rx.bytes, stats.udp_tx.bytes)
            }
            Self::Tcp(line) => line.traffic(),
        }
    }

    /// What was heard of the peer; `None` once the connection is gone.
    pub(crate) fn heard(&self) -> Option<Heard> {
        match self {
            Self::Quic(quic) => {
                if quic.close_reason().is_some() {
                    return None;
                }
                // A new acknowledgement is a new measure of the round trip. Packets alone show nothing: a peer that does not hear
                // us sends the same ones again and again, with old acknowledgements in them.
                let stats = quic.stats();
                let rtt = stats.path.rtt;
                let received = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
                Some(Heard { received, packets: stats.udp_rx.datagrams, rtt })
            }
            Self::Tcp(line) => {
                line.lost().is_none().then(|| Heard { received: line.traffic().0, packets: 0, rtt: line.rtt() })
            }
        }
    }

    /// Sends something that the peer must answer. Says whether the connection is still of use.
    pub(crate) fn probe(&self) -> bool {
        match self {
            // An empty datagram is acknowledged.
            Self::Quic(quic) => {
                !matches!(quic.send_datagram(Bytes::new()), Err(quinn::SendDatagramError::ConnectionLost(_)))
            }
            Self::Tcp(line) => line.probe(),
        }
    }
}

fn both((send, recv): (quinn::SendStream, quinn::RecvStream)) -> (SendStream, RecvStream) {
    (SendStream::Quic(send), RecvStream::Quic(recv))
}
