use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{Foca, Header, Member, Message, NoCustomBroadcast, Notification, Runtime, State, Timer};
use rand::rngs::StdRng;
use starling_proto::MemberIdentity;

use crate::Timings;
use crate::swim::{Bincode, MAX_SWIM, SwimIdentity};
use crate::timers::TimerQueue;

/// Who is alive: foca, its timers, and what it wants done.
///
/// Foca is given what its peers proved themselves and nothing else; whether this node renews its identity is decided
/// outside, so foca never hears that it is down.
pub(crate) struct Membership {
    swim: Foca<SwimIdentity, Bincode, StdRng, NoCustomBroadcast>,
    settings: foca::Config,
    timers: TimerQueue<Timer<SwimIdentity>>,
    wishes: Wishes,
    errors: u64,
}

/// What foca wants done since it was last asked.
#[derive(Default)]
struct Wishes {
    packets: Vec<SwimSend>,
    timers: Vec<(Duration, Timer<SwimIdentity>)>,
    failed_probes: Vec<SwimIdentity>,
    incarnation: u16,
}

/// A packet that foca wants sent.
pub(crate) struct SwimSend {
    pub(crate) to: SwimIdentity,
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: SwimKind,
}

/// What matters of a packet to the one who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwimKind {
    Announce,
    TurnUndead,
    Other,
}

impl Runtime<SwimIdentity> for Wishes {
    fn notify(&mut self, notification: Notification<'_, SwimIdentity>) {
        match notification {
            Notification::DataSent(Header { message, src_incarnation, .. }) => {
                self.incarnation = *src_incarnation;
                if let Some(sent) = self.packets.last_mut() {
                    sent.kind = match message {
                        Message::Announce => SwimKind::Announce,
                        Message::TurnUndead => SwimKind::TurnUndead,
                        _ => SwimKind::Other,
                    };
                }
            }
            Notification::ProbeFailed(_, member) => self.failed_probes.push(*member),
            _ => {}
        }
    }

    fn send_to(&mut self, to: SwimIdentity, data: &[u8]) {
        self.packets.push(SwimSend { to, bytes: data.to_vec(), kind: SwimKind::Other });
    }

    fn submit_after(&mut self, event: Timer<SwimIdentity>, after: Duration) {
        self.timers.push((after, event));
    }
}

impl Membership {
    pub(crate) fn new(identity: MemberIdentity, timings: &Timings, rng: StdRng) -> Self {
        let settings = settings(timings);
        let swim = Foca::new(SwimIdentity(identity), settings.clone(), rng, Bincode::default());
        Self { swim, settings, timers: TimerQueue::new(), wishes: Wishes::default(), errors: 0 }
    }

    /// How often this node refuted a suspicion since it took its identity.
    pub(crate) const fn incarnation(&self) -> u16 {
        self.wishes.incarnation
    }

    /// Errors of foca's that no peer can cause: each is a bug.
    pub(crate) const fn errors(&self) -> u64 {
        self.errors
    }

    /// Everyone foca knows, down ones included.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<SwimIdentity>> {
        self.swim.iter_membership_state()
    }

    /// A packet out of which hearsay was taken.
    pub(crate) fn handle_packet(&mut self, bytes: &[u8], now: Instant) {
        let result = self.swim.handle_data(bytes, &mut self.wishes);
        self.settle(&result, now);
    }

    /// Tells foca what was proven outside of it.
    pub(crate) fn apply(&mut self, update: Member<SwimIdentity>, now: Instant) {
        let result = self.swim.apply_many(std::iter::once(update), true, &mut self.wishes);
        self.settle(&result, now);
    }

    /// Asks one node whether it is there and whom it knows.
    pub(crate) fn announce(&mut self, to: MemberIdentity, now: Instant) {
        let result = self.swim.announce(SwimIdentity(to), &mut self.wishes);
        self.settle(&result, now);
    }

    /// Forgets a member that is down.
    pub(crate) fn forget(&mut self, identity: MemberIdentity, now: Instant) {
        let result = self.swim.handle_timer(Timer::RemoveDown(SwimIdentity(identity)), &mut self.wishes);
        self.settle(&result, now);
    }

    /// Takes a new identity of this node.
    ///
    /// Foca is built anew with what it knew, and without what it had still to pass on: a node that others took for
    /// dead mostly has wrong news of them, and must not spread it now that it is back.
    pub(crate) fn renew(&mut self, identity: MemberIdentity, rng: StdRng, now: Instant) {
        // Nor are its suspicions worth anything, and the timers behind them are gone.
        let believed = |member: &Member<SwimIdentity>| match member.state() {
            State::Suspect => State::Alive,
            state => state,
        };
        let known: Vec<_> =
            self.members().map(|member| Member::new(*member.id(), member.incarnation(), believed(member))).collect();
        self.swim = Foca::new(SwimIdentity(identity), self.settings.clone(), rng, Bincode::default());
        self.timers.clear();
        self.wishes.timers.clear();
        self.wishes.packets.clear();
        self.wishes.incarnation = 0;
        let result = self.swim.apply_many(known.into_iter(), false, &mut self.wishes);
        self.settle(&result, now);
        let result = self.swim.gossip(&mut self.wishes);
        self.settle(&result, now);
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Runs what is due. The number of rounds is bounded, so that a long pause ends with a few late steps.
    pub(crate) fn handle_due(&mut self, now: Instant) {
        for _ in 0..10_000 {
            let Some(timer) = self.timers.pop_due(now) else { break };
            let result = self.swim.handle_timer(timer, &mut self.wishes);
            self.settle(&result, now);
        }
    }

    /// The packets that foca wants sent.
    pub(crate) fn take_packets(&mut self) -> Vec<SwimSend> {
        std::mem::take(&mut self.wishes.packets)
    }

    /// Members that answered neither this node's probe nor those who tried for it.
    pub(crate) fn take_failed_probes(&mut self) -> Vec<SwimIdentity> {
        std::mem::take(&mut self.wishes.failed_probes)
    }

    fn settle(&mut self, result: &Result<(), foca::Error>, now: Instant) {
        if result.is_err() {
            self.errors += 1;
        }
        for (after, timer) in std::mem::take(&mut self.wishes.timers) {
            self.timers.push(now + after, rank(&timer), timer);
        }
    }
}

/// Foca wants a probe's second step before the next probe, where both are late.
const fn rank(timer: &Timer<SwimIdentity>) -> u8 {
    match timer {
        Timer::SendIndirectProbe { .. } => 0,
        Timer::ProbeRandomMember(_) => 1,
        Timer::ChangeSuspectToDown { .. } => 2,
        _ => 3,
    }
}

fn settings(timings: &Timings) -> foca::Config {
    let periodic = |frequency, members: u8| {
        NonZeroUsize::new(members.into()).map(|num_members| foca::PeriodicParams { frequency, num_members })
    };
    foca::Config {
        probe_period: timings.probe_period,
        probe_rtt: timings.probe_rtt,
        num_indirect_probes: NonZeroUsize::new(timings.indirect_probes.into()).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: NonZeroU8::new(timings.transmissions).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: timings.suspicion,
        // The engine forgets members itself: foca's timers would pile up for a day.
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(MAX_SWIM).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: periodic(timings.announce_period, 1),
        // The engine dials them itself.
        periodic_announce_to_down_members: None,
        periodic_gossip: periodic(timings.gossip_period, timings.gossip_fanout),
    }
}
