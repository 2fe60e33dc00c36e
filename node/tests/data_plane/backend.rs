//! Services: small real servers on a port of their own, which remember what they saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

pub(crate) type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// A request as a service saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A running service.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Backend {
    /// A service that reads each request whole and answers as `answer` says.
    pub(crate) async fn http(answer: impl Fn(&Seen) -> Response<AnyBody> + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&backend.seen);
        Self::accept(listener, move |stream| {
            let (seen, answer) = (Arc::clone(&seen), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    // A caller that goes away is not worth an answer.
                    let body = body.collect().await.map_err(|error| error.to_string())?;
                    let request = Seen { head, body: body.to_bytes() };
                    let response = answer(&request);
                    seen.lock().unwrap().push(request);
                    Ok::<_, String>(response)
                }
            });
            async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .max_buf_size(256 * 1024)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        });
        backend
    }

    /// A service that answers 200 and this.
    pub(crate) async fn says(text: &'static str) -> Self {
        Self::http(move |_| Response::new(full(text))).await
    }

    /// A service that does what `serve` does with each connection.
    pub(crate) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        Self::accept(listener, serve);
        backend
    }

    fn accept<F>(listener: TcpListener, serve: impl Fn(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> AnyBody {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// Reads up to the empty line after a head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
