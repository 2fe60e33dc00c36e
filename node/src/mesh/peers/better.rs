//! From TCP, which stands in where UDP does not pass, back to QUIC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_proto::ErrorCode;
use starling_transport::{Alpn, Carrier, Connection};

use super::serve::STREAM_TIMEOUT;
use super::{CONNECT_TIMEOUT, Peers, Slot};

/// QUIC is tried again after this, and then twice as long each time …
const FIRST: Duration = Duration::from_secs(5);
/// … but no longer than this.
const LONGEST: Duration = Duration::from_mins(1);

/// When QUIC is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Better {
    at: Instant,
    wait: Duration,
    /// It was tried since another dialer found UDP to pass.
    heard: bool,
}

impl Slot {
    /// Is a dial due, since this one's connection only stands in?
    fn is_better_due(&mut self, passes: bool, now: Instant) -> bool {
        let stands_in = |connection: &Connection| connection.stands_in() && connection.lost().is_none();
        if !self.ready.as_ref().is_some_and(|(connection, _)| stands_in(connection)) {
            self.better = None;
            return false;
        }
        let better = self.better.get_or_insert(Better { at: now + FIRST, wait: FIRST, heard: false });
        // That another dialer of this node found UDP to pass is worth a try at once, and one only.
        let is_due = better.at <= now || (passes && !std::mem::replace(&mut better.heard, true));
        if is_due {
            better.wait = LONGEST.min(better.wait * 2);
            better.at = now + better.wait;
        }
        is_due
    }

    /// Does this connection serve better than the one that is there?
    pub(super) fn is_bettered_by(&self, connection: &Connection) -> bool {
        self.ready.as_ref().is_none_or(|(known, _)| {
            known.lost().is_some()
                || known.is_silent()
                || (known.carrier() == Carrier::Tcp && connection.carrier() == Carrier::Quic)
        })
    }
}

impl Peers {
    /// Tries QUIC again where TCP stands in for it. To be called every few seconds.
    pub(in crate::mesh) fn try_better(self: &Arc<Self>) {
        let now = Instant::now();
        let by_tcp = self.dialer.paths().by_tcp();
        let is_due = |at: &SocketAddr, slot: &mut Slot| slot.is_better_due(!by_tcp.contains_key(at), now);
        let due: Vec<SocketAddr> =
            self.slots().iter_mut().filter_map(|(at, slot)| is_due(at, slot).then_some(*at)).collect();
        for at in due {
            let peers = Arc::clone(self);
            self.runtime.spawn(async move { peers.dial_better(at).await });
        }
    }

    async fn dial_better(self: Arc<Self>, at: SocketAddr) {
        // Others that are waited for come first.
        let Ok(_permit) = self.dials.try_acquire() else { return };
        let expected = self.roster.load().expected_at(at).cloned();
        let dialing = self.dialer.connect_quic(at, expected.as_ref(), Alpn::Control, CONNECT_TIMEOUT);
        let made = tokio::select! {
            made = dialing => made,
            () = self.stop.cancelled() => return,
        };
        let Ok(connection) = made else { return };
        let old = self.slots().entry(at).or_default().ready.replace((connection.clone(), Instant::now()));
        self.serve(connection);
        self.retire(old);
    }

    /// Closes a connection whose place another has taken, once what is under way on it has ended. The far side prefers the
    /// new one, too, from when it hears of it.
    pub(super) fn retire(self: &Arc<Self>, old: Option<(Connection, Instant)>) {
        let Some((old, _)) = old.filter(|(old, _)| old.stands_in() && old.lost().is_none()) else { return };
        let stop = self.stop.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(STREAM_TIMEOUT) => {}
                () = stop.cancelled() => {}
            }
            old.close(ErrorCode::Cancelled, "moved to QUIC");
        });
    }
}
