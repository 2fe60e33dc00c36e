//! Where requests for a service go in the end: a program on or near this host, or, for an egress, a host outside the mesh.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::TokioResolver;
use starling_transport::edge::EdgeClient;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::local_http::LocalError;
use crate::dial;
use crate::wire::Wire;

/// An application. What is kept for it is found by [`Application::id`].
#[derive(Debug)]
pub(crate) struct Application {
    id: u64,
    place: Place,
    tls: Option<EdgeClient>,
    /// What it is called by its callers, where that is not what they asked for.
    authority: Option<Bytes>,
}

#[derive(Debug)]
enum Place {
    Address(SocketAddr),
    Host { name: String, port: u16 },
}

/// How long a local application may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for a host outside, with its TLS: it may be an ocean away.
const OUTSIDE_TIMEOUT: Duration = Duration::from_secs(5);

impl Application {
    /// A program that listens there.
    pub(crate) fn local(address: SocketAddr) -> Self {
        Self::new(Place::Address(address), None, None)
    }

    /// A host outside the mesh, looked up anew as its name's owner says; under TLS if `tls`. Requests name `authority`.
    pub(crate) fn outside(name: &str, port: u16, tls: Option<EdgeClient>, authority: &str) -> Self {
        let place = match name.parse() {
            Ok(ip) => Place::Address(SocketAddr::new(ip, port)),
            Err(_) => Place::Host { name: name.to_owned(), port },
        };
        Self::new(place, tls, Some(Bytes::copy_from_slice(authority.as_bytes())))
    }

    fn new(place: Place, tls: Option<EdgeClient>, authority: Option<Bytes>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), place, tls, authority }
    }

    /// Tells it from every other of this process.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// What requests to it name in place of what their callers asked for.
    pub(crate) const fn authority(&self) -> Option<&Bytes> {
        self.authority.as_ref()
    }

    /// The scheme of requests to it.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Does it run on or near this host?
    pub(crate) const fn is_local(&self) -> bool {
        self.authority.is_none()
    }

    /// Its address; `None` for a name.
    pub(crate) const fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Address(address) => Some(address),
            Place::Host { .. } => None,
        }
    }

    /// Connects to it.
    ///
    /// # Errors
    /// If it accepts no connection in time.
    pub(crate) async fn connect(&self, names: &Names) -> Result<Wire, LocalError> {
        let failed = |source| LocalError::Connect { application: self.to_string(), source };
        if let (Place::Address(address), None) = (&self.place, &self.tls) {
            let patience = if self.is_local() { CONNECT_TIMEOUT } else { OUTSIDE_TIMEOUT };
            return Ok(dial(&[*address], patience).await.map_err(failed)?.into());
        }
        let connecting = async {
            let addresses = match &self.place {
                Place::Address(address) => vec![*address],
                Place::Host { name, port } => names.look_up(name, *port).await?,
            };
            let stream = dial(&addresses, OUTSIDE_TIMEOUT).await?;
            match &self.tls {
                Some(tls) => tls.connect(stream).await.map(Wire::from),
                None => Ok(stream.into()),
            }
        };
        let connected = tokio::time::timeout(OUTSIDE_TIMEOUT, connecting).await;
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)
    }
}

/// Tries one address after the other.
async fn dial(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match tokio::time::timeout(patience, dial::own(*address)).await {
            Ok(Ok(stream)) => {
                // Small answers must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Address(address) => write!(f, "{address}"),
            Place::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// Looks up names outside the mesh, for one shard. They are kept for as long as their owners allow.
#[derive(Default)]
pub(crate) struct Names(OnceCell<Option<Arc<TokioResolver>>>);

impl Names {
    async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let resolver = self.0.get_or_init(async || {
            let built = TokioResolver::builder_tokio().and_then(hickory_resolver::ResolverBuilder::build);
            built.inspect_err(|error| tracing::warn!(%error, "no DNS resolver on this host")).ok().map(Arc::new)
        });
        let resolver = resolver.await.clone().ok_or(io::ErrorKind::Unsupported)?;
        let found = resolver.lookup_ip(name).await.map_err(io::Error::other)?;
        Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}
