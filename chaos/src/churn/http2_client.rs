//! A program that calls over HTTP/2: many streams at a time, reset at any moment, on connections that are cut.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response, Version};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Session;
use super::http2_server::send;
use super::ledger::{Ledger, Outcome};
use super::order::{Act, Follow, Order};

/// Streams on one connection, at most.
const MOST_STREAMS: u32 = 24;

/// What the caller does to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whim {
    /// Nothing.
    Wait,
    ResetUpload,
    ResetWaiting,
    ResetDownload,
}

struct Asked {
    order: Order,
    method: Method,
    whim: Whim,
    rng: StdRng,
}

impl Asked {
    fn draw(session: &mut Session) -> Self {
        let method = match session.rng.random_range(0..100) {
            0..50 => Method::GET,
            50..57 => Method::HEAD,
            _ => Method::POST,
        };
        let whim = match session.rng.random_range(0..100) {
            0..85 => Whim::Wait,
            85..90 => Whim::ResetUpload,
            90..95 => Whim::ResetWaiting,
            _ => Whim::ResetDownload,
        };
        let order = Order::draw(&mut session.rng, method == Method::POST);
        Self { order, method, whim, rng: StdRng::seed_from_u64(session.rng.random()) }
    }
}

pub(super) async fn play(session: &mut Session, stream: TcpStream) {
    let streams = session.rng.random_range(1..=MOST_STREAMS);
    let cut_after = session.percent(12).then(|| Duration::from_millis(session.rng.random_range(0..30)));
    if cut_after.is_some() && session.percent(50) {
        let _ = stream.set_zero_linger();
    }
    let Ok((sender, connection)) = h2::client::handshake(stream).await else {
        return session.ledger.violation("no handshake of HTTP/2".to_owned());
    };
    let driving = tokio::spawn(connection);
    let mut under_way = JoinSet::new();
    for _ in 0..streams {
        let asked = Asked::draw(session);
        session.begin();
        let Ok(sender) = sender.clone().ready().await else {
            session.ledger.count(Outcome::Broken);
            continue;
        };
        let ledger = Arc::clone(&session.ledger);
        under_way.spawn(async move { request(sender, asked, &ledger, cut_after.is_some()).await });
    }
    if let Some(after) = cut_after {
        tokio::time::sleep(after).await;
        driving.abort();
    }
    while let Some(ended) = under_way.join_next().await {
        if let Err(error) = ended {
            session.ledger.violation(format!("a stream of HTTP/2: {error}"));
        }
    }
    drop(sender);
    let _ = driving.await;
}

async fn request(mut sender: SendRequest<Bytes>, mut asked: Asked, ledger: &Ledger, is_cut: bool) {
    let Asked { order, ref method, whim, .. } = asked;
    let uri = format!("http://churn.mesh{}", order.path());
    let mut head = Request::builder().method(method.clone()).uri(uri).version(Version::HTTP_2);
    if order.up > 0 && order.nonce.is_multiple_of(2) {
        head = head.header("content-length", order.up);
    }
    let Ok((response, mut stream)) = sender.send_request(head.body(()).expect("a head"), order.up == 0) else {
        return ledger.count(Outcome::Broken);
    };
    let most = if whim == Whim::ResetDownload { asked.rng.random_range(0..order.down) } else { usize::MAX };
    let body = order.request();
    if whim == Whim::ResetUpload && order.up > 0 {
        let part = asked.rng.random_range(0..order.up);
        let _ = send(&mut stream, body.slice(..part), false).await;
        stream.send_reset(Reason::CANCEL);
        return ledger.count(Outcome::Cut);
    }
    let uploading = async {
        if order.up > 0 {
            let _ = send(&mut stream, body, true).await;
        }
        if whim == Whim::ResetWaiting {
            tokio::time::sleep(Duration::from_millis(asked.rng.random_range(0..4))).await;
            stream.send_reset(Reason::CANCEL);
        }
    };
    let (answered, ()) = tokio::join!(
        async {
            match response.await {
                Ok(response) => Some(answer(response, order, method, most).await),
                Err(_) => None,
            }
        },
        uploading
    );
    match answered {
        Some(Ok(Answered::Whole)) => ledger.count(Outcome::Answered),
        Some(Ok(Answered::Part)) => ledger.count(Outcome::Cut),
        Some(Ok(Answered::Refused(code))) => {
            ledger.refused(&code);
            if order.act.is_sound() && whim == Whim::Wait && !is_cut {
                ledger.count(Outcome::Collateral);
            }
        }
        Some(Err(Some(what))) => ledger.violation(format!("{} over HTTP/2, {:?}: {what}", order.name(), order.act)),
        Some(Err(None)) | None => {
            ledger.count(if whim == Whim::Wait { Outcome::Broken } else { Outcome::Cut });
            if order.act.is_sound() && whim == Whim::Wait && !is_cut {
                ledger.count(Outcome::Collateral);
            }
        }
    }
}

enum Answered {
    Whole,
    /// As much of it as was wanted.
    Part,
    Refused(String),
}

/// Reads an answer; `Err(None)` if it broke off.
async fn answer(
    response: Response<RecvStream>,
    order: Order,
    method: &Method,
    most: usize,
) -> Result<Answered, Option<String>> {
    let (parts, mut body) = response.into_parts();
    if let Some(code) = parts.headers.get("starling-error") {
        if parts.headers.contains_key("x-nonce") {
            return Err(Some("an error of the mesh with a nonce".to_owned()));
        }
        return Ok(Answered::Refused(String::from_utf8_lossy(code.as_bytes()).into_owned()));
    }
    if parts.headers.get("x-nonce").is_none_or(|nonce| nonce.as_bytes() != order.name().as_bytes()) {
        return Err(Some(format!("another's answer: {parts:?}")));
    }
    let mut follow = Follow::new(order.nonce);
    while let Some(data) = body.data().await {
        let data = data.map_err(|_| None)?;
        if !follow.take(&data) {
            return Err(Some(format!("a body of something else, before byte {}", follow.seen)));
        }
        let _ = body.flow_control().release_capacity(data.len());
        if follow.seen > most {
            return Ok(Answered::Part);
        }
    }
    body.trailers().await.map_err(|_| None)?;
    let expected = if order.act == Act::Empty || *method == Method::HEAD { 0 } else { order.down };
    if follow.seen != expected {
        return Err(Some(format!("a body of {expected} came as a whole one of {}", follow.seen)));
    }
    Ok(Answered::Whole)
}
