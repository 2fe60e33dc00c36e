//! Connections to local applications over HTTP/1.1, kept for the next request. One pool a shard.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use starling_proto::ErrorCode;
use tokio::net::TcpStream;

use super::local_connection::LocalConnection;
use crate::failure::Failure;

/// Idle connections kept for each application.
const MAX_IDLE: usize = 64;
/// An idle connection is not used after this time: below the keep-alive timeout of common servers (Node.js: 5 s), so
/// that a request rarely meets a connection that its server is just closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a local application may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a local application gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// It accepted no connection: the request was not processed.
    #[error("{address} accepted no connection: {source}")]
    Connect {
        /// The application's address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The request may have been processed, but no complete answer came.
    #[error("{address}: {source}")]
    Exchange {
        /// The application's address.
        address: SocketAddr,
        /// The HTTP library's reason.
        source: hyper::Error,
    },
}

impl LocalError {
    /// The word that the caller gets.
    #[must_use]
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Connect { .. } => ErrorCode::UpstreamConnect,
            Self::Exchange { source, .. } if source.is_parse() => ErrorCode::UpstreamProtocol,
            Self::Exchange { .. } => ErrorCode::UpstreamReset,
        }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

struct Idle<B: Body + 'static> {
    connection: LocalConnection<B>,
    since: Instant,
}

/// The connections of one shard.
pub(crate) struct LocalPool<B: Body + 'static> {
    idle: Mutex<BTreeMap<SocketAddr, Vec<Idle<B>>>>,
}

impl<B: Body + 'static> Default for LocalPool<B> {
    fn default() -> Self {
        Self { idle: Mutex::new(BTreeMap::new()) }
    }
}

/// An answer, and the connection it comes on: its body is to be read while that goes on ([`LocalConnection::run`]).
pub(crate) struct Answered<B: Body + 'static> {
    /// The application's answer.
    pub(crate) response: Response<Incoming>,
    /// For [`LocalPool::put_back`], once the body has been read whole.
    pub(crate) connection: LocalConnection<B>,
}

impl<B> LocalPool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request to the application at `address`, on a kept connection where there is one. A connection that turns
    /// out to be closed before the request was written is replaced, so that this is not seen by the caller.
    ///
    /// # Errors
    /// If no connection could be made, or the exchange on it failed.
    pub(crate) async fn send(&self, address: SocketAddr, mut request: Request<B>) -> Result<Answered<B>, LocalError> {
        loop {
            let (mut connection, kept) = match self.take(address) {
                Some(connection) => (connection, true),
                // Boxed: rare, and large to carry along in every request.
                None => (Box::pin(LocalConnection::open(address)).await?, false),
            };
            match connection.send(request).await {
                Ok(response) => return Ok(Answered { response, connection }),
                Err(mut error) => match error.take_message() {
                    // Nothing was written: the application had closed the kept connection.
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(LocalError::Exchange { address, source: error.into_error() }),
                },
            }
        }
    }

    /// The most recently used connection that is open, ready and not idle for too long. Those that are not are closed.
    fn take(&self, address: SocketAddr) -> Option<LocalConnection<B>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&address)?;
        while let Some(mut idle) = connections.pop() {
            if idle.since.elapsed() < IDLE_TIMEOUT && idle.connection.is_ready() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read whole. Waits for that part of the request that is still to be sent:
    /// an application may answer before it has read everything.
    pub(crate) async fn put_back(&self, address: SocketAddr, mut connection: LocalConnection<B>) {
        if !connection.is_ready() && !connection.ready().await {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(address).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long. Called now and then by the shard.
    pub(crate) fn expire(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        for connections in idle.values_mut() {
            connections.retain_mut(|idle| idle.since.elapsed() < IDLE_TIMEOUT && idle.connection.is_ready());
        }
        idle.retain(|_, connections| !connections.is_empty());
    }
}

/// A TCP connection to a local application.
///
/// # Errors
/// If it does not accept one within a second.
pub(crate) async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, LocalError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream = match connecting.await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let stream = stream.map_err(|source| LocalError::Connect { address, source })?;
    // Small answers must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;

    use super::*;
    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn get() -> Request<Empty<Bytes>> {
        Request::get("/").header("host", "x").body(Empty::new()).unwrap()
    }

    async fn read_head(stream: &mut TcpStream) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_kept_connection_serves_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
            // It hangs up last: otherwise the connection may be gone before it is ready again.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        });
        let pool = LocalPool::default();
        for _ in 0..2 {
            let Answered { response, mut connection } = pool.send(address, get()).await.unwrap();
            assert_eq!(connection.run(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
            pool.put_back(address, connection).await;
        }
        drop(pool);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_goes_on_after_an_early_answer_and_its_connection_serves_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answered, is_answered) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                read_head(&mut stream).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let mut body = [0; 6];
                stream.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"upload");
            }
        });
        let pool = LocalPool::default();
        let post = |body| Request::post("/").header("host", "x").header("content-length", "6").body(body).unwrap();
        let late = async {
            is_answered.await.unwrap();
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"load")))
        };
        let early = stream::once(ready(Ok(Frame::data(Bytes::from_static(b"up")))));
        let body = BodyExt::boxed(StreamBody::new(early.chain(stream::once(late))));
        let Answered { response, mut connection } = pool.send(address, post(body)).await.unwrap();
        assert_eq!(connection.run(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
        answered.send(()).unwrap();
        pool.put_back(address, connection).await;
        let body = Full::new(Bytes::from_static(b"upload")).boxed();
        let Answered { response, mut connection } = pool.send(address, post(body)).await.unwrap();
        assert_eq!(connection.run(response.into_body().collect()).await.unwrap().to_bytes(), "ok");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_application_that_is_not_there_did_not_process_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = LocalPool::default().send(address, get()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::UpstreamConnect);
    }

    #[tokio::test]
    async fn an_application_that_hangs_up_may_have_processed_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
        });
        let error = LocalPool::default().send(address, get()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::UpstreamReset);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_named_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"SSH-2.0-nothing\r\n\r\n").await.unwrap();
            // Held open until the other side has read it.
            let _ = stream.read_u8().await;
        });
        let error = LocalPool::default().send(address, get()).await.err().unwrap();
        assert_eq!(error.code(), ErrorCode::UpstreamProtocol);
    }
}
