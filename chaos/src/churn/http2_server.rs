//! The service of HTTP/2: does what each stream's path asks for.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::ledger::{Ledger, Outcome};
use super::order::{Act, Follow, Order};

/// A connection without a stream is closed after this.
const IDLE: Duration = Duration::from_millis(500);
/// No stream takes so long, unless somebody forgot it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What streams ask of their connection.
#[derive(Debug, Default)]
struct Connection {
    streams: AtomicUsize,
    /// It says GOAWAY.
    goes_away: Notify,
    /// It is cut.
    is_cut: Notify,
}

pub(super) async fn serve(stream: TcpStream, ledger: Arc<Ledger>) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol().max_concurrent_streams(64);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let shared = Arc::new(Connection::default());
    let mut ends = false;
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (shared, ledger) = (Arc::clone(&shared), Arc::clone(&ledger));
                    shared.streams.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        let path = request.uri().path().to_owned();
                        let serving = request_of(&shared, &ledger, request, respond);
                        if tokio::time::timeout(PATIENCE, serving).await.is_err() {
                            ledger.violation(format!("the service waits in vain for the rest of a stream: {path}"));
                        }
                        shared.streams.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Some(Err(_)) | None => return,
            },
            () = shared.is_cut.notified() => return,
            () = shared.goes_away.notified(), if !ends => {
                ends = true;
                connection.graceful_shutdown();
            }
            () = tokio::time::sleep(IDLE), if !ends => {
                if shared.streams.load(Ordering::Relaxed) == 0 {
                    ends = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

async fn request_of(
    connection: &Connection,
    ledger: &Ledger,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let Some(order) = Order::of_path(path) else {
        return ledger.violation(format!("the service was asked for {path}"));
    };
    if order.act == Act::Refuse {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    if parts.method == Method::POST {
        ledger.once(order.nonce);
    }
    if parts.method == Method::CONNECT {
        return drop(echo(order, body, respond).await);
    }
    let is_head = parts.method == Method::HEAD;
    match order.act {
        Act::Silent => return respond.send_reset(Reason::CANCEL),
        Act::Early => {
            let _ = tokio::join!(answer(order, is_head, &mut respond), read_body(order, ledger, body));
            return;
        }
        Act::EarlyClose => {
            let _ = answer(order, is_head, &mut respond).await;
            return respond.send_reset(Reason::NO_ERROR);
        }
        _ => {}
    }
    if read_body(order, ledger, body).await.is_err() {
        return;
    }
    match order.act {
        Act::Reset | Act::Cut if !is_head => return break_off(order, connection, respond).await,
        Act::Late => tokio::time::sleep(Duration::from_millis(order.nonce % 8)).await,
        Act::Interim => {
            let _ = respond.send_informational(Response::builder().status(103).body(()).expect("a head"));
        }
        _ => {}
    }
    let _ = answer(order, is_head, &mut respond).await;
    if order.act == Act::Vanish {
        connection.goes_away.notify_one();
    }
}

/// Half a body must never look whole.
async fn read_body(order: Order, ledger: &Ledger, mut body: RecvStream) -> Result<(), h2::Error> {
    let mut follow = Follow::new(order.nonce);
    while let Some(data) = body.data().await {
        let data = data.inspect_err(|_| ledger.count(Outcome::Unserved))?;
        if !follow.take(&data) {
            ledger.violation(format!("{}: the service read a body of something else", order.name()));
        }
        let _ = body.flow_control().release_capacity(data.len());
    }
    if follow.seen == order.up {
        ledger.count(Outcome::Served);
    } else {
        ledger.violation(format!("{}: a body of {} came as a whole one of {}", order.name(), order.up, follow.seen));
    }
    Ok(())
}

async fn answer(order: Order, is_head: bool, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("x-nonce", order.name());
    if order.act == Act::Empty {
        respond.send_response(head.status(204).body(()).expect("a head"), true)?;
        return Ok(());
    }
    let with_trailers = order.act == Act::Pieces && !is_head;
    let head = if with_trailers { head } else { head.header("content-length", order.down) };
    let mut stream = respond.send_response(head.body(()).expect("a head"), is_head)?;
    if is_head {
        return Ok(());
    }
    send(&mut stream, order.answer(), !with_trailers).await?;
    if with_trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-nonce", order.name().parse().expect("a value"));
        stream.send_trailers(trailers)?;
    }
    Ok(())
}

async fn break_off(order: Order, connection: &Connection, mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("x-nonce", order.name()).header("content-length", order.down);
    let Ok(mut stream) = respond.send_response(head.body(()).expect("a head"), false) else { return };
    let half = order.answer().slice(..order.down / 2);
    if !half.is_empty() && send(&mut stream, half, false).await.is_err() {
        return;
    }
    // The whole connection goes less often: others are on it.
    if order.act == Act::Cut && order.nonce.is_multiple_of(8) {
        connection.is_cut.notify_one();
    }
    stream.send_reset(Reason::INTERNAL_ERROR);
}

/// Gives back whatever comes.
async fn echo(order: Order, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let head = Response::builder().header("x-nonce", order.name());
    if !order.act.is_sound() {
        // 200 would accept it.
        respond.send_response(head.status(403).body(()).expect("a head"), true)?;
        return Ok(());
    }
    let mut stream = respond.send_response(head.body(()).expect("a head"), false)?;
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        send(&mut stream, data, false).await?;
    }
    stream.send_data(Bytes::new(), true)
}

/// Sends all of it, as fast as it is taken.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, ends: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else {
            return Err(Reason::CANCEL.into());
        };
        let piece = data.split_to(room.min(data.len()));
        stream.send_data(piece, ends && data.is_empty())?;
    }
    Ok(())
}
