//! Identities made up by who holds a certificate: it can be bound to as many gossip keys as one likes.

use std::fs;
use std::path::Path;

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use starling_gossip::SigningKey;
use starling_proto::{Generation, MemberIdentity, NodeId};
use starling_transport::Identity;

/// One of them.
pub(crate) struct Minted {
    pub(crate) node_id: NodeId,
    pub(crate) credential: Bytes,
    pub(crate) key: SigningKey,
}

impl Minted {
    /// Where its maker is.
    pub(crate) fn identity(&self, maker: &MemberIdentity) -> MemberIdentity {
        MemberIdentity { node_id: self.node_id, generation: Generation(1), ..*maker }
    }
}

/// All of them, and which comes next.
pub(crate) struct Mint {
    all: Vec<Minted>,
    next: usize,
}

impl Mint {
    /// Makes so many.
    pub(crate) fn strike(identity: &Path, count: usize) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        for entry in fs::read_dir(identity)? {
            let entry = entry?;
            fs::copy(entry.path(), directory.path().join(entry.file_name()))?;
        }
        let mint = |_| {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
            let text = STANDARD.encode(document.as_ref());
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
            fs::write(directory.path().join("gossip.key"), pem)?;
            let identity = Identity::load(directory.path())?;
            let key = SigningKey::from_seed(**identity.gossip_seed()).context("a minted key")?;
            Ok(Minted { node_id: identity.node_id(), credential: identity.credential(), key })
        };
        Ok(Self { all: (0..count).map(mint).collect::<anyhow::Result<_>>()?, next: 0 })
    }

    /// The next so many, from the start again after the last.
    pub(crate) fn take(&mut self, count: usize) -> &[Minted] {
        let start = if self.next < self.all.len() { self.next } else { 0 };
        self.next = (start + count).min(self.all.len());
        &self.all[start..self.next]
    }
}
