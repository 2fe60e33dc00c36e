//! A small service that knows nothing of the mesh: it answers, or asks the next one first.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

/// The largest answer read from the next service, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// How long the next service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a service is told: its own name and place, and where it finds the next one.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name, as it says it in answers.
    pub name: String,
    /// The host it runs on, as it says it in answers.
    pub host: String,
    /// The next service, and the address where this host's node offers it.
    pub next: Option<(String, SocketAddr)>,
}

impl Service {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn run(self, listen: SocketAddr) -> std::io::Result<()> {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let service = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| service.answer(request));
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut said = json!({ "service": self.name, "host": self.host });
        let mut status = StatusCode::OK;
        if let Some((name, address)) = &self.next {
            match ask(name, *address, &request).await {
                Ok(answer) => said["asked"] = answer,
                Err(error) => {
                    status = StatusCode::BAD_GATEWAY;
                    said["error"] = error.into();
                }
            }
        }
        let mut response = Response::new(Full::new(Bytes::from(said.to_string())));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// Calls `http://<name>.mesh/`, passing the trace on as any well-behaved service does.
async fn ask(name: &str, address: SocketAddr, caused_by: &Request<Incoming>) -> Result<serde_json::Value, String> {
    let words = |error: &dyn std::fmt::Display| format!("{name}: {error}");
    let exchange = async {
        let stream = TcpStream::connect(address).await.map_err(|e| words(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| words(&e))?;
        tokio::spawn(connection);
        let mut request = Request::get("/").header("host", format!("{name}.mesh"));
        let trace = HeaderName::from_static("traceparent");
        if let Some(value) = caused_by.headers().get(&trace) {
            request = request.header(trace, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| words(&e))?;
        let response = sender.send_request(request).await.map_err(|e| words(&e))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| words(&e))?;
        if !status.is_success() {
            return Err(format!("{name} answered {status}"));
        }
        serde_json::from_slice(&body.to_bytes()).map_err(|e| words(&e))
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{name}: no answer within {} s", PATIENCE.as_secs())),
    }
}
