//! TLS with the world outside the mesh: what an ingress accepts and an egress dials. It has nothing to do with the identities
//! of nodes; certificates and roots come from files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// What is spoken over TLS where both sides know it (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeProtocol {
    /// Either version of HTTP, the newer first.
    Http,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// Anything else: none is named.
    Opaque,
}

impl EdgeProtocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Http => &[H2, b"http/1.1"],
            Self::Http1 => &[b"http/1.1"],
            Self::Http2 => &[H2],
            Self::Opaque => &[],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

const H2: &[u8] = b"h2";

/// A file that TLS needs and cannot use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct EdgeError {
    /// Which one.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
}

impl EdgeError {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

/// The server side of TLS, with one certificate or several: the client's server name chooses (RFC 6066, section 3).
#[derive(Clone)]
pub struct EdgeServer(Arc<ServerConfig>);

/// The client side of TLS to one host.
#[derive(Clone)]
pub struct EdgeClient {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

/// A connection over TLS.
#[derive(Debug)]
pub struct EdgeStream(TlsStream<TcpStream>);

impl EdgeServer {
    /// Reads certificates, each a chain with the leaf first, and their keys. Who names no server gets the first.
    ///
    /// # Errors
    /// If there is none, or a file cannot be used.
    pub fn load(pairs: &[(PathBuf, PathBuf)], protocol: EdgeProtocol) -> Result<Self, EdgeError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let named = pairs.iter().map(|(chain, key)| Named::load(chain, key, &provider)).collect::<Result<_, _>>()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| EdgeError::new(Path::new(""), error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(named)));
        config.alpn_protocols = protocol.alpn();
        Ok(Self(Arc::new(config)))
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// If the client breaks it off, or has nothing in common with us.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<EdgeStream> {
        let accepted = TlsAcceptor::from(Arc::clone(&self.0)).accept(stream).await?;
        Ok(EdgeStream(accepted.into()))
    }
}

impl EdgeClient {
    /// For connections to `host`, whose certificate must lead to one of the roots in `roots` (PEM), or to one of this
    /// system's.
    ///
    /// # Errors
    /// If the host is no name, or there are no roots.
    pub fn load(host: &str, roots: Option<&Path>, protocol: EdgeProtocol) -> Result<Self, EdgeError> {
        let path = roots.unwrap_or_else(|| Path::new("the system's roots"));
        let failed = |what: &dyn fmt::Display| EdgeError::new(path, what);
        let host = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let store = match roots {
            Some(path) => of_file(path)?,
            None => of_system(),
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider));
        let verifier = verifier.build().map_err(|error| failed(&error))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = protocol.alpn();
        Ok(Self { config: Arc::new(config), host })
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// If the server's certificate is not good, or it breaks the handshake off.
    pub async fn connect(&self, stream: TcpStream) -> io::Result<EdgeStream> {
        let connected = TlsConnector::from(Arc::clone(&self.config)).connect(self.host.clone(), stream).await?;
        Ok(EdgeStream(connected.into()))
    }
}

fn of_file(path: &Path) -> Result<RootCertStore, EdgeError> {
    let mut store = RootCertStore::empty();
    for root in certificates(path)? {
        store.add(root).map_err(|error| EdgeError::new(path, error))?;
    }
    Ok(store)
}

fn of_system() -> RootCertStore {
    let mut store = RootCertStore::empty();
    // One that cannot be read leads nowhere; others may serve.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EdgeError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| EdgeError::new(path, error))?;
    if read.is_empty() { Err(EdgeError::new(path, "there is no certificate in it")) } else { Ok(read) }
}

/// A certificate with the names that it is for.
#[derive(Debug)]
struct Named {
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

impl Named {
    fn load(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<Self, EdgeError> {
        let certificates = certificates(chain)?;
        let names = names(&certificates[0]).ok_or_else(|| EdgeError::new(chain, "its first certificate is none"))?;
        let der = PrivateKeyDer::from_pem_file(key).map_err(|error| EdgeError::new(key, error))?;
        let certified = CertifiedKey::from_der(certificates, der, provider);
        let certified = certified.map_err(|error| EdgeError::new(key, format!("it does not serve: {error}")))?;
        Ok(Self { names, certified: Arc::new(certified) })
    }

    fn is_for(&self, server: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(parent) => server.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(server),
        })
    }
}

fn names(leaf: &[u8]) -> Option<Vec<String>> {
    let (_, certificate) = parse_x509_certificate(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(dns.collect())
}

#[derive(Debug)]
struct ByName(Vec<Named>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|server| self.0.iter().find(|named| named.is_for(server)));
        named.or(self.0.first()).map(|named| Arc::clone(&named.certified))
    }
}

impl EdgeStream {
    /// Did both sides agree on HTTP/2?
    pub fn is_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(H2)
    }

    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        self.0.get_ref().0
    }
}

impl AsyncRead for EdgeStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl fmt::Debug for EdgeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeServer").finish_non_exhaustive()
    }
}

impl fmt::Debug for EdgeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeClient").field("host", &self.host).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A certificate that vouches for itself, as files.
    fn files(dir: &TempDir, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let file = name.replace('*', "any");
        let (chain, at) = (dir.path().join(format!("{file}.pem")), dir.path().join(format!("{file}.key")));
        fs::write(&chain, certificate.pem()).unwrap();
        fs::write(&at, key.serialize_pem()).unwrap();
        (chain, at)
    }

    async fn talk(server: &EdgeServer, client: &EdgeClient) -> io::Result<bool> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = listener.accept().await.unwrap().0;
        let serving = async {
            let mut stream = server.accept(accepted).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let calling = async {
            let mut stream = client.connect(dialed).await?;
            let mut word = [0; 5];
            stream.read_exact(&mut word).await?;
            assert_eq!(&word, b"hello");
            Ok::<_, io::Error>(stream.is_http2())
        };
        let (served, called) = tokio::join!(serving, calling);
        called.and_then(|http2| served.map(|()| http2))
    }

    #[tokio::test]
    async fn the_name_that_a_client_asks_for_chooses_the_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let (shop, api) = (files(&dir, "shop.example"), files(&dir, "*.api.example"));
        let server = EdgeServer::load(&[shop.clone(), api.clone()], EdgeProtocol::Http).unwrap();
        for (host, roots) in [("shop.example", &shop.0), ("v1.api.example", &api.0), ("V2.API.example", &api.0)] {
            let client = EdgeClient::load(host, Some(roots), EdgeProtocol::Http).unwrap();
            assert!(talk(&server, &client).await.unwrap(), "{host}");
        }
        // A name that no certificate is for gets the first, which the client then refuses.
        let client = EdgeClient::load("other.example", Some(&shop.0), EdgeProtocol::Http1).unwrap();
        assert!(talk(&server, &client).await.is_err());
        let client = EdgeClient::load("shop.example", Some(&api.0), EdgeProtocol::Http1).unwrap();
        assert!(talk(&server, &client).await.is_err(), "another root");
        let client = EdgeClient::load("shop.example", Some(&shop.0), EdgeProtocol::Http1).unwrap();
        assert!(!talk(&server, &client).await.unwrap());
    }

    #[test]
    fn a_file_that_does_not_serve_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (shop, api) = (files(&dir, "shop.example"), files(&dir, "api.example"));
        let error = EdgeServer::load(&[(shop.0.clone(), api.1)], EdgeProtocol::Http).unwrap_err();
        assert!(error.to_string().contains("api.example.key"), "{error}");
        let missing = dir.path().join("nothing.pem");
        let error = EdgeServer::load(&[(missing.clone(), shop.1)], EdgeProtocol::Http).unwrap_err();
        assert_eq!(error.path, missing);
        fs::write(&missing, "").unwrap();
        let error = EdgeClient::load("a", Some(&missing), EdgeProtocol::Opaque).unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }
}
