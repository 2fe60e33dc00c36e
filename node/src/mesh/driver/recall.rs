//! What others have in the catalog, on disk and back.

use prost::Message as _;
use starling_gossip::Input;
use starling_proto::mesh::v1::SignedValue;

use super::Driver;

impl Driver {
    /// Members of the last run may have come: what they had in the catalog is known at once. It is checked like any value.
    pub(super) async fn recall_records(&mut self) {
        let view = self.view.load_full();
        for (owner, value) in self.unmet.take_records(&view) {
            let (key, value) = (value.key.clone(), value.encode_to_vec().into());
            self.feed(Input::Value { owner, key, value }).await;
        }
    }

    /// Gives the disk what others have in the catalog, if that changed.
    pub(super) fn remember_records(&mut self) {
        let hash = self.engine.catalog().hash();
        if std::mem::replace(&mut self.state.written_hash, hash) == hash {
            return;
        }
        let this = self.this.to_bytes();
        let known = self.engine.catalog().values().filter(|value| value.owner != this);
        let records: Vec<SignedValue> = known.chain(self.unmet.records()).cloned().collect();
        self.disk.remember_records(records);
    }
}
