use std::collections::BTreeSet;

use starling_proto::{MemberIdentity, NodeId};

/// The probe that foca has under way, as it is seen from outside of foca.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    probe: Option<Probe>,
}

#[derive(Debug, PartialEq, Eq)]
struct Probe {
    target: MemberIdentity,
    number: u8,
    answered: bool,
    /// Was anybody asked to probe as well?
    asked: bool,
    /// Of those who were, members that are well, and of whom nothing was heard since.
    silent: BTreeSet<NodeId>,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered, by whatever way.
    Answered(MemberIdentity),
    /// By none. `unclear`: those who were asked to probe as well were silent too, or there was nobody to ask.
    Failed { target: MemberIdentity, unclear: bool },
}

impl Watch {
    /// A ping was sent.
    pub(crate) fn begin(&mut self, target: MemberIdentity, number: u8) {
        self.probe = Some(Probe { target, number, answered: false, asked: false, silent: BTreeSet::new() });
    }

    /// Somebody was asked to probe as well. `well`: is it to be expected that it hears this?
    pub(crate) fn on_asked(&mut self, relay: NodeId, well: bool) {
        if let Some(probe) = &mut self.probe {
            probe.asked = true;
            if well {
                probe.silent.insert(relay);
            }
        }
    }

    /// A packet of a node arrived.
    pub(crate) fn on_heard(&mut self, from: NodeId) {
        if let Some(probe) = &mut self.probe {
            probe.silent.remove(&from);
        }
    }

    /// The target's own answer arrived, or one by way of another node.
    pub(crate) fn on_ack(&mut self, of: NodeId, number: u8) {
        if let Some(probe) = &mut self.probe
            && probe.target.node_id == of
            && probe.number == number
        {
            probe.answered = true;
        }
    }

    /// The number of the probe of this node that is still without an answer.
    pub(crate) fn unanswered(&self, of: NodeId) -> Option<u8> {
        self.probe.as_ref().filter(|probe| probe.target.node_id == of && !probe.answered).map(|probe| probe.number)
    }

    /// The probe is over: foca says whether it failed.
    pub(crate) fn end(&mut self, failed: bool) -> Option<Outcome> {
        let Probe { target, asked, silent, .. } = self.probe.take()?;
        Some(if failed {
            Outcome::Failed { target, unclear: !asked || !silent.is_empty() }
        } else {
            Outcome::Answered(target)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_proto::{Generation, NodeAddress};
    use std::net::IpAddr;

    /// An input; and after it, from each state: is it still without an answer, and what does a failure mean?
    type Row = (&'static str, fn(&mut Watch), [(bool, Option<bool>); 4]);

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn target() -> MemberIdentity {
        MemberIdentity {
            node_id: node(1),
            address: NodeAddress { ip: IpAddr::from([10, 0, 0, 1]), gossip_port: 1, quic_port: 2 },
            generation: Generation(1),
            rejoin: 0,
            cell: 0,
        }
    }

    /// A watch in each state: none under way, asked directly, two others asked, answered.
    fn states() -> [(&'static str, Watch); 4] {
        let begun = || {
            let mut watch = Watch::default();
            watch.begin(target(), 7);
            watch
        };
        let (mut asked, mut answered) = (begun(), begun());
        asked.on_asked(node(2), true);
        asked.on_asked(node(3), true);
        answered.on_ack(node(1), 7);
        [("none", Watch::default()), ("direct", begun()), ("indirect", asked), ("answered", answered)]
    }

    #[test]
    fn every_input_moves_every_state_as_the_table_says() {
        let (none, clear, unclear) = (None, Some(false), Some(true));
        let steps: [Row; 9] = [
            ("nothing", |_| {}, [(false, none), (true, unclear), (true, unclear), (false, unclear)]),
            (
                "begun",
                |watch| watch.begin(target(), 8),
                [(true, unclear), (true, unclear), (true, unclear), (true, unclear)],
            ),
            (
                "another asked",
                |watch| watch.on_asked(node(4), true),
                [(false, none), (true, unclear), (true, unclear), (false, unclear)],
            ),
            (
                "an ill one asked",
                |watch| watch.on_asked(node(4), false),
                [(false, none), (true, clear), (true, unclear), (false, clear)],
            ),
            (
                "one heard",
                |watch| watch.on_heard(node(2)),
                [(false, none), (true, unclear), (true, unclear), (false, unclear)],
            ),
            (
                "both heard",
                |watch| [2, 3].into_iter().for_each(|n| watch.on_heard(node(n))),
                [(false, none), (true, unclear), (true, clear), (false, unclear)],
            ),
            (
                "acknowledged",
                |watch| watch.on_ack(node(1), 7),
                [(false, none), (false, unclear), (false, unclear), (false, unclear)],
            ),
            (
                "another probe acknowledged",
                |watch| watch.on_ack(node(1), 6),
                [(false, none), (true, unclear), (true, unclear), (false, unclear)],
            ),
            (
                "another node acknowledged",
                |watch| watch.on_ack(node(2), 7),
                [(false, none), (true, unclear), (true, unclear), (false, unclear)],
            ),
        ];
        for (input, step, after) in steps {
            for ((state, mut watch), (open, failure)) in states().into_iter().zip(after) {
                step(&mut watch);
                assert_eq!(watch.unanswered(node(1)).is_some(), open, "{state}, {input}");
                let failed = failure.map(|unclear| Outcome::Failed { target: target(), unclear });
                assert_eq!(watch.end(true), failed, "{state}, {input}");
                assert_eq!(watch, Watch::default());
            }
        }
    }

    #[test]
    fn a_probe_that_foca_does_not_call_failed_was_answered() {
        for (state, mut watch) in states() {
            let expected = (state != "none").then_some(Outcome::Answered(target()));
            assert_eq!(watch.end(false), expected, "{state}");
        }
    }
}
