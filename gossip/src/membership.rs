mod known;
mod wishes;

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{Foca, Header, Member, Message, NoCustomBroadcast, State, Timer};
use rand::rngs::StdRng;
use starling_proto::{MemberIdentity, NodeId};

use crate::lifeguard::{Health, Outcome, Sign, Watch};
use crate::swim::{Bincode, MAX_SWIM, SwimIdentity, SwimPacket};
use crate::timers::TimerQueue;
use crate::{Lifeguard, Timings};
use known::KnownMembers;
use wishes::Wishes;
pub(crate) use wishes::{SwimKind, SwimSend};

/// After this node stood still, answers that wait to be read are read within this, before anything is held against
/// those who gave them.
const GRACE: Duration = Duration::from_millis(50);

/// Who is alive: foca, its timers, and what it wants done.
///
/// Foca is given what its peers proved themselves and nothing else; whether this node renews its identity is decided
/// outside, so foca never hears that it is down. When a suspect is down is decided outside too.
pub(crate) struct Membership {
    swim: Foca<SwimIdentity, Bincode, StdRng, NoCustomBroadcast>,
    settings: foca::Config,
    lifeguard: Lifeguard,
    timers: TimerQueue<Timer<SwimIdentity>>,
    wishes: Wishes,
    known: KnownMembers,
    health: Health,
    watch: Watch,
    news: News,
    counts: Counts,
}

/// What came of probes, for the engine to act upon.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// How probes ended.
    pub(crate) outcomes: Vec<Outcome>,
    /// Members that did not answer a datagram: the last resort is a stream.
    pub(crate) unanswered: Vec<MemberIdentity>,
    /// Members whose suspicion began.
    pub(crate) suspects: Vec<Suspect>,
}

/// A member whose probe failed, as foca wants to be reminded of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) identity: MemberIdentity,
    pub(crate) incarnation: u16,
    token: u8,
}

/// What foca did, since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) probes: u64,
    pub(crate) indirect: u64,
    /// Errors that no peer can cause: each is a bug.
    pub(crate) errors: u64,
}

impl Membership {
    pub(crate) fn new(identity: MemberIdentity, timings: &Timings, lifeguard: Lifeguard, rng: StdRng) -> Self {
        let settings = settings(timings);
        Self {
            swim: Foca::new(SwimIdentity(identity), settings.clone(), rng, Bincode::default()),
            settings,
            lifeguard,
            timers: TimerQueue::new(),
            wishes: Wishes::default(),
            known: KnownMembers::default(),
            health: Health::GOOD,
            watch: Watch::default(),
            news: News::default(),
            counts: Counts::default(),
        }
    }

    /// How often this node refuted a suspicion since it took its identity.
    pub(crate) const fn incarnation(&self) -> u16 {
        self.wishes.incarnation
    }

    /// News that are still to be passed on.
    pub(crate) fn updates_backlog(&self) -> usize {
        self.swim.updates_backlog()
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) const fn health(&self) -> Health {
        self.health
    }

    /// Something shows how this node itself is.
    pub(crate) fn observe(&mut self, sign: Sign) {
        self.health.observe(sign);
    }

    /// What foca thinks of this node; `None` if it does not know it.
    pub(crate) fn get(&self, node: NodeId) -> Option<&Member<SwimIdentity>> {
        self.known.get(node)
    }

    /// Is this identity held for down?
    pub(crate) fn is_down(&self, identity: &MemberIdentity) -> bool {
        self.get(identity.node_id).is_some_and(|member| member.id().0 == *identity && member.state() == State::Down)
    }

    /// Members of whom foca thinks otherwise since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Vec<Member<SwimIdentity>> {
        self.known.take_changes()
    }

    /// The next changes are to hold what foca thinks of this node, be it new or not.
    pub(crate) fn tell_again(&mut self, node: NodeId) {
        self.known.tell_again(node);
    }

    /// Members that are up, this node included.
    pub(crate) const fn up(&self) -> usize {
        self.swim.num_members() + 1
    }

    /// A packet out of which hearsay was taken.
    pub(crate) fn handle_packet(&mut self, packet: &SwimPacket, now: Instant) {
        // Whatever was parsed can be written again.
        let Ok(bytes) = packet.encode() else { return };
        let from = packet.header.src.node();
        match &packet.header.message {
            Message::Ack(number) => self.watch.on_ack(from, *number),
            Message::ForwardedAck { origin, probe_number } => self.watch.on_ack(origin.node(), *probe_number),
            _ => {}
        }
        let Header { src, src_incarnation, .. } = packet.header;
        self.known.touch(&Member::new(src, src_incarnation, State::Alive));
        packet.updates.iter().for_each(|update| self.known.touch(update));
        let result = self.swim.handle_data(&bytes, &mut self.wishes);
        self.settle(&result, now);
    }

    /// A packet of a node arrived, whatever was in it.
    pub(crate) fn on_heard(&mut self, from: NodeId) {
        self.watch.on_heard(from);
    }

    /// A member showed over QUIC that it is there: the probe of it that is under way was answered.
    pub(crate) fn on_answer(&mut self, member: MemberIdentity, incarnation: u16, now: Instant) {
        let Some(number) = self.watch.unanswered(member.node_id) else { return };
        // Foca has no door for this but the packet that the member would have sent.
        let header = Header {
            src: SwimIdentity(member),
            src_incarnation: incarnation,
            dst: *self.swim.identity(),
            message: Message::Ack(number),
        };
        self.handle_packet(&SwimPacket { header, updates: Vec::new() }, now);
    }

    /// Tells foca what was proven outside of it.
    pub(crate) fn apply(&mut self, update: Member<SwimIdentity>, now: Instant) {
        self.known.touch(&update);
        let result = self.swim.apply_many(std::iter::once(update), true, &mut self.wishes);
        self.settle(&result, now);
    }

    /// A suspect had its time: it is down, unless it refuted in the meantime.
    pub(crate) fn declare_down(&mut self, suspect: &Suspect, now: Instant) {
        let Suspect { identity, incarnation, token } = *suspect;
        self.wishes.touched.push(identity.node_id);
        let timer = Timer::ChangeSuspectToDown { member_id: SwimIdentity(identity), incarnation, token };
        let result = self.swim.handle_timer(timer, &mut self.wishes);
        self.settle(&result, now);
    }

    /// A member that was held for down proved that it is there.
    pub(crate) fn revive(&mut self, identity: MemberIdentity, incarnation: u16, now: Instant) {
        self.forget(identity, now);
        self.apply(Member::new(SwimIdentity(identity), incarnation, State::Alive), now);
    }

    /// Asks one node whether it is there and whom it knows.
    pub(crate) fn announce(&mut self, to: MemberIdentity, now: Instant) {
        let result = self.swim.announce(SwimIdentity(to), &mut self.wishes);
        self.settle(&result, now);
    }

    /// Forgets a member that is down.
    pub(crate) fn forget(&mut self, identity: MemberIdentity, now: Instant) {
        self.wishes.touched.push(identity.node_id);
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
        let believe = |member: &Member<SwimIdentity>| Member::new(*member.id(), member.incarnation(), believed(member));
        let known: Vec<_> = self.swim.iter_membership_state().map(believe).collect();
        self.swim = Foca::new(SwimIdentity(identity), self.settings.clone(), rng, Bincode::default());
        self.timers.clear();
        self.watch = Watch::default();
        self.news = News::default();
        self.wishes = Wishes::default();
        for member in &known {
            self.known.touch_anyway(member.id().node());
        }
        let result = self.swim.apply_many(known.into_iter(), false, &mut self.wishes);
        self.settle(&result, now);
        let result = self.swim.gossip(&mut self.wishes);
        self.settle(&result, now);
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Did this node stand still, suspended or starved, past the time of its next timer? Then all timers move by as
    /// much, since nobody can be blamed for what happened meanwhile. Gives by how much.
    pub(crate) fn catch_up(&mut self, now: Instant) -> Option<Duration> {
        let late = now.saturating_duration_since(self.timers.next()?);
        if self.lifeguard == Lifeguard::Off || late <= self.settings.probe_rtt {
            return None;
        }
        let pause = late + GRACE;
        self.timers.shift(pause);
        self.health.observe(Sign::Stalled);
        Some(pause)
    }

    /// Runs what is due. The number of rounds is bounded, so that a long pause ends with a few late steps.
    pub(crate) fn handle_due(&mut self, now: Instant) {
        for _ in 0..10_000 {
            let Some(timer) = self.timers.pop_due(now) else { break };
            if let Timer::ChangeSuspectToDown { member_id, .. } = &timer {
                self.wishes.touched.push(member_id.node());
            }
            let (next_probe, probed) = match &timer {
                Timer::ProbeRandomMember(_) => (true, None),
                Timer::SendIndirectProbe { probed_id, .. } => (false, Some(probed_id.0)),
                _ => (false, None),
            };
            let result = self.swim.handle_timer(timer, &mut self.wishes);
            if next_probe {
                self.end_probe();
            }
            self.settle(&result, now);
            self.news.unanswered.extend(probed.filter(|probed| self.watch.unanswered(probed.node_id).is_some()));
        }
    }

    fn end_probe(&mut self) {
        let failed = !std::mem::take(&mut self.wishes.failed).is_empty();
        let Some(outcome) = self.watch.end(failed) else { return };
        if self.lifeguard == Lifeguard::On {
            self.health.observe(match outcome {
                Outcome::Answered(_) => Sign::ProbeAnswered,
                Outcome::Failed { unclear: true, .. } => Sign::ProbeUnclear,
                Outcome::Failed { unclear: false, .. } => Sign::ProbeFailed,
            });
        }
        self.news.outcomes.push(outcome);
    }

    /// The packets that foca wants sent.
    pub(crate) fn take_packets(&mut self) -> Vec<SwimSend> {
        std::mem::take(&mut self.wishes.packets)
    }

    /// What came of probes since it was last asked.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    fn settle(&mut self, result: &Result<(), foca::Error>, now: Instant) {
        self.counts.errors += u64::from(result.is_err());
        self.wishes.touched.drain(..).for_each(|node| self.known.touch_anyway(node));
        self.known.look(|| self.swim.iter_membership_state());
        if std::mem::take(&mut self.wishes.idle) {
            self.watch = Watch::default();
        }
        for (target, number) in std::mem::take(&mut self.wishes.probes) {
            self.counts.probes += 1;
            self.watch.begin(target.0, number);
        }
        for relay in std::mem::take(&mut self.wishes.asked) {
            self.counts.indirect += 1;
            let well = self.known.get(relay.node());
            let well = well.is_some_and(|member| *member.id() == relay && member.state() == State::Alive);
            self.watch.on_asked(relay.node(), well);
        }
        for (after, timer) in std::mem::take(&mut self.wishes.timers) {
            self.schedule(after, timer, now);
        }
    }

    fn schedule(&mut self, after: Duration, timer: Timer<SwimIdentity>, now: Instant) {
        let on = self.lifeguard == Lifeguard::On;
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, token } if on => {
                self.news.suspects.push(Suspect { identity: member_id.0, incarnation, token });
            }
            // Both by as much: foca wants them in this order.
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } if on => {
                self.timers.push(now + after * self.health.factor(), rank(&timer), timer);
            }
            timer => self.timers.push(now + after, rank(&timer), timer),
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
        suspect_to_down_after: timings.suspicion_max,
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
