use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::NodeId;

/// A node is asked after at most once in this time.
const PAUSE: Duration = Duration::from_secs(2);
/// An answer is believed this long after the question.
const OPEN: Duration = Duration::from_secs(5);
/// The most nodes that are asked after at a time,
const MAX: usize = 4_096;
/// and of these, the most that one member named: it can't keep others from being heard.
const MAX_EACH: usize = 512;

/// Nodes that others named and whose credentials were asked for.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    asked: BTreeMap<NodeId, Hint>,
    /// How many each member named.
    named: BTreeMap<NodeId, usize>,
}

#[derive(Debug)]
struct Hint {
    by: NodeId,
    asked_at: Instant,
}

impl Hints {
    /// Which of the nodes that `by` named are to be asked after now.
    pub(crate) fn take(&mut self, by: NodeId, ids: Vec<NodeId>, now: Instant) -> Vec<NodeId> {
        let old: Vec<_> =
            self.asked.iter().filter(|(_, hint)| hint.asked_at + OPEN <= now).map(|(id, _)| *id).collect();
        for id in old {
            self.remove(id);
        }
        ids.into_iter().filter(|id| self.ask(by, *id, now)).collect()
    }

    fn ask(&mut self, by: NodeId, id: NodeId, now: Instant) -> bool {
        match self.asked.get(&id) {
            Some(hint) if hint.asked_at + PAUSE > now => return false,
            // Named again, and maybe by another.
            Some(_) => self.remove(id),
            None => {}
        }
        let named = self.named.get(&by).copied().unwrap_or(0);
        if self.asked.len() >= MAX || named >= MAX_EACH {
            return false;
        }
        self.named.insert(by, named + 1);
        self.asked.insert(id, Hint { by, asked_at: now });
        true
    }

    /// How many are asked after.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    /// An answer names a node. Gives who was asked for it; `None` if nobody was.
    pub(crate) fn asked_of(&self, id: NodeId) -> Option<NodeId> {
        self.asked.get(&id).map(|hint| hint.by)
    }

    fn remove(&mut self, id: NodeId) {
        let Some(hint) = self.asked.remove(&id) else { return };
        if let Some(named) = self.named.get_mut(&hint.by) {
            *named -= 1;
            if *named == 0 {
                self.named.remove(&hint.by);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        NodeId::of_key(&n.to_be_bytes())
    }

    #[test]
    fn a_node_is_asked_after_once_in_a_while_and_its_answer_is_waited_for() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut hints = Hints::default();
        assert_eq!(hints.asked_of(node(9)), None);
        assert_eq!(hints.take(node(1), vec![node(9)], start), [node(9)]);
        assert_eq!(hints.take(node(2), vec![node(9)], after(1)), []);
        assert_eq!(hints.asked_of(node(9)), Some(node(1)));
        assert_eq!(hints.take(node(2), vec![node(9)], after(3)), [node(9)]);
        assert_eq!(hints.asked_of(node(9)), Some(node(2)));
        hints.take(node(2), vec![], after(9));
        assert_eq!(hints.asked_of(node(9)), None);
        assert!(hints.named.is_empty());
    }

    #[test]
    fn one_who_names_thousands_leaves_room_for_others() {
        let now = Instant::now();
        let mut hints = Hints::default();
        let flood = |n: u32| (n * 10_000..n * 10_000 + 5_000).map(node).collect();
        assert_eq!(hints.take(node(1), flood(1), now).len(), MAX_EACH);
        assert_eq!(hints.take(node(2), vec![node(7)], now), [node(7)]);
        for n in 3..20 {
            hints.take(node(n), flood(n), now);
        }
        assert_eq!(hints.asked.len(), MAX);
        assert_eq!(hints.take(node(1), flood(1), now + OPEN).len(), MAX_EACH);
        assert_eq!(hints.asked.len(), MAX_EACH);
    }
}
