//! Connections to local applications, kept for the next request. One pool a shard.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;

use super::connection::LocalConnection;
use super::{Asked, Exchange, LocalError, Upload};
use crate::hop_body::HopBodyError;
use crate::inbound::application::{Application, Names};

/// Idle connections kept for each application.
const MAX_IDLE: usize = 64;
/// An idle connection is not used after this time: below the keep-alive timeout of common servers (Node.js: 5 s), so
/// that a request rarely meets a connection that its server is just closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

struct Idle {
    connection: LocalConnection,
    since: Instant,
}

/// The connections of one shard.
#[derive(Default)]
pub(crate) struct LocalPool {
    idle: Mutex<BTreeMap<u64, Vec<Idle>>>,
}

impl LocalPool {
    /// Begins to send a request to an application, on a kept connection where there is one. A connection that
    /// turns out to be closed before anything was written is replaced, so that this is not seen by the caller.
    ///
    /// # Errors
    /// If no connection could be made, or the request breaks off at once.
    pub(crate) async fn begin<B>(
        &self,
        application: &Application,
        names: &Names,
        mut upload: Upload<B>,
        asked: Asked,
    ) -> Result<Exchange<B>, LocalError>
    where
        B: Body<Data = Bytes, Error = HopBodyError> + Unpin,
    {
        let failed = |source| LocalError::Exchange { application: application.to_string(), source };
        while let Some(connection) = self.take(application) {
            match Exchange::begin(connection, upload, asked) {
                Ok(exchange) => return Ok(exchange),
                // The application had closed it.
                Err((unsent, error)) if unsent.can_go_elsewhere(&error) => upload = unsent,
                Err((_, error)) => return Err(failed(error)),
            }
        }
        // Boxed: rare, and large to carry along in every request.
        let connection = Box::pin(LocalConnection::open(application, names)).await?;
        Exchange::begin(connection, upload, asked).map_err(|(_, error)| failed(error))
    }

    /// The most recently used connection that is open, ready and not idle for too long. Those that are not are closed.
    fn take(&self, application: &Application) -> Option<LocalConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&application.id())?;
        while let Some(Idle { connection, since }) = connections.pop() {
            if since.elapsed() < IDLE_TIMEOUT && connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps the connection of an exchange whose answer has been read whole, once the request is sent whole, too.
    pub(crate) async fn put_back<B>(&self, application: &Application, exchange: Exchange<B>)
    where
        B: Body<Data = Bytes, Error = HopBodyError> + Unpin,
    {
        let Some(connection) = exchange.end().await else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(application.id()).or_default();
        if connections.len() < MAX_IDLE {
            connections.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long. Called now and then by the shard.
    pub(crate) fn expire(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        for connections in idle.values_mut() {
            connections.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT && idle.connection.is_ready());
        }
        idle.retain(|_, connections| !connections.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt, StreamBody};
    use starling_proto::ErrorCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::failure::Failure;
    use crate::http1::Piece;
    use crate::inbound::local_http::{AnswerHead, ExchangeError};

    type SomeBody = http_body_util::combinators::BoxBody<Bytes, HopBodyError>;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    fn get() -> Upload<SomeBody> {
        Upload::new(Bytes::from_static(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), None)
    }

    fn post(length: Option<u64>, pieces: impl IntoIterator<Item = &'static str>) -> Upload<SomeBody> {
        let frames: Vec<_> =
            pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        Upload::new(
            Bytes::from_static(b"POST / HTTP/1.1\r\nhost: x\r\n\r\n"),
            Some((BodyExt::boxed(StreamBody::new(stream::iter(frames))), length)),
        )
    }

    async fn read_head(stream: &mut TcpStream) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
    }

    /// An application that serves one connection.
    async fn application<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> (Application, JoinHandle<()>)
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Application::local(listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream).await;
        });
        (address, serving)
    }

    async fn ask(
        pool: &LocalPool,
        address: &Application,
        upload: Upload<SomeBody>,
    ) -> Result<(AnswerHead, Exchange<SomeBody>), LocalError> {
        let mut exchange = pool.begin(address, &Names::default(), upload, Asked::default()).await?;
        let head = exchange
            .head()
            .await
            .map_err(|source| LocalError::Exchange { application: address.to_string(), source })?;
        Ok((head, exchange))
    }

    async fn body(exchange: &mut Exchange<SomeBody>) -> Result<Vec<u8>, ExchangeError> {
        let mut all = Vec::new();
        while let Piece::Data(data) = exchange.piece().await? {
            all.extend_from_slice(&data);
        }
        Ok(all)
    }

    async fn code(pool: &LocalPool, address: &Application, upload: Upload<SomeBody>) -> ErrorCode {
        Failure::from(ask(pool, address, upload).await.err().expect("it fails")).code
    }

    #[tokio::test]
    async fn a_kept_connection_serves_the_next_request() {
        let (address, serving) = application(move |mut stream| async move {
            for _ in 0..2 {
                read_head(&mut stream).await;
                stream.write_all(OK).await.unwrap();
            }
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        })
        .await;
        let pool = LocalPool::default();
        for _ in 0..2 {
            let (_, mut exchange) = ask(&pool, &address, get()).await.unwrap();
            assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
            pool.put_back(&address, exchange).await;
        }
        drop(pool);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_is_not_kept_when_its_answer_says_so_or_says_more_than_was_asked() {
        let answers = [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ];
        for answer in answers {
            let (address, serving) = application(move |mut stream| async move {
                read_head(&mut stream).await;
                stream.write_all(answer).await.unwrap();
                assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            })
            .await;
            let pool = LocalPool::default();
            let (_, mut exchange) = ask(&pool, &address, get()).await.unwrap();
            assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
            pool.put_back(&address, exchange).await;
            serving.await.unwrap();
            assert!(pool.take(&address).is_none());
        }
    }

    #[tokio::test]
    async fn an_upload_goes_on_after_an_early_answer_and_its_connection_serves_the_next_request() {
        let (answered, is_answered) = tokio::sync::oneshot::channel();
        let (address, serving) = application(move |mut stream| async move {
            for _ in 0..2 {
                read_head(&mut stream).await;
                stream.write_all(OK).await.unwrap();
                let mut body = [0; 6];
                stream.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"upload");
            }
        })
        .await;
        let pool = LocalPool::default();
        let late = async {
            is_answered.await.unwrap();
            Ok::<_, HopBodyError>(Frame::data(Bytes::from_static(b"load")))
        };
        let early = stream::once(ready(Ok(Frame::data(Bytes::from_static(b"up")))));
        let slow = BodyExt::boxed(StreamBody::new(early.chain(stream::once(late))));
        let slow = Upload::new(Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n"), Some((slow, Some(6))));
        let (_, mut exchange) = ask(&pool, &address, slow).await.unwrap();
        assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
        answered.send(()).unwrap();
        pool.put_back(&address, exchange).await;
        let (_, mut exchange) = ask(&pool, &address, post(Some(6), ["upload"])).await.unwrap();
        assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_of_unknown_length_is_chunked() {
        let (address, serving) = application(move |mut stream| async move {
            read_head(&mut stream).await;
            let expected = b"2\r\nup\r\n10\r\nsixteen bytes ;)\r\n0\r\n\r\n";
            let mut body = vec![0; expected.len()];
            stream.read_exact(&mut body).await.unwrap();
            assert_eq!(body, expected);
            stream.write_all(OK).await.unwrap();
        })
        .await;
        let upload = post(None, ["up", "", "sixteen bytes ;)"]);
        ask(&LocalPool::default(), &address, upload).await.unwrap();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_that_is_not_as_long_as_it_said_is_broken_off() {
        for (length, pieces) in [(9, ["up", "load"]), (3, ["up", "load"])] {
            let (address, serving) = application(move |mut stream| async move {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
                assert!(!all.ends_with(b"load") || length == 9, "more than was said");
            })
            .await;
            assert_eq!(code(&LocalPool::default(), &address, post(Some(length), pieces)).await, ErrorCode::HopProtocol);
            serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_application_that_refuses_a_long_upload_is_heard_nevertheless() {
        let (address, serving) = application(move |mut stream| async move {
            read_head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
                .await
                .unwrap();
        })
        .await;
        let piece: &'static str = "x".repeat(1 << 20).leak();
        let (head, mut exchange) = ask(&LocalPool::default(), &address, post(None, [piece; 8])).await.unwrap();
        assert_eq!((head.status.as_u16(), body(&mut exchange).await.ok()), (413, Some(b"no".to_vec())));
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_application_that_is_not_there_did_not_process_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Application::local(listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(code(&LocalPool::default(), &address, get()).await, ErrorCode::UpstreamConnect);
    }

    #[tokio::test]
    async fn an_application_that_hangs_up_may_have_processed_the_request() {
        for begun in [&b""[..], b"HTTP/1.1 200 OK\r\ncont"] {
            let (address, _serving) = application(move |mut stream| async move {
                read_head(&mut stream).await;
                stream.write_all(begun).await.unwrap();
            })
            .await;
            assert_eq!(code(&LocalPool::default(), &address, get()).await, ErrorCode::UpstreamReset);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_cut_off_is_no_whole_one() {
        for cut in ["content-length: 9\r\n\r\nok", "transfer-encoding: chunked\r\n\r\n2\r\nok\r\n"] {
            let (address, _serving) = application(move |mut stream| async move {
                read_head(&mut stream).await;
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{cut}").as_bytes()).await.unwrap();
            })
            .await;
            let (_, mut exchange) = ask(&LocalPool::default(), &address, get()).await.unwrap();
            assert_eq!(body(&mut exchange).await.unwrap_err().code(), ErrorCode::UpstreamReset);
        }
    }

    #[tokio::test]
    async fn a_reset_is_not_the_end_of_an_answer_without_a_length_though_a_write_heard_of_it_first() {
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (address, serving) = application(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.unwrap();
            gone.await.unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        })
        .await;
        let (more, is_more) = tokio::sync::oneshot::channel();
        let late = async {
            is_more.await.unwrap();
            Ok::<_, HopBodyError>(Frame::data(Bytes::from_static(b"up")))
        };
        let slow = BodyExt::boxed(StreamBody::new(stream::once(late).chain(stream::pending())));
        let slow = Upload::new(Bytes::from_static(b"POST / HTTP/1.1\r\n\r\n"), Some((slow, Some(6))));
        let (_, mut exchange) = ask(&LocalPool::default(), &address, slow).await.unwrap();
        assert_eq!(exchange.piece().await.unwrap(), Piece::Data(Bytes::from_static(b"half")));
        go.send(()).unwrap();
        serving.await.unwrap();
        more.send(()).unwrap();
        assert_eq!(body(&mut exchange).await.unwrap_err().code(), ErrorCode::UpstreamReset);
    }

    #[tokio::test]
    async fn an_answer_without_a_length_ends_with_its_connection() {
        let (address, _serving) = application(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nto the ").await.unwrap();
            stream.write_all(b"end").await.unwrap();
        })
        .await;
        let pool = LocalPool::default();
        let (_, mut exchange) = ask(&pool, &address, get()).await.unwrap();
        assert_eq!(body(&mut exchange).await.unwrap(), b"to the end");
        pool.put_back(&address, exchange).await;
        assert!(pool.take(&address).is_none());
    }

    /// Or it would keep the rest back until the system, after some tens of milliseconds, acknowledges the first part by itself.
    #[tokio::test]
    async fn the_first_part_of_an_answer_is_acknowledged_at_once() {
        const MANY: usize = 20;
        let (asked, is_asked) = tokio::sync::oneshot::channel();
        let (address, serving) = application(move |mut stream| async move {
            for _ in 0..MANY {
                read_head(&mut stream).await;
                stream.write_all(OK).await.unwrap();
            }
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            is_asked.await.unwrap();
            stream.write_all(b"ok").await.unwrap();
        })
        .await;
        let pool = LocalPool::default();
        // A connection on which questions and answers alternate is one that the system is slow to acknowledge on.
        for _ in 0..MANY {
            let (_, mut exchange) = ask(&pool, &address, get()).await.unwrap();
            body(&mut exchange).await.unwrap();
            pool.put_back(&address, exchange).await;
        }
        let (_, mut exchange) = ask(&pool, &address, get()).await.unwrap();
        assert!(futures_util::poll!(std::pin::pin!(exchange.piece())).is_pending());
        assert!(exchange.acknowledges_at_once());
        asked.send(()).unwrap();
        assert_eq!(body(&mut exchange).await.unwrap(), b"ok");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_is_not_http_is_named_so() {
        let (address, _serving) = application(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(b"SSH-2.0-nothing\r\n\r\n").await.unwrap();
            // Held open until the other side has read it.
            let _ = stream.read_u8().await;
        })
        .await;
        assert_eq!(code(&LocalPool::default(), &address, get()).await, ErrorCode::UpstreamProtocol);
    }
}
