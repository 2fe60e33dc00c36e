//! Writes to disk, off the driver's task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use starling_gossip::{Remembered, RememberedMember};
use starling_proto::NodeId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::counters::{Counters, add};
use super::data_dir::DataDir;

/// Writes each newest thing to be remembered; what was overtaken while the disk was busy is not written.
pub(super) async fn run(
    mut data: DataDir,
    mut newest: watch::Receiver<Option<Remembered>>,
    counters: Arc<Counters>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let Some(remembered) = newest.borrow_and_update().clone() else { continue };
        let write = tokio::task::spawn_blocking(move || {
            let result = data.remember(&remembered);
            (data, result)
        });
        let Ok((back, result)) = write.await else { return };
        data = back;
        if let Err(error) = result {
            add(&counters.unwritten);
            tracing::warn!(%error, "cannot write to node.data_dir; going on without");
        }
    }
}

/// Members of the last run that were not met in this one: still whom to dial, still to be kept on disk.
#[derive(Debug, Default)]
pub(super) struct Unmet(BTreeMap<NodeId, RememberedMember>);

impl Unmet {
    pub(super) fn new(members: Vec<RememberedMember>, this: NodeId) -> Self {
        Self(members.into_iter().filter(|member| member.id != this).map(|member| (member.id, member)).collect())
    }

    /// Where they were.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.values().map(|member| member.address.quic())
    }

    /// Adds them to what is to be remembered, those aside that the engine knows by now.
    pub(super) fn complete(&mut self, mut remembered: Remembered) -> Remembered {
        for member in &remembered.members {
            self.0.remove(&member.id);
        }
        remembered.members.extend(self.0.values().cloned());
        remembered
    }

    /// After so long they count as gone.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_proto::{Generation, NodeAddress};

    fn member(n: u8) -> RememberedMember {
        let address = NodeAddress { ip: [10, 0, 0, n].into(), gossip_port: 1, quic_port: 2 };
        RememberedMember { id: NodeId::from_bytes([n; 16]), name: "a".into(), address, generation: Generation(1) }
    }

    #[test]
    fn members_of_the_last_run_are_kept_until_they_are_met() {
        let this = member(9).id;
        let mut unmet = Unmet::new(vec![member(1), member(2), member(9)], this);
        assert_eq!(unmet.addresses().count(), 2);
        let remembered = |members| Remembered { members, ..Remembered::default() };
        assert_eq!(unmet.complete(remembered(vec![])).members, [member(1), member(2)]);
        assert_eq!(unmet.complete(remembered(vec![member(2)])).members, [member(2), member(1)]);
        assert_eq!(unmet.complete(remembered(vec![])).members, [member(1)]);
        unmet.clear();
        assert_eq!(unmet.complete(remembered(vec![])).members, []);
    }
}
