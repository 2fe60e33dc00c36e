//! Records that are too large to ride on a packet: only their sequence does, and whoever lacks the record asks the one who
//! said so. A notice goes on from here once the record is here, so that whoever hears of it can be given it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::mesh::v1;
use starling_proto::{Generation, NodeId};

use super::{Engine, Output};

/// Whoever was asked has this long to answer; then the owner is asked itself, once. After that anti-entropy brings it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Records that are waited for at a time,
const MAX: usize = 256;
/// and of these, of one owner. Of one that changes more at once the rest comes by anti-entropy.
const MAX_EACH: usize = 32;

/// Records that were announced and are not here yet.
#[derive(Default)]
pub(super) struct Awaited {
    waiting: BTreeMap<(NodeId, String), Wanted>,
}

struct Wanted {
    notice: v1::Notice,
    generation: Generation,
    sequence: u64,
    asked_at: Instant,
    asked_owner: bool,
}

impl Awaited {
    /// When somebody else is to be asked.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.values().map(|wanted| wanted.asked_at + PATIENCE).min()
    }

    fn has_room(&self, owner: NodeId, key: &str) -> bool {
        let of_owner = self.waiting.range((owner, String::new())..).take_while(|((other, _), _)| *other == owner);
        self.waiting.contains_key(&(owner, key.to_owned())) || (self.waiting.len() < MAX && of_owner.count() < MAX_EACH)
    }

    /// Takes out what waited for this record, or for an older one under its key.
    fn take(&mut self, owner: NodeId, key: &str, at: (Generation, u64)) -> Option<v1::Notice> {
        let place = (owner, key.to_owned());
        self.waiting.get(&place).filter(|wanted| (wanted.generation, wanted.sequence) <= at)?;
        self.waiting.remove(&place).map(|wanted| wanted.notice)
    }
}

impl Engine {
    /// An author says that a record of its is now at this sequence. True if the notice can go on at once.
    pub(super) fn on_announcement(
        &mut self,
        sender: NodeId,
        author: NodeId,
        notice: &v1::Notice,
        (key, sequence): (String, u64),
        now: Instant,
    ) -> bool {
        let generation = Generation(notice.generation);
        if self.catalog.sequence(author, &key) >= Some((generation, sequence)) {
            return true;
        }
        if self.awaited.has_room(author, &key) {
            let asked_owner = sender == author;
            let wanted = Wanted { notice: notice.clone(), generation, sequence, asked_at: now, asked_owner };
            self.awaited.waiting.insert((author, key.clone()), wanted);
            self.pull(sender, author, key);
        }
        false
    }

    fn pull(&mut self, ask: NodeId, owner: NodeId, key: String) {
        if let Some(at) = self.quic_address(ask) {
            self.out.push(Output::Pull { ask, at, owner, keys: vec![key] });
        }
    }

    /// A record is here, whichever way it came: whoever lacks it may be told.
    pub(super) fn on_awaited(&mut self, owner: NodeId, key: &str, now: Instant) {
        let Some(at) = self.catalog.sequence(owner, key) else { return };
        if let Some(notice) = self.awaited.take(owner, key, at) {
            self.pass_on(owner, notice, now);
        }
    }

    /// Asks owners for what the others did not give.
    pub(super) fn ask_owners(&mut self, now: Instant) {
        let late = |wanted: &Wanted| wanted.asked_at + PATIENCE <= now;
        self.awaited.waiting.retain(|_, wanted| !(late(wanted) && wanted.asked_owner));
        let mut owners = Vec::new();
        for ((owner, key), wanted) in self.awaited.waiting.iter_mut().filter(|(_, wanted)| late(wanted)) {
            wanted.asked_at = now;
            wanted.asked_owner = true;
            owners.push((*owner, key.clone()));
        }
        for (owner, key) in owners {
            self.pull(owner, owner, key);
        }
    }

    /// Answers a `mesh.v1.Pull`: the values of one node, all of them or those under some keys.
    #[must_use]
    pub fn pulled(&self, owner: NodeId, keys: &[String]) -> Vec<v1::SignedValue> {
        let values = self.catalog.values_of(owner);
        values.filter(|value| keys.is_empty() || keys.contains(&value.key)).cloned().collect()
    }
}
