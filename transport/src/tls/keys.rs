use std::time::SystemTime;

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac::{HMAC_SHA256, Key};

/// Keys of a node's listening endpoints that outlive its process: derived from its gossip key, so that a restarted
/// node can reset what its predecessor left open (docs/decisions/0003).
pub(super) struct Keys {
    /// Makes stateless reset tokens (RFC 9000, section 10.3.2).
    pub(super) reset: Key,
    /// Marks connection ids as this node's.
    pub(super) connection_id: Key,
    /// Tells this process from its predecessors, in all likelihood: tenths of a second since 1970, modulo 256.
    pub(super) boot: u8,
}

impl Keys {
    pub(super) fn derive(gossip_seed: &[u8; 32]) -> Self {
        let secret = Salt::new(HKDF_SHA256, b"starling transport v1").extract(gossip_seed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let [.., boot] = (since.as_millis() / 100).to_be_bytes();
        Self { reset: derived(&secret, b"stateless reset"), connection_id: derived(&secret, b"connection id"), boot }
    }
}

fn derived(secret: &Prk, label: &[u8]) -> Key {
    let label = [label];
    let material = secret.expand(&label, HMAC_SHA256).expect("one block of HKDF output");
    Key::from(material)
}
