//! TLS 1.3 both ways, for one node.

mod connection_id;
mod keys;
mod verifier;

use std::fmt;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, NoneTokenLog, NoneTokenStore, ServerConfig, ValidationTokenConfig};
use rustls::CipherSuite;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use starling_proto::SpiffeId;

use self::connection_id::ShardIds;
use self::keys::Keys;
use self::verifier::Verifier;
pub(crate) use self::verifier::{RefusedPeer, Verdict};
use crate::carrier::Census;
use crate::limits::Limits;
use crate::noise;
use crate::paths::Paths;
use crate::refusal::Refusals;
use crate::trust::{Role, Trust};
use crate::{Alpn, Identity};

/// What listeners and dialers of one node share: its certificate, whom it believes, and counts of refused
/// handshakes. Cheap to clone; one for all shards.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    certified: Arc<CertifiedKey>,
    keys: Keys,
    refusals: Arc<Refusals>,
    census: Arc<Census>,
    paths: Arc<Paths>,
}

/// rustls wants a name even when it is not sent and not checked; peers are checked by their SPIFFE id.
pub(crate) const SERVER_NAME: &str = "node.mesh.invalid";

/// The certificate's key cannot be used for TLS 1.3.
#[derive(Debug, Clone, thiserror::Error)]
#[error("TLS cannot use this identity: {0}")]
pub struct TlsError(String);

impl Tls {
    /// TLS for this node.
    ///
    /// # Errors
    /// If the identity's key cannot be used.
    pub fn try_new(identity: &Identity) -> Result<Self, TlsError> {
        let tls = Self(Arc::new(Shared {
            provider: Arc::new(provider()),
            trust: identity.trust().clone(),
            certified: Arc::new(identity.certified.clone()),
            keys: Keys::derive(identity.gossip_seed()),
            refusals: Arc::default(),
            census: Arc::default(),
            paths: Arc::default(),
        }));
        // What works once works always: nothing below fails by a peer's doing.
        tls.try_server(&Verdict::default())?;
        tls.try_client(Alpn::Data, None, &Verdict::default())?;
        Ok(tls)
    }

    /// Handshakes and datagrams refused since the start, by reason.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.0.refusals
    }

    /// How many connections are open, by what they run over.
    pub fn census(&self) -> &Arc<Census> {
        &self.0.census
    }

    /// Which peers are reached over TCP only.
    pub fn paths(&self) -> &Arc<Paths> {
        &self.0.paths
    }

    /// Whom this node believes.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// For an endpoint that listens as shard `shard` of the node.
    pub(crate) fn listening_endpoint(&self, shard: u8) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(self.0.keys.reset.clone()));
        let Keys { boot, connection_id, .. } = &self.0.keys;
        let ids = ShardIds::new(shard, *boot, connection_id.clone(), Arc::clone(self.refusals()));
        config.cid_generator(move || Box::new(ids.clone())).supported_versions(vec![noise::QUIC_1]);
        config
    }

    /// What an endpoint accepts connections with; the crypto is replaced for each, see [`Self::server`].
    pub(crate) fn listening(&self, limits: &Limits) -> ServerConfig {
        let mut config = ServerConfig::with_crypto(self.server(&Verdict::default()));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0).log(Arc::new(NoneTokenLog));
        config
            .transport_config(limits.accepting())
            .validation_token_config(tokens)
            .max_incoming(limits.handshakes)
            .incoming_buffer_size(16 << 10)
            .incoming_buffer_size_total((16 << 10) * limits.handshakes as u64);
        config
    }

    /// For one connection from a peer: `verdict` tells afterwards who it is, or why it was refused.
    pub(crate) fn server(&self, verdict: &Verdict) -> Arc<QuicServerConfig> {
        self.try_server(verdict).expect("it worked in try_new")
    }

    fn try_server(&self, verdict: &Verdict) -> Result<Arc<QuicServerConfig>, TlsError> {
        QuicServerConfig::try_from(self.server_config(verdict)?).map(Arc::new).map_err(failed)
    }

    /// For one connection from a peer over TCP.
    pub(crate) fn tcp_server(&self, verdict: &Verdict) -> Arc<rustls::ServerConfig> {
        Arc::new(self.server_config(verdict).expect("it worked in try_new"))
    }

    /// The same for both carriers.
    fn server_config(&self, verdict: &Verdict) -> Result<rustls::ServerConfig, TlsError> {
        let shared = &self.0;
        let verifier = Verifier::new(shared.trust.clone(), Role::Client, None, verdict.clone());
        let mut config = rustls::ServerConfig::builder_with_provider(shared.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shared.certified.clone())));
        config.alpn_protocols = vec![Alpn::Data.bytes(), Alpn::Control.bytes()];
        // No resumption: a resumed session would not be checked again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For one connection to a peer.
    pub(crate) fn client(
        &self,
        alpn: Alpn,
        expected: Option<&SpiffeId>,
        verdict: &Verdict,
        limits: &Limits,
    ) -> quinn::ClientConfig {
        let crypto = self.try_client(alpn, expected, verdict).expect("it worked in try_new");
        let mut config = quinn::ClientConfig::new(crypto);
        config.transport_config(limits.dialing(alpn)).token_store(Arc::new(NoneTokenStore));
        config
    }

    fn try_client(
        &self,
        alpn: Alpn,
        expected: Option<&SpiffeId>,
        verdict: &Verdict,
    ) -> Result<Arc<QuicClientConfig>, TlsError> {
        QuicClientConfig::try_from(self.client_config(alpn, expected, verdict)?).map(Arc::new).map_err(failed)
    }

    /// For one connection to a peer over TCP.
    pub(crate) fn tcp_client(
        &self,
        alpn: Alpn,
        expected: Option<&SpiffeId>,
        verdict: &Verdict,
    ) -> Arc<rustls::ClientConfig> {
        Arc::new(self.client_config(alpn, expected, verdict).expect("it worked in try_new"))
    }

    /// The same for both carriers.
    fn client_config(
        &self,
        alpn: Alpn,
        expected: Option<&SpiffeId>,
        verdict: &Verdict,
    ) -> Result<rustls::ClientConfig, TlsError> {
        let shared = &self.0;
        let verifier = Verifier::new(shared.trust.clone(), Role::Server, expected.cloned(), verdict.clone());
        let mut config = rustls::ClientConfig::builder_with_provider(shared.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shared.certified.clone())));
        config.alpn_protocols = vec![alpn.bytes()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

fn failed(error: impl fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// aws-lc-rs, said explicitly; AES-128-GCM first, since it costs less and both sides are ours.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("trust", &self.0.trust.domain()).finish_non_exhaustive()
    }
}
