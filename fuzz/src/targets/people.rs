//! Nodes of the targets: their keys, addresses, credentials.

use bytes::Bytes;
use starling_gossip::{
    Config, CredentialVerifier, Engine, Keyring, SigningKey, Timings, VerifiedCredential, catalog::Catalog,
};
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId, SpiffeId};

/// The boot that all are in.
pub(super) const GENERATION: u32 = 1_000;

pub(super) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32]).expect("any seed makes a key")
}

pub(super) fn id(n: u8) -> NodeId {
    key(n).node_id()
}

pub(super) fn keyring() -> Keyring {
    Keyring::try_new(vec![(1, [42; 32])]).expect("one key")
}

pub(super) fn identity(n: u8) -> MemberIdentity {
    MemberIdentity {
        node_id: id(n),
        address: NodeAddress { ip: [10, 0, 0, n].into(), gossip_port: 7_946, quic_port: 7_947 },
        generation: Generation(GENERATION),
        rejoin: 0,
        cell: 0,
    }
}

pub(super) fn spiffe(n: u8) -> SpiffeId {
    format!("spiffe://demo.example/node/n{n}").parse().expect("a name")
}

/// A credential that [`Verifier`] believes: the word, the key, the node's number.
pub(super) fn credential(n: u8) -> Bytes {
    [b"good", &key(n).public_key()[..], &[n]].concat().into()
}

/// Believes those who are told from their number.
pub(super) struct Verifier;

impl CredentialVerifier for Verifier {
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String> {
        let rest = credential.strip_prefix(b"good").ok_or("not of this mesh")?;
        let [public @ .., n] = rest else { return Err("too short".to_owned()) };
        let gossip_key: [u8; 32] = public.try_into().map_err(|_| "no key")?;
        let services = vec!["*/*".parse().map_err(|_| "no pattern")?];
        let node_id = NodeId::of_key(&gossip_key);
        Ok(VerifiedCredential { spiffe: spiffe(*n), gossip_key, node_id, issued_at: 1, services })
    }
}

pub(super) fn engine(n: u8, now: std::time::Instant) -> Engine {
    let config = Config {
        identity: identity(n),
        spiffe: spiffe(n),
        credential: credential(n),
        signing_key: key(n),
        keyring: keyring(),
        member_limit: 50,
        zone: String::new(),
        version: String::new(),
        shards: 1,
        timings: Timings::default(),
        lifeguard: starling_gossip::Lifeguard::default(),
    };
    Engine::new(config, Box::new(Verifier), [n; 32], now)
}

/// A catalog of node `n`, which offers something.
pub(super) fn catalog(n: u8) -> Catalog {
    let mut catalog = Catalog::new(id(n), Generation(GENERATION));
    for (at, body) in [(0, &b"x"[..]), (1, &[7; 700]), (2, &[])] {
        catalog.set(&format!("k{at}"), Bytes::copy_from_slice(body), &key(n)).expect("it fits");
    }
    catalog.withdraw("k2", &key(n)).expect("it is there");
    catalog
}
