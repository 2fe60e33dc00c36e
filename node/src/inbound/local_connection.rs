//! A connection to a local application over HTTP/1.1 that has no task of its own.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::local_pool::{LocalError, connect_tcp};
use crate::fields;

/// The connection goes on only while somebody who uses it polls it, on the task of the request: a request then costs no
/// switch between tasks. An idle one costs nothing at all; whether its application closed it is seen when it is asked.
pub(crate) struct LocalConnection<B: Body + 'static> {
    sender: SendRequest<B>,
    /// `None` once the connection has ended. How it ended is told to whoever waits for an answer on it.
    io: Option<Box<Connection<TokioIo<TcpStream>, B>>>,
}

impl<B> LocalConnection<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A connection to the application at `address`.
    ///
    /// # Errors
    /// If it accepts none; nothing was sent then.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, LocalError> {
        let stream = connect_tcp(address).await?;
        let (sender, io) = http1::Builder::new()
            .max_buf_size(fields::MAX_FIELDS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| LocalError::Exchange { address, source })?;
        Ok(Self { sender, io: Some(Box::new(io)) })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// As the library says: with the request, if nothing of it was sent.
    pub(crate) async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        let answer = self.sender.try_send_request(request);
        run(&mut self.io, answer).await
    }

    /// Awaits `future`, such as one that reads an answer of this connection, while the connection goes on.
    pub(crate) async fn run<F: Future>(&mut self, future: F) -> F::Output {
        run(&mut self.io, future).await
    }

    /// The next piece of an answer's body, or its end, if it is here already. Nobody is woken if it is not.
    pub(crate) fn at_hand(&mut self, body: &mut Incoming) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if body.is_end_stream() {
            return Poll::Ready(None);
        }
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut *body).poll_frame(&mut cx) {
            // The library reads a body only once it is asked for.
            Poll::Pending => {
                poll_io(&mut self.io, &mut cx);
                Pin::new(body).poll_frame(&mut cx)
            }
            ready @ Poll::Ready(_) => ready,
        }
    }

    /// Waits until the next request can be sent: the answer was read, and the request is sent whole. False if the
    /// connection ended instead.
    pub(crate) async fn ready(&mut self) -> bool {
        run(&mut self.io, self.sender.ready()).await.is_ok()
    }

    /// Can a request be sent now? Looks whether the application closed the connection.
    pub(crate) fn is_ready(&mut self) -> bool {
        poll_io(&mut self.io, &mut Context::from_waker(Waker::noop()));
        self.io.is_some() && self.sender.is_ready()
    }
}

/// What the future waits for most often comes from the connection: it is asked again after the connection went on.
async fn run<B, F>(io: &mut Option<Box<Connection<TokioIo<TcpStream>, B>>>, future: F) -> F::Output
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F: Future,
{
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Pending => {
            poll_io(io, cx);
            future.as_mut().poll(cx)
        }
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

fn poll_io<B>(io: &mut Option<Box<Connection<TokioIo<TcpStream>, B>>>, cx: &mut Context<'_>)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if io.as_mut().is_some_and(|io| Pin::new(io).poll(cx).is_ready()) {
        *io = None;
    }
}
