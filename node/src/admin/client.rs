use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use starling_proto::ServiceName;
use tokio::net::UnixStream;

use super::{
    CheckReport, Complaint, EndpointReport, KeyringReport, MemberReport, MembersReport, RouteStatReport, ServiceReport,
    StatusReport,
};

/// 500 members with their services are a tenth of it.
const ANSWER_MAX: usize = 8 << 20;

/// Why the agent did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no agent answers at {}: {reason}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file's permissions say no.
    #[error("{} may not be opened by this user", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The agent took too long.
    #[error("the agent did not answer within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// There is no such thing.
    #[error("{}", .0.error)]
    NotFound(Complaint),
    /// The agent said no.
    #[error("the agent refused ({status}): {}", complaint.error)]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its words.
        complaint: Complaint,
    },
    /// What came back is no answer of an agent of this version.
    #[error("the answer at {} is not that of an agent: {reason}", path.display())]
    Malformed {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks an agent over its unix socket. Each question takes a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    timeout: Duration,
}

impl Client {
    /// For the agent whose `admin.socket` is `path`; a question may take `timeout`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, timeout: Duration) -> Self {
        Self { path: path.into(), timeout }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`Source::status`](super::Source::status).
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.ask("/v1/status").await
    }

    /// See [`Source::members`](super::Source::members).
    pub async fn members(&self) -> Result<Vec<MemberReport>, ClientError> {
        self.ask("/v1/members").await
    }

    /// See [`Source::members_after`](super::Source::members_after).
    pub async fn members_after(&self, after: Option<u64>) -> Result<MembersReport, ClientError> {
        match after {
            Some(after) => self.ask(&format!("/v1/members/watch?after={after}")).await,
            None => self.ask("/v1/members/watch").await,
        }
    }

    /// See [`Source::services`](super::Source::services).
    pub async fn services(&self) -> Result<Vec<ServiceReport>, ClientError> {
        self.ask("/v1/services").await
    }

    /// See [`Source::endpoints`](super::Source::endpoints).
    pub async fn endpoints(&self, service: &ServiceName) -> Result<Vec<EndpointReport>, ClientError> {
        self.ask(&format!("/v1/endpoints/{service}")).await
    }

    /// See [`Source::routes`](super::Source::routes).
    pub async fn routes(&self) -> Result<Vec<RouteStatReport>, ClientError> {
        self.ask("/v1/stat").await
    }

    /// See [`Source::check`](super::Source::check).
    pub async fn check(&self) -> Result<Vec<CheckReport>, ClientError> {
        self.ask("/v1/check").await
    }

    /// See [`Source::force_leave`](super::Source::force_leave). A name that no member can have is not found.
    pub async fn force_leave(&self, member: &str, prune: bool) -> Result<MemberReport, ClientError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if member.is_empty() || !member.chars().all(plain) {
            let error = format!("no member is called '{}'", member.escape_default());
            return Err(ClientError::NotFound(Complaint { error, hint: String::new() }));
        }
        self.request(Method::POST, &format!("/v1/force-leave/{member}?prune={prune}"), Bytes::new()).await
    }

    /// See [`Source::keyring`](super::Source::keyring).
    pub async fn keyring(&self) -> Result<KeyringReport, ClientError> {
        self.ask("/v1/keyring").await
    }

    /// See [`Source::change_keyring`](super::Source::change_keyring).
    pub async fn change_keyring(&self, state: Bytes) -> Result<KeyringReport, ClientError> {
        self.request(Method::POST, "/v1/keyring", state).await
    }

    async fn ask<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.request(Method::GET, target, Bytes::new()).await
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, target: &str, body: Bytes) -> Result<T, ClientError> {
        let (status, body) = tokio::time::timeout(self.timeout, self.exchange(method, target, body))
            .await
            .map_err(|_| ClientError::TimedOut(self.timeout))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.malformed(&error));
        }
        let complaint: Complaint = serde_json::from_slice(&body).map_err(|error| self.malformed(&error))?;
        match status {
            StatusCode::NOT_FOUND => Err(ClientError::NotFound(complaint)),
            status => Err(ClientError::Refused { status, complaint }),
        }
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => ClientError::Denied { path: self.path.clone() },
            ErrorKind::NotFound => self.unreachable(&"there is no such socket"),
            ErrorKind::ConnectionRefused if !self.is_socket() => self.unreachable(&"it is no socket"),
            ErrorKind::ConnectionRefused => self.unreachable(&"the socket is a leftover: nobody listens"),
            _ => self.unreachable(&error),
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| self.malformed(&error))?;
        let answer = async move {
            let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok((status, body.map_err(|error| self.malformed(&error))?.to_bytes()))
        };
        // The connection drives the exchange and ends when `sender` is gone; what goes wrong shows in the answer.
        let (answer, ()) = tokio::join!(answer, async {
            let _ = connection.await;
        });
        answer
    }

    fn is_socket(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|file| file.file_type().is_socket())
    }

    fn unreachable(&self, reason: &impl ToString) -> ClientError {
        ClientError::Unreachable { path: self.path.clone(), reason: reason.to_string() }
    }

    fn malformed(&self, reason: &impl ToString) -> ClientError {
        ClientError::Malformed { path: self.path.clone(), reason: reason.to_string() }
    }
}
