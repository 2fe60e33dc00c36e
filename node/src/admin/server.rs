use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Source;
use super::routes::{Reach, router};
use super::socket::SocketFile;
use super::stand_in::StandIn;
use crate::config;

/// Connections served at once by each listener; more wait in its backlog.
const CONNECTIONS_MAX: usize = 64;
/// For a request's head, idle time between two requests included: nobody holds a place for long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection in all: one that asks and never reads holds no place for longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests to this interface are short.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What answers under way are granted at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed `accept` (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the admin interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another agent lives there.
    #[error("another agent answers at {}", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// What is there was not made by an agent, so it is left alone.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket can't be made.
    #[error("{}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The TCP address can't be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl AdminError {
    /// The key of the configuration that it is about.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        if matches!(self, Self::Listen { .. }) { "admin.listen" } else { "admin.socket" }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "stop that one, or give this node a socket of its own",
            Self::NotASocket { .. } => "choose another path",
            Self::Socket { .. } => "choose a path whose directory belongs to the user that runs the agent",
            Self::Listen { .. } => "choose another port, or write \"off\"",
        }
    }
}

/// The admin interface, bound and not yet served.
#[derive(Debug)]
pub struct Server {
    socket: SocketFile,
    tcp: Option<std::net::TcpListener>,
}

impl Server {
    /// Takes the socket and the TCP address. A TCP address that nobody wrote down is done without if it is taken.
    ///
    /// # Errors
    /// If either can't be had.
    pub fn bind(config: &config::Admin) -> Result<Self, AdminError> {
        let socket = SocketFile::bind(&config.socket)?;
        let listen = |listen: config::Listen| -> Result<Option<std::net::TcpListener>, AdminError> {
            let address = listen.address;
            let bound = std::net::TcpListener::bind(address).and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp));
            match bound {
                Ok(tcp) => Ok(Some(tcp)),
                Err(source) if listen.given => Err(AdminError::Listen { address, source }),
                Err(source) => {
                    tracing::warn!(%address, %source, "admin.listen is taken: no metrics over TCP; set it or write \"off\"");
                    Ok(None)
                }
            }
        };
        Ok(Self { socket, tcp: config.listen.map(listen).transpose()?.flatten() })
    }

    /// Where TCP is served, if it is.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }

    /// What can answer in this server's place while the thread that serves is blocked.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn stand_in(&self) -> io::Result<StandIn> {
        let tcp = self.tcp.as_ref().map(std::net::TcpListener::try_clone).transpose()?;
        Ok(StandIn::new(self.socket.listener.try_clone()?, tcp))
    }

    /// Answers until `stop`; then finishes what is under way, for a second at most, and removes the socket.
    ///
    /// # Errors
    /// If there is no IO driver to register with.
    pub async fn serve(self, source: Arc<dyn Source>, stop: CancellationToken) -> io::Result<()> {
        let Self { socket, tcp } = self;
        let unix = UnixListener::from_std(socket.listener.try_clone()?)?;
        let tasks = TaskTracker::new();
        let (turns, checks) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let unix_routes = router(Arc::clone(&source), Reach::File, Arc::clone(&turns), Arc::clone(&checks));
        let over_unix = accept(&tasks, &stop, unix_routes, || async { unix.accept().await.map(|(stream, _)| stream) });
        match tcp {
            None => over_unix.await,
            Some(tcp) => {
                let tcp = TcpListener::from_std(tcp)?;
                let loopback = tcp.local_addr()?.ip().is_loopback();
                let reach = if loopback { Reach::Loopback } else { Reach::Open };
                let routes = router(source, reach, turns, checks);
                let over_tcp = accept(&tasks, &stop, routes, || async { tcp.accept().await.map(|(stream, _)| stream) });
                tokio::join!(over_unix, over_tcp);
            }
        }
        tasks.close();
        let _ = tokio::time::timeout(STOP_TIMEOUT, tasks.wait()).await;
        Ok(())
    }
}

async fn accept<S, F>(tasks: &TaskTracker, stop: &CancellationToken, routes: Router, next: impl Fn() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, next().await)
        };
        let (place, stream) = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted => accepted,
        };
        match stream {
            Ok(stream) => {
                let connection = serve_connection(stream, routes.clone(), stop.clone());
                tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin interface cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<S>(stream: S, routes: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(routes);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return log(ended),
        () = stop.cancelled() => {}
        () = tokio::time::sleep(CONNECTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Cut, if its client does not read.
    if let Ok(ended) = tokio::time::timeout(STOP_TIMEOUT, connection).await {
        log(ended);
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection broke off");
    }
}
