//! Group keys, to and from peers and the operator.

use std::net::SocketAddr;
use std::sync::Arc;

use starling_gossip::Input;
use starling_proto::mesh::v1::KeyringState;
use starling_proto::{NodeId, SpiffeId};

use super::{Driver, Job};
use crate::mesh::ChangeKeysError;
use crate::mesh::peers::AskError;

impl Driver {
    /// Gives a member our group keys and takes its own.
    pub(super) fn exchange_keys(&self, node: NodeId, at: SocketAddr) {
        let (peers, state) = (Arc::clone(&self.peers), self.engine.keyring_state());
        tokio::spawn(async move {
            match peers.exchange_keys(at, state).await {
                Ok((peer, state)) => peers.report(Job::Keys { peer, state, reply: None }).await,
                // It is of a version that knows nothing of this.
                Err(AskError::Answer(error)) => {
                    tracing::debug!(node = %node.short(), code = error.code, "no group keys");
                }
                Err(error) => tracing::debug!(node = %node.short(), %error, "group keys not exchanged"),
            }
        });
    }

    pub(super) async fn on_keys(&mut self, peer: &SpiffeId, state: KeyringState) -> KeyringState {
        let from = self.roster.load().named(peer).map(|(node, _)| node);
        self.feed(Input::Keys { from, state }).await;
        self.engine.keyring_state()
    }

    pub(super) async fn change_keys(&mut self, state: KeyringState) -> Result<(), ChangeKeysError> {
        if self.engine.check_keys(&state)? {
            self.feed(Input::Keys { from: None, state }).await;
        } else if self.engine.keyring_state().signed != state.signed {
            return Err(ChangeKeysError::Stale(self.engine.key_revision()));
        }
        Ok(())
    }
}
