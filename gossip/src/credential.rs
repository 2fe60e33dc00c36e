use starling_proto::{NodeId, ServiceName, ServicePattern, SpiffeId};

/// Checks the credentials of other nodes against the mesh's roots. `node` implements it with `transport`.
pub trait CredentialVerifier: Send {
    /// Checks an encoded `mesh.v1.Credential`: the chain, the trust domain, the name, and both signatures.
    ///
    /// # Errors
    /// Says in a few words what is wrong with it.
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String>;
}

/// What a valid credential says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCredential {
    /// The name in the certificate.
    pub spiffe: SpiffeId,
    /// The Ed25519 public key that the node signs gossip with.
    pub gossip_key: [u8; 32],
    /// The id that belongs to that key.
    pub node_id: NodeId,
    /// Unix seconds; a newer statement of one node replaces an older one.
    pub issued_at: u64,
    /// What the certificate allows the node to run.
    pub services: Vec<ServicePattern>,
}

impl VerifiedCredential {
    /// Does its certificate name this service?
    #[must_use]
    pub fn may_run(&self, service: &ServiceName) -> bool {
        self.services.iter().any(|pattern| pattern.matches(service))
    }
}
