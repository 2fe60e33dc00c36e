//! Writes to disk, off the driver's task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use starling_gossip::{Remembered, RememberedMember, View};
use starling_proto::NodeId;
use starling_proto::mesh::v1::{KeyringState, SignedValue};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::counters::{Counters, add};
use super::data_dir::DataDir;

/// What is to be written. Of each kind the newest counts: what was overtaken while the disk was busy is not written.
#[derive(Debug, Default)]
pub(super) struct Desk {
    wanted: Mutex<Wanted>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    remembered: Option<Remembered>,
    records: Option<Vec<SignedValue>>,
    keys: Option<KeyringState>,
}

impl Desk {
    /// The node's own numbers, and the members.
    pub(super) fn remember(&self, remembered: Remembered) {
        self.change(|wanted| wanted.remembered = Some(remembered));
    }

    /// What others have in the catalog.
    pub(super) fn remember_records(&self, records: Vec<SignedValue>) {
        self.change(|wanted| wanted.records = Some(records));
    }

    /// The group keys.
    pub(super) fn remember_keys(&self, keys: KeyringState) {
        self.change(|wanted| wanted.keys = Some(keys));
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        self.news.notify_one();
    }

    fn take(&self) -> Wanted {
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes what comes to the desk, until `stop`; and what lies there then.
pub(super) async fn run(mut data: DataDir, desk: Arc<Desk>, counters: Arc<Counters>, stop: CancellationToken) {
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = desk.news.notified() => {}
            () = stop.cancelled() => stopped = true,
        }
        let wanted = desk.take();
        let write = tokio::task::spawn_blocking(move || {
            let failed = write(&mut data, &wanted);
            (data, failed)
        });
        let Ok((back, failed)) = write.await else { return };
        data = back;
        for error in failed {
            add(&counters.unwritten);
            tracing::warn!(%error, "cannot write to node.data_dir; going on without");
        }
    }
}

/// One that fails is no reason to leave out the others.
fn write(data: &mut DataDir, wanted: &Wanted) -> Vec<std::io::Error> {
    let keys = wanted.keys.as_ref().map(|keys| data.remember_keys(keys));
    let remembered = wanted.remembered.as_ref().map(|remembered| data.remember(remembered));
    let records = wanted.records.as_ref().map(|records| data.remember_records(records));
    [keys, remembered, records].into_iter().flatten().filter_map(Result::err).collect()
}

/// Members of the last run that were not met in this one: still whom to dial, still to be kept on disk; with the values
/// that they had in the catalog.
#[derive(Debug, Default)]
pub(super) struct Unmet {
    members: BTreeMap<NodeId, RememberedMember>,
    records: BTreeMap<NodeId, Vec<SignedValue>>,
}

impl Unmet {
    pub(super) fn new(members: Vec<RememberedMember>, values: Vec<SignedValue>, this: NodeId) -> Self {
        let others = members.into_iter().filter(|member| member.id != this);
        let mut records: BTreeMap<NodeId, Vec<SignedValue>> = BTreeMap::new();
        for value in values {
            if let Some(owner) = NodeId::try_from(&value.owner[..]).ok().filter(|owner| *owner != this) {
                records.entry(owner).or_default().push(value);
            }
        }
        Self { members: others.map(|member| (member.id, member)).collect(), records }
    }

    /// Where they were.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.values().map(|member| member.address.quic())
    }

    /// Adds them to what is to be remembered, those aside that the engine knows by now.
    pub(super) fn complete(&mut self, mut remembered: Remembered) -> Remembered {
        for member in &remembered.members {
            self.members.remove(&member.id);
        }
        remembered.members.extend(self.members.values().cloned());
        remembered
    }

    /// The values of those that are there by now, if they have not restarted since: then they say what they offer anew.
    pub(super) fn take_records(&mut self, view: &View) -> Vec<(NodeId, SignedValue)> {
        let met = |owner: &NodeId| view.members.get(owner).is_some_and(|member| member.state.is_up());
        let owners: Vec<NodeId> = self.records.keys().copied().filter(met).collect();
        let values = owners.into_iter().flat_map(|owner| {
            let generation = view.members[&owner].generation;
            let values = self.records.remove(&owner).unwrap_or_default().into_iter();
            values.filter(move |value| value.generation == generation.0).map(move |value| (owner, value))
        });
        values.collect()
    }

    /// The values of those that are not there yet.
    pub(super) fn records(&self) -> impl Iterator<Item = &SignedValue> {
        self.records.values().flatten()
    }

    /// After so long they count as gone.
    pub(super) fn clear(&mut self) {
        self.members.clear();
        self.records.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use starling_gossip::{Member, State};
    use starling_proto::{Generation, NodeAddress};

    use super::*;

    fn member(n: u8) -> RememberedMember {
        let address = NodeAddress { ip: [10, 0, 0, n].into(), gossip_port: 1, quic_port: 2 };
        RememberedMember { id: NodeId::from_bytes([n; 16]), name: "a".into(), address, generation: Generation(1) }
    }

    #[test]
    fn members_of_the_last_run_are_kept_until_they_are_met() {
        let this = member(9).id;
        let mut unmet = Unmet::new(vec![member(1), member(2), member(9)], vec![], this);
        assert_eq!(unmet.addresses().count(), 2);
        let remembered = |members| Remembered { members, ..Remembered::default() };
        assert_eq!(unmet.complete(remembered(vec![])).members, [member(1), member(2)]);
        assert_eq!(unmet.complete(remembered(vec![member(2)])).members, [member(2), member(1)]);
        assert_eq!(unmet.complete(remembered(vec![])).members, [member(1)]);
        unmet.clear();
        assert_eq!(unmet.complete(remembered(vec![])).members, []);
    }

    #[test]
    fn values_of_the_last_run_count_once_their_owner_is_there_in_the_same_boot() {
        let value = |n, generation, key: &str| SignedValue {
            owner: member(n).id.to_bytes(),
            generation,
            key: key.to_owned(),
            ..SignedValue::default()
        };
        let values = vec![value(1, 7, "a"), value(1, 6, "b"), value(2, 7, "a"), value(3, 7, "a"), value(9, 7, "own")];
        let mut unmet = Unmet::new(vec![], values, member(9).id);
        let there = |n: u8, state, generation| {
            let RememberedMember { id, name, address, .. } = member(n);
            let spiffe = "spiffe://demo.example/node/a".parse().unwrap();
            let (zone, version, load) = ("".into(), String::new(), starling_proto::mesh::v1::LoadSummary::default());
            let (generation, since) = (Generation(generation), Instant::now());
            let (incarnation, flaky) = (0, false);
            (
                id,
                Member { id, name, spiffe, address, state, generation, incarnation, since, zone, version, load, flaky },
            )
        };
        let members = [there(1, State::Alive, 7), there(2, State::Down, 7), there(3, State::Alive, 8)].into();
        let view = View { version: 1, this: member(9).id, members, services: BTreeMap::new() };
        assert_eq!(unmet.take_records(&view), [(member(1).id, value(1, 7, "a"))]);
        assert_eq!(unmet.take_records(&view), []);
        assert_eq!(unmet.records().collect::<Vec<_>>(), [&value(2, 7, "a")]);
    }
}
