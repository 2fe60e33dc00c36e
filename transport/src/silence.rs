//! Noticing within a fifth of a second that a connection with requests outstanding has fallen silent, long before it
//! times out (resilience.md). A machine without clock or IO; `watch` runs it.

mod watch;

use std::time::Duration;

pub(crate) use self::watch::{Board, Watch};

/// How often connections with requests outstanding are looked at. None is looked at while all are idle.
pub(crate) const TICK: Duration = Duration::from_millis(25);
/// Silence shorter than this is never taken for one: a busy host may well be late by as much.
const MIN_PATIENCE: Duration = Duration::from_millis(200);
/// What a peer may add to an acknowledgement (RFC 9000, section 18.2: `max_ack_delay`).
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// How often a silent connection is probed: it heals so soon after its peer is back.
const PROBE_SILENT: Duration = Duration::from_millis(200);
/// A connection without requests is looked at for so long, so that short requests need not start the watch each time.
const LINGER: Duration = Duration::from_secs(1);

/// A connection on which so many packets come between two looks is not silent, however late the peer's acknowledgements are: its
/// packets wait for a host, this one or the other, that has more to do than it can. A peer that does not hear us stops at its window, and then
/// sends a packet or two a probe timeout (RFC 9002, section 6.2.4).
const BUSY: u64 = 16;

/// What is seen of a connection at one look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation {
    /// Changes when the peer shows that it hears us.
    pub(crate) received: u64,
    /// Packets that came since it began. They may be the same again and again.
    pub(crate) packets: u64,
    /// Requests are outstanding.
    pub(crate) outstanding: bool,
    /// The smoothed round trip.
    pub(crate) rtt: Duration,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Make the peer answer: send it something that it must acknowledge.
    Probe,
    /// It is silent from now on; probe it.
    FellSilent,
    /// Something came: it is silent no more.
    Healed,
    /// It has been idle: stop looking.
    Forget,
}

/// What is known of one connection between looks.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    received: Option<u64>,
    packets: u64,
    /// How long nothing came while something was due.
    quiet: Duration,
    /// How long no request has been outstanding.
    idle: Duration,
    since_probe: Duration,
    silent: bool,
}

/// Three probe timeouts (RFC 9002, section 6.2.1), and at least [`MIN_PATIENCE`]. The variance of the round trip
/// is taken as a quarter of it, as quinn does not tell.
fn patience(rtt: Duration) -> Duration {
    MIN_PATIENCE.max(3 * (2 * rtt + MAX_ACK_DELAY))
}

impl Silence {
    /// Looks once, `elapsed` after the last look.
    pub(crate) fn handle(&mut self, seen: Observation, elapsed: Duration) -> Step {
        // A late look says that we were late, not the peer: what it sent may lie unread in our socket.
        let elapsed = elapsed.min(2 * TICK);
        let is_busy = seen.packets >= self.packets + BUSY;
        self.packets = seen.packets;
        self.idle = if seen.outstanding { Duration::ZERO } else { self.idle + elapsed };
        if self.received != Some(seen.received) || is_busy {
            self.received = Some(seen.received);
            self.quiet = Duration::ZERO;
            if std::mem::take(&mut self.silent) {
                return Step::Healed;
            }
        } else if seen.outstanding || self.silent {
            self.quiet += elapsed;
        } else {
            self.quiet = Duration::ZERO;
        }
        self.since_probe += elapsed;
        let step = self.decide(seen);
        if matches!(step, Step::Probe | Step::FellSilent) {
            self.since_probe = Duration::ZERO;
        }
        step
    }

    fn decide(&mut self, seen: Observation) -> Step {
        let patience = patience(seen.rtt);
        if self.silent {
            return if self.since_probe >= PROBE_SILENT { Step::Probe } else { Step::Wait };
        }
        if seen.outstanding && self.quiet >= patience {
            self.silent = true;
            return Step::FellSilent;
        }
        // From half of the patience on, at each look: one lost probe must not make a silence.
        if seen.outstanding && self.quiet >= patience / 2 {
            return Step::Probe;
        }
        if self.idle >= LINGER { Step::Forget } else { Step::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RTT: Duration = Duration::from_millis(1);

    fn seen(received: u64, outstanding: bool) -> Observation {
        Observation { received, packets: 0, outstanding, rtt: RTT }
    }

    /// Looks until something other than `Wait` comes, at most `looks` times: when, and what.
    fn until_step(silence: &mut Silence, seen: Observation, looks: u32) -> (Duration, Step) {
        for look in 1..=looks {
            let step = silence.handle(seen, TICK);
            if step != Step::Wait {
                return (TICK * look, step);
            }
        }
        (TICK * looks, Step::Wait)
    }

    #[test]
    fn a_quiet_peer_is_probed_at_half_and_silent_at_full_patience() {
        let mut silence = Silence::default();
        assert_eq!(silence.handle(seen(5, true), TICK), Step::Wait);
        assert_eq!(until_step(&mut silence, seen(5, true), 40), (MIN_PATIENCE / 2, Step::Probe));
        let steps: Vec<Step> = (0..4).map(|_| silence.handle(seen(5, true), TICK)).collect();
        assert_eq!(steps, [Step::Probe, Step::Probe, Step::Probe, Step::FellSilent]);
    }

    #[test]
    fn many_packets_are_no_silence_though_nothing_new_is_acknowledged_and_a_few_are() {
        for (packets, falls_silent) in [(BUSY - 1, true), (BUSY, false)] {
            let mut silence = Silence::default();
            let steps: Vec<Step> = (1..40_u64)
                .map(|look| silence.handle(Observation { packets: look * packets, ..seen(5, true) }, TICK))
                .collect();
            assert_eq!(steps.contains(&Step::FellSilent), falls_silent, "{packets} packets a look");
        }
    }

    #[test]
    fn an_answer_to_a_probe_starts_the_patience_again() {
        let mut silence = Silence::default();
        silence.handle(seen(5, true), TICK);
        for received in 6..20 {
            assert_eq!(until_step(&mut silence, seen(received - 1, true), 40).1, Step::Probe);
            assert_eq!(silence.handle(seen(received, true), TICK), Step::Wait);
        }
    }

    #[test]
    fn a_silent_connection_is_probed_until_it_heals_even_with_no_request_left() {
        let mut silence = Silence::default();
        silence.handle(seen(5, true), TICK);
        while silence.handle(seen(5, true), TICK) != Step::FellSilent {}
        for _ in 0..20 {
            assert_eq!(until_step(&mut silence, seen(5, false), 40), (PROBE_SILENT, Step::Probe));
        }
        assert_eq!(silence.handle(seen(6, false), TICK), Step::Healed);
        assert_eq!(until_step(&mut silence, seen(6, false), 100).1, Step::Forget);
    }

    #[test]
    fn a_long_round_trip_gets_more_patience() {
        let mut silence = Silence::default();
        let far = Observation { rtt: Duration::from_millis(150), ..seen(5, true) };
        silence.handle(far, TICK);
        let mut quiet = Duration::ZERO;
        while silence.handle(far, TICK) != Step::FellSilent {
            quiet += TICK;
        }
        assert!(quiet >= Duration::from_millis(900), "{quiet:?}");
    }

    #[test]
    fn our_own_stall_is_not_the_peers_silence() {
        let mut silence = Silence::default();
        silence.handle(seen(5, true), TICK);
        assert_eq!(silence.handle(seen(5, true), Duration::from_secs(3)), Step::Wait);
    }

    proptest! {
        #[test]
        fn it_is_silent_only_after_full_patience_and_never_while_idle(
            looks in proptest::collection::vec((any::<bool>(), any::<bool>(), 1_u64..60), 1..200),
        ) {
            let mut silence = Silence::default();
            let (mut received, mut quiet, mut is_silent) = (0, Duration::ZERO, false);
            for (heard, outstanding, millis) in looks {
                let elapsed = Duration::from_millis(millis);
                received += u64::from(heard);
                let first = silence.received.is_none();
                quiet = if heard || first || !(outstanding || is_silent) { Duration::ZERO } else { quiet + elapsed.min(2 * TICK) };
                match silence.handle(seen(received, outstanding), elapsed) {
                    Step::FellSilent => {
                        prop_assert!(outstanding && !is_silent && quiet >= MIN_PATIENCE);
                        is_silent = true;
                    }
                    Step::Healed => {
                        prop_assert!(heard && is_silent);
                        is_silent = false;
                    }
                    Step::Forget => prop_assert!(!outstanding && !is_silent),
                    Step::Probe => prop_assert!(is_silent || (outstanding && quiet >= MIN_PATIENCE / 2)),
                    Step::Wait => {}
                }
            }
        }
    }
}
