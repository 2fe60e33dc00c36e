use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Connections;
use super::report::Outcome;

/// An HTTP/1.1 client of one URL.
pub(super) struct Client {
    url: Uri,
    connections: Connections,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    pub(super) const fn new(url: Uri, connections: Connections) -> Self {
        Self { url, connections, idle: Mutex::new(Vec::new()) }
    }

    /// One request, to the last byte of its answer's body.
    pub(super) async fn request(&self) -> Outcome {
        match self.try_request().await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(chain(&*error)),
        }
    }

    async fn try_request(&self) -> Result<Outcome, Error> {
        let mut sender = match self.take_idle().await {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let keep = self.connections == Connections::KeepAlive;
        let authority = self.url.authority().ok_or("the URL names no host")?;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::get(path).header(header::HOST, authority.as_str());
        if !keep {
            request = request.header(header::CONNECTION, "close");
        }
        let response = sender.send_request(request.body(Empty::new())?).await?;
        let (status, marked) = (response.status(), response.headers().get("starling-error").cloned());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        if keep {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
        Ok(match marked {
            _ if status.is_success() => Outcome::Answered(status.as_u16()),
            Some(code) => Outcome::Failed(format!(
                "{} starling-error {}",
                status.as_u16(),
                String::from_utf8_lossy(code.as_bytes())
            )),
            None => Outcome::Failed(status.to_string()),
        })
    }

    /// One that the server has not closed.
    async fn take_idle(&self) -> Option<SendRequest<Empty<Bytes>>> {
        loop {
            let mut sender = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Error> {
        let host = self.url.host().ok_or("the URL names no host")?;
        let port = self.url.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, and the sender tells what went wrong.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
