//! Tells the mesh side which nodes this shard has a working connection to: a live connection beats gossip.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use starling_proto::{NodeId, SpiffeId};
use tokio::sync::watch;

use crate::mesh::Mesh;

pub(super) async fn tell(mut linked: watch::Receiver<Arc<BTreeSet<SpiffeId>>>, mesh: Mesh) {
    // Those that were told to be up: a name may be bound to another id by the time it goes down.
    let mut up: BTreeMap<SpiffeId, NodeId> = BTreeMap::new();
    let view = mesh.view();
    while linked.changed().await.is_ok() {
        let now = Arc::clone(&linked.borrow_and_update());
        up.retain(|spiffe, node| {
            let still = now.contains(spiffe);
            if !still {
                mesh.link(*node, false);
            }
            still
        });
        let view = view.load();
        for member in view.members.values() {
            if now.contains(&member.spiffe) && !up.contains_key(&member.spiffe) {
                up.insert(member.spiffe.clone(), member.id);
                mesh.link(member.id, true);
            }
        }
    }
}
