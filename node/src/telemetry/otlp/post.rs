use std::fmt;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::dial;

/// Where spans go: one connection for each batch, since there is one in five seconds.
#[derive(Debug)]
pub(super) struct Collector {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Why an address is no collector's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectorError {
    /// Not `http`.
    #[error("'{0}' is not plain HTTP: write http://host:4318")]
    Scheme(Uri),
    /// No host.
    #[error("'{0}' names no host: write http://host:4318")]
    Host(Uri),
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("can't connect: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
}

const DEFAULT_PORT: u16 = 4318;

impl Collector {
    pub(super) fn try_new(uri: &Uri) -> Result<Self, CollectorError> {
        if uri.scheme_str() != Some("http") {
            return Err(CollectorError::Scheme(uri.clone()));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| CollectorError::Host(uri.clone()))?;
        let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
        Ok(Self {
            authority: format!("{host}:{port}"),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }

    /// One batch. What the collector says besides its status is not read.
    pub(super) async fn post(&self, body: Bytes) -> Result<(), PostError> {
        let stream = dial::own_by_name(&self.host, self.port).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .expect("a path and an authority of a valid address");
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // With the last of its bytes the connection may end before the answer is looked at.
            end = connection => {
                end?;
                answer.await?
            }
        };
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_collector_is_plain_http() {
        for (uri, expected) in [
            ("http://localhost:4318", Some("http://localhost:4318/v1/traces")),
            ("http://collector", Some("http://collector:4318/v1/traces")),
            ("http://[::1]:9/base/", Some("http://[::1]:9/base/v1/traces")),
            ("https://localhost:4318", None),
            ("localhost:4318", None),
            ("/v1/traces", None),
        ] {
            let collector = Collector::try_new(&uri.parse().unwrap());
            assert_eq!(collector.ok().map(|collector| collector.to_string()).as_deref(), expected, "{uri}");
        }
    }
}
