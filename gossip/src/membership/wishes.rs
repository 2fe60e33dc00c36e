use std::time::Duration;

use foca::{Header, Message, Notification, Runtime, Timer};
use starling_proto::NodeId;

use crate::swim::SwimIdentity;

/// What foca wants done since it was last asked, and what it told of itself.
#[derive(Default)]
pub(super) struct Wishes {
    pub(super) packets: Vec<SwimSend>,
    pub(super) timers: Vec<(Duration, Timer<SwimIdentity>)>,
    /// Probes begun, with their numbers.
    pub(super) probes: Vec<(SwimIdentity, u8)>,
    /// Whom foca asked to probe as well.
    pub(super) asked: Vec<SwimIdentity>,
    /// Members that answered neither this node's probe nor those who tried for it.
    pub(super) failed: Vec<SwimIdentity>,
    /// Members of whom it may think otherwise now.
    pub(super) touched: Vec<NodeId>,
    /// Nobody is left to probe.
    pub(super) idle: bool,
    pub(super) incarnation: u16,
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
    Gossip,
    TurnUndead,
    Other,
}

impl Runtime<SwimIdentity> for Wishes {
    fn notify(&mut self, notification: Notification<'_, SwimIdentity>) {
        match notification {
            Notification::DataSent(header) => self.on_sent(header),
            Notification::ProbeFailed(_, member) => {
                self.failed.push(*member);
                self.touched.push(member.node());
            }
            Notification::MemberUp(member) | Notification::MemberDown(member) | Notification::Rename(_, member) => {
                self.touched.push(member.node());
            }
            Notification::Idle => self.idle = true,
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

impl Wishes {
    fn on_sent(&mut self, header: &Header<SwimIdentity>) {
        self.incarnation = header.src_incarnation;
        let kind = match &header.message {
            Message::Announce => SwimKind::Announce,
            Message::Gossip => SwimKind::Gossip,
            Message::TurnUndead => SwimKind::TurnUndead,
            Message::Ping(number) => {
                self.probes.push((header.dst, *number));
                SwimKind::Other
            }
            Message::PingReq { .. } => {
                self.asked.push(header.dst);
                SwimKind::Other
            }
            _ => SwimKind::Other,
        };
        if let Some(sent) = self.packets.last_mut() {
            sent.kind = kind;
        }
    }
}
