//! The service of HTTP/1.1: does what each request's path asks for.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::http1::{Framed, Head, Reader, Unread, reset};
use super::ledger::{Ledger, Outcome};
use super::order::{Act, Order};

/// A connection without a request is closed after this; some of them far sooner.
const IDLE: Duration = Duration::from_millis(500);

/// No request takes so long, unless somebody forgot it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What becomes of the connection.
enum Next {
    Request,
    Close,
    Reset,
}

struct Serving {
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    ledger: Arc<Ledger>,
}

pub(super) async fn serve(stream: TcpStream, ledger: Arc<Ledger>) {
    let (reader, writer) = stream.into_split();
    let mut serving = Serving { reader: Reader::new(reader), writer, ledger };
    let mut patience = IDLE;
    loop {
        let head = match tokio::time::timeout(patience, serving.reader.head()).await {
            Ok(Ok(head)) => head,
            Ok(Err(Unread::Wrong(what))) => return serving.ledger.violation(format!("the service read {what}")),
            Ok(Err(_)) | Err(_) => return,
        };
        let path = head.start.split(' ').nth(1).unwrap_or_default();
        let Some(order) = Order::of_path(path) else {
            return serving.ledger.violation(format!("the service was asked for {}", head.start));
        };
        let Ok(served) = tokio::time::timeout(PATIENCE, serving.request(&head, order)).await else {
            let what = format!("the service waits in vain for the rest of a request: {path}");
            return serving.ledger.violation(what);
        };
        match served {
            Ok(Next::Request) => {}
            Ok(Next::Reset) => return reset(serving.writer),
            Ok(Next::Close) | Err(Unread::Cut | Unread::End) => return,
            Err(Unread::Wrong(what)) => {
                return serving.ledger.violation(format!("{}: the service read {what}", order.name()));
            }
        }
        // One of eight hangs up just when another request may be on its way.
        patience = if order.nonce.is_multiple_of(8) { Duration::from_millis(order.nonce / 8 % 20) } else { IDLE };
    }
}

impl Serving {
    async fn request(&mut self, head: &Head, order: Order) -> Result<Next, Unread> {
        let method = head.start.split(' ').next().unwrap_or_default();
        if method == "POST" {
            self.ledger.once(order.nonce);
        }
        if head.field("upgrade").is_some() {
            return self.switch(order).await;
        }
        let framed = head.framed(Framed::Nothing)?;
        let is_head = method == "HEAD";
        match order.act {
            Act::Silent => return Ok(if order.nonce.is_multiple_of(2) { Next::Reset } else { Next::Close }),
            Act::Early => self.answer(order, is_head).await?,
            Act::EarlyClose => {
                self.answer(order, is_head).await?;
                return Ok(Next::Close);
            }
            _ => {}
        }
        if head.field("expect").is_some() {
            self.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.read_body(framed, order).await?;
        match order.act {
            Act::Early => return Ok(Next::Request),
            Act::Reset | Act::Cut if !is_head => return self.break_off(order).await,
            Act::Late => tokio::time::sleep(Duration::from_millis(order.nonce % 8)).await,
            Act::Interim => {
                let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";
                self.writer.write_all(hints.repeat(3).as_bytes()).await?;
            }
            _ => {}
        }
        self.answer(order, is_head).await?;
        Ok(if matches!(order.act, Act::Close | Act::Vanish) { Next::Close } else { Next::Request })
    }

    /// Half a body must never look whole.
    async fn read_body(&mut self, framed: Framed, order: Order) -> Result<(), Unread> {
        let read = self.reader.body(framed, order.nonce, usize::MAX).await;
        match &read {
            Ok(seen) if *seen == order.up => self.ledger.count(Outcome::Served),
            Ok(seen) => {
                let what = format!("{}: a body of {} came as a whole one of {seen}", order.name(), order.up);
                self.ledger.violation(what);
            }
            Err(_) => self.ledger.count(Outcome::Unserved),
        }
        read.map(drop)
    }

    async fn answer(&mut self, order: Order, is_head: bool) -> Result<(), Unread> {
        let body = order.answer();
        let mut answer = start(order);
        match order.act {
            Act::Empty => {
                answer = start_with(204, order);
                answer.put_slice(b"\r\n");
            }
            Act::Pieces if !is_head => {
                answer.put_slice(b"transfer-encoding: chunked\r\ntrailer: x-nonce\r\n\r\n");
                for piece in body.chunks(body.len() / 5 + 1) {
                    answer.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    answer.put_slice(piece);
                    answer.put_slice(b"\r\n");
                }
                answer.put_slice(format!("0\r\nx-nonce: {}\r\n\r\n", order.name()).as_bytes());
            }
            _ => {
                let close = if order.act == Act::Close { "connection: close\r\n" } else { "" };
                answer.put_slice(format!("content-length: {}\r\n{close}\r\n", order.down).as_bytes());
                if !is_head {
                    answer.put_slice(&body);
                }
            }
        }
        Ok(self.writer.write_all(&answer).await?)
    }

    /// Half an answer, in either framing, and then the end or a reset.
    async fn break_off(&mut self, order: Order) -> Result<Next, Unread> {
        let body = order.answer();
        let half: Bytes = body.slice(..body.len() / 2);
        let mut answer = start(order);
        if order.nonce.is_multiple_of(2) {
            answer.put_slice(format!("content-length: {}\r\n\r\n", order.down).as_bytes());
            answer.put_slice(&half);
        } else {
            answer.put_slice(b"transfer-encoding: chunked\r\n\r\n");
            answer.put_slice(format!("{:x}\r\n", order.down).as_bytes());
            answer.put_slice(&half);
        }
        self.writer.write_all(&answer).await?;
        Ok(if order.act == Act::Reset { Next::Reset } else { Next::Close })
    }

    /// Gives back whatever comes.
    async fn switch(&mut self, order: Order) -> Result<Next, Unread> {
        if !order.act.is_sound() {
            self.answer(order, false).await?;
            return Ok(Next::Close);
        }
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: churn\r\nx-nonce: {}\r\n\r\n",
            order.name()
        );
        self.writer.write_all(switch.as_bytes()).await?;
        self.writer.write_all(&self.reader.read).await?;
        self.reader.read.clear();
        while self.reader.more().await? > 0 {
            self.writer.write_all(&self.reader.read).await?;
            self.reader.read.clear();
        }
        Ok(Next::Close)
    }
}

fn start(order: Order) -> BytesMut {
    start_with(200, order)
}

fn start_with(status: u16, order: Order) -> BytesMut {
    BytesMut::from(&format!("HTTP/1.1 {status} Said\r\nx-nonce: {}\r\n", order.name())[..])
}
