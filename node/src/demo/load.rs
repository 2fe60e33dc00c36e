//! A steady load from outside: so many requests a second, each sent at its time whatever became of those before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// After this time a request counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of one request.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// When it was due.
    pub(super) due: Instant,
    /// From then to the end of its answer.
    pub(super) took: Duration,
    /// Which host answered for each service of the chain, outermost first; or why it failed.
    pub(super) result: Result<Vec<(String, String)>, String>,
}

/// A running load. Dropped, it stops.
pub(super) struct Load {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts `rate` requests a second for `service` at `entry`.
    #[must_use]
    pub(super) fn start(entry: SocketAddr, service: &str, rate: u32) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let authority = format!("{service}.mesh");
        let task = tokio::spawn(run(entry, authority, rate, Arc::clone(&samples)));
        Self { samples, task }
    }

    /// All requests that have ended so far, in the order of their end.
    #[must_use]
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(entry: SocketAddr, authority: String, rate: u32, samples: Arc<Mutex<Vec<Sample>>>) {
    let authority: Arc<str> = authority.into();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    loop {
        let due = ticks.tick().await.into_std();
        let (authority, samples) = (Arc::clone(&authority), Arc::clone(&samples));
        tokio::spawn(async move {
            let result = match tokio::time::timeout(PATIENCE, request(entry, &authority)).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            let sample = Sample { due, took: due.elapsed(), result };
            samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        });
    }
}

async fn request(entry: SocketAddr, authority: &str) -> Result<Vec<(String, String)>, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(entry).await.map_err(|e| words(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| words(&e))?;
    tokio::spawn(connection);
    let request = Request::get("/").header("host", authority).body(Empty::<Bytes>::new()).map_err(|e| words(&e))?;
    let response = sender.send_request(request).await.map_err(|e| words(&e))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| words(&e))?.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|e| words(&e))?;
    Ok(chain(&answer))
}

/// `{service, host, asked: {service, host, …}}` as a list.
fn chain(answer: &serde_json::Value) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    let mut next = Some(answer);
    while let Some(answer) = next {
        let text = |key: &str| answer[key].as_str().unwrap_or("?").to_owned();
        hosts.push((text("service"), text("host")));
        next = answer.get("asked");
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_which_host_served_each_service() {
        let answer = serde_json::json!({
            "service": "web", "host": "a", "asked": { "service": "orders", "host": "c" }
        });
        let pair = |service: &str, host: &str| (service.to_owned(), host.to_owned());
        assert_eq!(chain(&answer), [pair("web", "a"), pair("orders", "c")]);
    }
}
