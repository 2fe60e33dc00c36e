use std::time::{Duration, Instant};

/// After a claim was found wrong, the next of the same member is left unheard for so long: nobody can make this node
/// probe without end.
const DEAF: Duration = Duration::from_secs(2);

/// "That member is down", said by a third party. Foca would believe it at once and for good; so it is withheld until
/// enough others accuse the member under their own names, or this node has asked the member itself in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    stage: Stage,
    /// When that ends.
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A datagram asks the member.
    Pinged,
    /// And a QUIC stream.
    Streamed,
    /// It answered.
    Dismissed,
}

/// What is to be done about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing now.
    Wait,
    /// Ask the member by a datagram.
    Ping,
    /// Ask it over QUIC too.
    Stream,
    /// It is down.
    Believe,
    /// It is not.
    Dismiss,
    /// The claim is done with.
    Forget,
}

/// How long a member has to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A datagram.
    pub(crate) ping: Duration,
    /// A stream, after that.
    pub(crate) stream: Duration,
}

impl Patience {
    pub(crate) fn total(&self) -> Duration {
        self.ping + self.stream
    }
}

impl Claim {
    /// A claim that is not believed yet: the member is to be asked by a datagram.
    pub(crate) fn new(patience: Patience, now: Instant) -> Self {
        Self { stage: Stage::Pinged, until: now + patience.ping }
    }

    /// So many accuse the member by now.
    pub(crate) fn on_accused(&self, accusers: usize, needed: usize) -> Verdict {
        match self.stage {
            Stage::Pinged | Stage::Streamed if accusers >= needed => Verdict::Believe,
            // What was said before it answered counts for nothing; a claim that comes later may.
            Stage::Pinged | Stage::Streamed | Stage::Dismissed => Verdict::Wait,
        }
    }

    /// The member answered, or gave another sign that it can hear and be heard.
    pub(crate) fn on_answer(&mut self, now: Instant) -> Verdict {
        match self.stage {
            Stage::Pinged | Stage::Streamed => {
                *self = Self { stage: Stage::Dismissed, until: now + DEAF };
                Verdict::Dismiss
            }
            Stage::Dismissed => Verdict::Wait,
        }
    }

    /// Nobody answered the stream. `sure`: does this node trust its own probes?
    pub(crate) fn on_silence(&mut self, sure: bool) -> Verdict {
        match self.stage {
            Stage::Streamed if sure => Verdict::Believe,
            Stage::Pinged | Stage::Streamed | Stage::Dismissed => Verdict::Wait,
        }
    }

    /// Time passed.
    pub(crate) fn poll(&mut self, patience: Patience, sure: bool, now: Instant) -> Verdict {
        if self.until > now {
            return Verdict::Wait;
        }
        match self.stage {
            Stage::Pinged => {
                *self = Self { stage: Stage::Streamed, until: now + patience.stream };
                Verdict::Stream
            }
            Stage::Streamed if sure => Verdict::Believe,
            Stage::Streamed => {
                // The fault may be here: ask again, for as long as that is so.
                *self = Self::new(patience, now);
                Verdict::Ping
            }
            Stage::Dismissed => Verdict::Forget,
        }
    }

    /// It is to be believed, but not before this.
    pub(crate) fn postpone(&mut self, until: Instant) {
        self.until = self.until.max(until);
    }

    /// When time matters next.
    pub(crate) const fn next(&self) -> Instant {
        self.until
    }

    /// This node stood still for so long.
    pub(crate) fn shift(&mut self, pause: Duration) {
        self.until += pause;
    }

    /// Is the member still being asked?
    pub(crate) fn is_open(&self) -> bool {
        self.stage != Stage::Dismissed
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// An input, and the verdict and stage after it, from each stage.
    type Row = (&'static str, fn(&mut Claim, Instant) -> Verdict, [(Verdict, Stage); 3]);

    const PATIENCE: Patience = Patience { ping: Duration::from_millis(150), stream: Duration::from_millis(350) };

    #[test]
    fn every_input_moves_every_stage_as_the_table_says() {
        use Stage::{Dismissed, Pinged, Streamed};
        use Verdict::{Believe, Dismiss, Forget, Ping, Stream, Wait};
        let now = Instant::now();
        let late = Duration::from_secs(1);
        let steps: [Row; 8] = [
            (
                "accused by one",
                |claim, _| claim.on_accused(1, 2),
                [(Wait, Pinged), (Wait, Streamed), (Wait, Dismissed)],
            ),
            (
                "accused by two",
                |claim, _| claim.on_accused(2, 2),
                [(Believe, Pinged), (Believe, Streamed), (Wait, Dismissed)],
            ),
            (
                "answered",
                |claim, now| claim.on_answer(now),
                [(Dismiss, Dismissed), (Dismiss, Dismissed), (Wait, Dismissed)],
            ),
            ("silent", |claim, _| claim.on_silence(true), [(Wait, Pinged), (Believe, Streamed), (Wait, Dismissed)]),
            (
                "silent, unsure",
                |claim, _| claim.on_silence(false),
                [(Wait, Pinged), (Wait, Streamed), (Wait, Dismissed)],
            ),
            (
                "not due",
                |claim, now| claim.poll(PATIENCE, true, now),
                [(Wait, Pinged), (Wait, Streamed), (Wait, Dismissed)],
            ),
            (
                "due",
                |claim, now| claim.poll(PATIENCE, true, now + Duration::from_secs(1)),
                [(Stream, Streamed), (Believe, Streamed), (Forget, Dismissed)],
            ),
            (
                "due, unsure",
                |claim, now| claim.poll(PATIENCE, false, now + Duration::from_secs(1)),
                [(Stream, Streamed), (Ping, Pinged), (Forget, Dismissed)],
            ),
        ];
        for (input, step, after) in steps {
            for (stage, after) in [Pinged, Streamed, Dismissed].into_iter().zip(after) {
                let mut claim = Claim { stage, until: now + late };
                let verdict = step(&mut claim, now);
                assert_eq!((verdict, claim.stage), after, "{stage:?}, {input}");
                assert_eq!(claim.is_open(), claim.stage != Dismissed);
            }
        }
    }

    #[test]
    fn a_member_that_answers_nothing_is_believed_down_after_both_ways_were_tried() {
        let start = Instant::now();
        let mut claim = Claim::new(PATIENCE, start);
        assert_eq!(claim.next(), start + PATIENCE.ping);
        assert_eq!(claim.poll(PATIENCE, true, claim.next()), Verdict::Stream);
        assert_eq!(claim.next(), start + PATIENCE.ping + PATIENCE.stream);
        assert_eq!(claim.poll(PATIENCE, true, claim.next()), Verdict::Believe);
    }

    #[test]
    fn a_pause_of_this_node_is_no_silence_of_the_member() {
        let start = Instant::now();
        let mut claim = Claim::new(PATIENCE, start);
        claim.shift(Duration::from_mins(1));
        assert_eq!(claim.poll(PATIENCE, true, start + Duration::from_mins(1)), Verdict::Wait);
    }
}
