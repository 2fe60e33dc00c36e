//! Applications that call: over hyper, or by hand where HTTP's own words matter.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hosts::soon;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status, and what the mesh says went wrong.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status.as_u16(), self.field("starling-error").unwrap_or(""))
    }

    /// The JSON that the mesh explains an error with.
    pub(crate) fn explanation(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Sends a request on a connection of its own.
pub(crate) async fn send<B>(to: SocketAddr, request: Request<B>) -> hyper::Result<Response<Incoming>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::Builder::new().max_buf_size(512 * 1024).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

/// Sends a request and reads its answer whole.
pub(crate) async fn try_call<B>(to: SocketAddr, request: Request<B>) -> hyper::Result<Answer>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    soon("an answer", async {
        let (head, body) = send(to, request).await?.into_parts();
        let body = body.collect().await?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    })
    .await
}

pub(crate) async fn call<B>(to: SocketAddr, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    try_call(to, request).await.unwrap()
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "orders.mesh").body(Full::default()).unwrap()
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", "orders.mesh").body(Full::new(body.into())).unwrap()
}

pub(crate) fn with<B>(mut request: Request<B>, fields: &[(&'static str, &str)]) -> Request<B> {
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// Sends these bytes, and gives all that comes back until the end, however it ends.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let end = soon("the end", stream.read_to_end(&mut answer)).await;
    (answer, end.map(drop))
}
