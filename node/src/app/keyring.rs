//! The group keys, as the admin interface shows and changes them.

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message as _;
use starling_gossip::{KeyReport, View};
use starling_proto::mesh::v1::{KeyringState, KeyringStatement};

use crate::admin::{HolderReport, KeyReportLine, KeyringError, KeyringReport};
use crate::hex;
use crate::mesh::{ChangeKeysError, Mesh};

/// Who has which keys.
pub(super) async fn report(mesh: &Mesh, domain: &str) -> Result<KeyringReport, KeyringError> {
    let keys = mesh.keys().await.map_err(|_| KeyringError::Stopped)?;
    Ok(describe(&keys, &mesh.view().load(), domain))
}

/// Takes over an encoded `mesh.v1.KeyringState`.
pub(super) async fn change(mesh: &Mesh, state: Bytes) -> Result<(), KeyringError> {
    let state = KeyringState::decode(state).map_err(|_| KeyringError::Malformed)?;
    if state.signed.is_none() {
        return Err(KeyringError::Malformed);
    }
    mesh.change_keys(state).await.map_err(|error| match error {
        ChangeKeysError::Refused(error) => KeyringError::Refused(error),
        ChangeKeysError::Stale(revision) => KeyringError::Stale(revision),
        ChangeKeysError::Mesh(_) => KeyringError::Stopped,
    })
}

fn describe(keys: &KeyReport, view: &View, domain: &str) -> KeyringReport {
    let name = |id| view.members.get(id).map_or_else(String::new, |member| member.name.clone());
    let missing = |epoch| {
        let lacking = keys.peers.iter().filter(|(_, peer)| !peer.accepts.contains(&epoch));
        let mut names: Vec<String> = lacking.map(|(id, _)| name(id)).collect();
        names.sort();
        names
    };
    let accepted = keys.keys.iter().map(|key| KeyReportLine {
        epoch: key.epoch,
        state: if key.epoch == keys.in_use { "in-use" } else { "accepted" }.to_owned(),
        since: key.since,
        digest: hex::encode(&key.digest),
        missing: missing(key.epoch),
    });
    let removed = keys.lingering.iter().map(|epoch| KeyReportLine {
        epoch: *epoch,
        state: "removed".to_owned(),
        since: 0,
        digest: String::new(),
        missing: Vec::new(),
    });
    let this = HolderReport { name: name(&view.this), id: view.this, revision: Some(keys.revision), current: true };
    let others = keys.peers.iter().map(|(id, peer)| HolderReport {
        name: name(id),
        id: *id,
        revision: peer.revision,
        current: peer.current,
    });
    let mut members: Vec<HolderReport> = others.chain([this]).collect();
    members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let statement = keys.signed.as_ref().and_then(|signed| KeyringStatement::decode(signed.statement.clone()).ok());
    let issued_at = statement.and_then(|statement| i64::try_from(statement.issued_at).ok());
    KeyringReport {
        mesh: domain.to_owned(),
        revision: keys.revision,
        issued_at: issued_at.and_then(|at| Timestamp::from_second(at).ok()),
        in_use: keys.in_use,
        keys: accepted.chain(removed).collect(),
        members,
        signed: keys.signed.as_ref().map(|signed| hex::encode(&signed.encode_to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use starling_gossip::{PeerKeys, StatedKey};
    use starling_proto::NodeId;

    use super::*;

    #[test]
    fn members_that_lack_a_key_are_named_with_it() {
        let [this, there, unheard] = [1, 2, 3].map(|n| NodeId::from_bytes([n; 16]));
        let key = |epoch, since| StatedKey { epoch, digest: [0xab; 32], since };
        let peer = |revision, accepts: &[u32]| PeerKeys { revision, current: false, accepts: accepts.to_vec() };
        let keys = KeyReport {
            revision: 3,
            in_use: 4,
            keys: vec![key(4, 0), key(5, 3)],
            lingering: vec![2],
            signed: None,
            peers: [(there, peer(Some(2), &[4])), (unheard, peer(None, &[]))].into(),
        };
        let view = View { version: 1, this, members: BTreeMap::new(), services: BTreeMap::new() };
        let report = describe(&keys, &view, "demo.example");
        let lines: Vec<_> = report.keys.iter().map(|key| (key.epoch, &*key.state, key.missing.len())).collect();
        assert_eq!(lines, [(4, "in-use", 1), (5, "accepted", 2), (2, "removed", 0)]);
        let revisions: Vec<_> = report.members.iter().map(|member| (member.id, member.revision)).collect();
        assert_eq!(revisions, [(this, Some(3)), (there, Some(2)), (unheard, None)]);
        assert_eq!(report.keys[0].digest, "ab".repeat(32));
    }
}
