//! Identities made up by who holds a certificate: it can be bound to as many gossip keys as one likes.

use std::fs;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use starling_proto::NodeId;
use starling_transport::Identity;

/// So many of them: each with its id.
pub(crate) fn credentials(identity: &Path, count: usize) -> anyhow::Result<Vec<(NodeId, Bytes)>> {
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
        Ok((identity.node_id(), identity.credential()))
    };
    (0..count).map(mint).collect()
}
