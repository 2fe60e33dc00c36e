//! Peers that do not use this room: QUIC, and TLS over TCP, with whatever certificate a test wants.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, ServerConfig};
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType, string::Ia5String};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A certificate as a test wants it.
pub(crate) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The extension that lists services, by its number.
pub(crate) const SERVICES: &[u64] = &[2, 25, 2_179_726_146_485_910_188];

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// Good in every respect, before a test spoils it.
pub(crate) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(name)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_mins(1)).into();
    params.not_after = (now + Duration::from_mins(1)).into();
    params.custom_extensions = vec![CustomExtension::from_oid_content(SERVICES, vec![0x30, 0])];
    params
}

/// Signs with the authority in `dir`.
pub(crate) fn signed(dir: &Path, params: &CertificateParams) -> Certificate {
    let (certificate, key) = sign(dir, params);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Certificate { chain: vec![certificate.der().clone()], key }
}

/// The same as files: certificate and key.
pub(crate) fn pem(dir: &Path, params: &CertificateParams) -> (String, String) {
    let (certificate, key) = sign(dir, params);
    (certificate.pem(), key.serialize_pem())
}

fn sign(dir: &Path, params: &CertificateParams) -> (rcgen::Certificate, KeyPair) {
    let root = CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap();
    let root_key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("ca.key")).unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&root, root_key).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    (params.signed_by(&key, &issuer).unwrap(), key)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A client that believes anybody, with a certificate or none.
pub(crate) fn client(certificate: Option<Certificate>, alpn: &[u8]) -> Endpoint {
    let mut endpoint = endpoint("0.0.0.0:0", None);
    let crypto = QuicClientConfig::try_from(client_config(certificate, alpn)).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

fn client_config(certificate: Option<Certificate>, alpn: &[u8]) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match certificate {
        Some(Certificate { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// The same over TCP. Its handshake is over before the far side has seen its certificate.
pub(crate) async fn tcp_client(
    certificate: Option<Certificate>,
    alpn: &[u8],
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::new(client_config(certificate, alpn)));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, TcpStream::connect(address).await?).await.map(TlsStream::from)
}

/// Dials over TCP and waits until the far side has thrown us out; says whether it was by an alert of TLS.
pub(crate) async fn thrown_out_by_tcp(certificate: Option<Certificate>, alpn: &[u8], address: SocketAddr) -> bool {
    let is_alert = |error: &io::Error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        matches!(inner, Some(Error::AlertReceived(_)))
    };
    match tcp_client(certificate, alpn, address).await {
        Ok(mut stream) => match stream.read(&mut [0; 64]).await {
            Ok(len) => {
                assert_eq!(len, 0, "it is spoken to");
                false
            }
            Err(error) => is_alert(&error),
        },
        Err(error) => is_alert(&error),
    }
}

/// A server over TCP that asks nobody for a certificate, and takes one connection.
pub(crate) async fn tcp_server(certificate: Certificate) -> (SocketAddr, JoinHandle<()>) {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
    });
    (address, serving)
}

/// A server that asks nobody for a certificate.
pub(crate) fn server(certificate: Certificate) -> Endpoint {
    let crypto = QuicServerConfig::try_from(server_config(certificate)).unwrap();
    endpoint("127.0.0.1:0", Some(ServerConfig::with_crypto(Arc::new(crypto))))
}

fn server_config(Certificate { chain, key }: Certificate) -> rustls::ServerConfig {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"starling/1".to_vec()];
    config
}

fn endpoint(address: &str, config: Option<ServerConfig>) -> Endpoint {
    let socket = UdpSocket::bind(address).unwrap();
    Endpoint::new(quinn::EndpointConfig::default(), config, socket, Arc::new(quinn::TokioRuntime)).unwrap()
}

/// Dials and waits until the far side has thrown us out.
pub(crate) async fn thrown_out(endpoint: &Endpoint, address: SocketAddr) -> ConnectionError {
    match endpoint.connect(address, "localhost").unwrap().await {
        // On our side the handshake is over before the far side has seen our certificate.
        Ok(connection) => stay(connection).await,
        Err(error) => error,
    }
}

async fn stay(connection: Connection) -> ConnectionError {
    match connection.open_bi().await {
        Ok(_) => panic!("it may open a stream"),
        Err(error) => error,
    }
}

#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
