//! A program that calls over HTTP/1.1, and seldom ends as it should.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Session;
use super::http1::{Framed, Head, Reader, Unread, reset};
use super::ledger::Outcome;
use super::order::{Act, Order};

/// Requests on one connection, at most.
const MOST_REQUESTS: u32 = 16;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Get,
    Head,
    Length,
    Chunked,
    Expect,
}

struct Asked {
    order: Order,
    form: Form,
}

impl Asked {
    fn draw(session: &mut Session) -> Self {
        let form = match session.rng.random_range(0..100) {
            0..45 => Form::Get,
            45..52 => Form::Head,
            52..75 => Form::Length,
            75..95 => Form::Chunked,
            _ => Form::Expect,
        };
        let with_body = !matches!(form, Form::Get | Form::Head);
        Self { order: Order::draw(&mut session.rng, with_body), form }
    }

    /// One that asks for nothing special, to stand behind others.
    fn plain(session: &mut Session) -> Self {
        let mut asked = Self::draw(session);
        if asked.form == Form::Expect {
            asked.form = Form::Length;
        }
        asked
    }

    fn head(&self) -> BytesMut {
        let method = match self.form {
            Form::Get => "GET",
            Form::Head => "HEAD",
            _ => "POST",
        };
        let framing = match self.form {
            Form::Get | Form::Head => String::new(),
            Form::Length => format!("content-length: {}\r\n", self.order.up),
            Form::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
            Form::Expect => format!("content-length: {}\r\nexpect: 100-continue\r\n", self.order.up),
        };
        let head = format!("{method} {} HTTP/1.1\r\nhost: churn.mesh\r\n{framing}\r\n", self.order.path());
        BytesMut::from(&head[..])
    }

    fn body(&self) -> Bytes {
        let body = self.order.request();
        if self.form != Form::Chunked {
            return body;
        }
        let mut chunked = BytesMut::new();
        for piece in body.chunks(body.len() / 7 + 1) {
            chunked.put_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            chunked.put_slice(piece);
            chunked.put_slice(b"\r\n");
        }
        chunked.put_slice(b"0\r\n\r\n");
        chunked.freeze()
    }

    fn whole(&self) -> Bytes {
        let mut whole = self.head();
        whole.put_slice(&self.body());
        whole.freeze()
    }
}

/// May the connection be used again?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Open,
    /// Its end was announced, or it broke.
    Closed,
}

struct Calling<'s> {
    session: &'s mut Session,
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

pub(super) async fn play(session: &mut Session, stream: TcpStream) {
    let requests = session.rng.random_range(1..=MOST_REQUESTS);
    let (reader, writer) = stream.into_split();
    let mut calling = Calling { session, reader: Reader::new(reader), writer };
    for _ in 0..requests {
        let after = match calling.session.rng.random_range(0..100) {
            0..70 => calling.one().await,
            70..80 => calling.pipeline().await,
            80..84 => {
                let pause = Duration::from_millis(calling.session.rng.random_range(1..20));
                tokio::time::sleep(pause).await;
                calling.one().await
            }
            84..88 => return calling.half_close().await,
            88..92 => return calling.cut_within_request().await,
            92..96 => return calling.cut_within_answer().await,
            _ => return calling.cut_while_waiting().await,
        };
        if after == After::Closed {
            return;
        }
    }
    calling.end().await;
}

impl Calling<'_> {
    /// Sends a request and reads its answer, at the same time: either may be first to end.
    async fn one(&mut self) -> After {
        let asked = Asked::draw(self.session);
        self.session.begin();
        if asked.form == Form::Expect {
            return self.expect(&asked).await;
        }
        let whole = asked.whole();
        let (writer, reader) = (&mut self.writer, &mut self.reader);
        // A connection that takes no more of it may bring an answer nevertheless.
        let (sent, answered) = tokio::join!(writer.write_all(&whole), answer(reader, &asked));
        let after = self.judge(&asked, answered);
        if sent.is_err() { After::Closed } else { after }
    }

    /// Sends the body only when it is asked for.
    async fn expect(&mut self, asked: &Asked) -> After {
        let body = asked.body();
        if self.writer.write_all(&asked.head()).await.is_err() {
            return self.judge(asked, Err(Unread::Cut));
        }
        let head = match self.reader.head().await {
            Ok(head) if head.status() == 100 => {
                let (writer, reader) = (&mut self.writer, &mut self.reader);
                let (sent, answered) = tokio::join!(writer.write_all(&body), answer(reader, asked));
                let after = self.judge(asked, answered);
                return if sent.is_err() { After::Closed } else { after };
            }
            Ok(head) => head,
            Err(error) => return self.judge(asked, Err(error)),
        };
        // An answer without one: whether the body follows is for the client to say, and this one hangs up.
        let answered = rest(&mut self.reader, asked, head).await;
        self.judge(asked, answered);
        After::Closed
    }

    /// Several, one right behind the other.
    async fn pipeline(&mut self) -> After {
        let count = self.session.rng.random_range(2..=8);
        let all: Vec<Asked> = (0..count).map(|_| Asked::plain(self.session)).collect();
        let bytes: BytesMut = all.iter().flat_map(Asked::whole).collect();
        for _ in &all {
            self.session.begin();
        }
        let (writer, reader) = (&mut self.writer, &mut self.reader);
        let reading = async {
            let mut answers = Vec::new();
            for asked in &all {
                let answered = answer(reader, asked).await;
                let goes_on = matches!(&answered, Ok(answered) if !answered.closes);
                answers.push(answered);
                if !goes_on {
                    break;
                }
            }
            answers
        };
        let (sent, answers) = tokio::join!(writer.write_all(&bytes), reading);
        let answered = answers.len();
        let mut after = After::Open;
        for (asked, answered) in all.iter().zip(answers) {
            after = self.judge(asked, answered);
        }
        // What stands behind an answer that ended the connection was never looked at.
        for _ in &all[answered..] {
            self.session.ledger.count(Outcome::Broken);
        }
        if sent.is_err() { After::Closed } else { after }
    }

    /// Says that nothing follows, and still wants its answer.
    async fn half_close(&mut self) {
        let asked = Asked::plain(self.session);
        self.session.begin();
        let whole = asked.whole();
        let (writer, reader) = (&mut self.writer, &mut self.reader);
        let sending = async {
            writer.write_all(&whole).await?;
            writer.shutdown().await
        };
        let (_, answered) = tokio::join!(sending, answer(reader, &asked));
        if self.judge(&asked, answered) == After::Open && !self.reader.is_silent().await {
            let what = format!("{}: something follows the last answer", asked.order.name());
            self.session.ledger.violation(what);
        }
    }

    async fn cut_within_request(mut self) {
        let asked = Asked::draw(self.session);
        self.session.begin();
        let whole = asked.whole();
        let part = self.session.rng.random_range(0..whole.len());
        let _ = self.writer.write_all(&whole[..part]).await;
        self.cut();
    }

    async fn cut_while_waiting(mut self) {
        let asked = Asked::plain(self.session);
        self.session.begin();
        let _ = self.writer.write_all(&asked.whole()).await;
        let pause = self.session.rng.random_range(0..4);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.cut();
    }

    async fn cut_within_answer(mut self) {
        let asked = Asked { order: Order::draw(&mut self.session.rng, false), form: Form::Get };
        self.session.begin();
        let _ = self.writer.write_all(&asked.whole()).await;
        let most = self.session.rng.random_range(0..asked.order.down);
        if let Err(Unread::Wrong(what)) = part_of_answer(&mut self.reader, &asked, most).await {
            self.session.ledger.violation(format!("{}: {what}", asked.order.name()));
        }
        self.cut();
    }

    /// By an end, or by a reset.
    fn cut(self) {
        self.session.ledger.count(Outcome::Cut);
        if self.session.percent(50) {
            reset(self.writer);
        }
    }

    /// Ends a connection that could go on: nothing may have come that nobody asked for.
    async fn end(&mut self) {
        let _ = self.writer.shutdown().await;
        if !self.reader.is_silent().await {
            let what = format!("an answer that nobody asked for: {:?}", self.reader.read);
            self.session.ledger.violation(what);
        }
    }

    fn judge(&mut self, asked: &Asked, answered: Result<Answered, Unread>) -> After {
        let ledger = &self.session.ledger;
        let sound = asked.order.act.is_sound();
        match answered {
            Ok(Answered { refused, closes }) => {
                match refused {
                    Some(code) => {
                        ledger.refused(&code);
                        if sound {
                            ledger.count(Outcome::Collateral);
                        }
                    }
                    None => ledger.count(Outcome::Answered),
                }
                if closes { After::Closed } else { After::Open }
            }
            Err(Unread::Cut | Unread::End) => {
                ledger.count(Outcome::Broken);
                if sound {
                    ledger.count(Outcome::Collateral);
                }
                After::Closed
            }
            Err(Unread::Wrong(what)) => {
                ledger.violation(format!("{} {:?} {:?}: {what}", asked.order.name(), asked.form, asked.order.act));
                After::Closed
            }
        }
    }
}

/// A whole answer.
struct Answered {
    /// The mesh's own, and what it says.
    refused: Option<String>,
    closes: bool,
}

async fn answer(reader: &mut Reader<OwnedReadHalf>, asked: &Asked) -> Result<Answered, Unread> {
    loop {
        let head = reader.head().await?;
        if !(100..200).contains(&head.status()) {
            return rest(reader, asked, head).await;
        }
    }
}

/// What follows the head of an answer, and whether all of it is right.
async fn rest(reader: &mut Reader<OwnedReadHalf>, asked: &Asked, head: Head) -> Result<Answered, Unread> {
    let Asked { order, form } = asked;
    let no_body = *form == Form::Head || matches!(head.status(), 204 | 304);
    let framed = if no_body { Framed::Nothing } else { head.framed(Framed::ToClose)? };
    let closes = head.closes() || framed == Framed::ToClose;
    if let Some(code) = head.field("starling-error") {
        if head.field("x-nonce").is_some() {
            return Err(Unread::Wrong("an error of the mesh with a nonce".to_owned()));
        }
        let Framed::Length(length) = framed else {
            let refused = Some(code.to_owned());
            return if no_body {
                Ok(Answered { refused, closes })
            } else {
                Err(Unread::Wrong("an error without a length".into()))
            };
        };
        skip(reader, length).await?;
        return Ok(Answered { refused: Some(code.to_owned()), closes });
    }
    if head.field("x-nonce") != Some(&order.name()) {
        return Err(Unread::Wrong(format!("another's answer: {head:?}")));
    }
    let expected = if no_body || order.act == Act::Empty { 0 } else { order.down };
    let seen = reader.body(framed, order.nonce, usize::MAX).await?;
    if seen != expected {
        return Err(Unread::Wrong(format!("a body of {expected} came as a whole one of {seen} ({framed:?})")));
    }
    Ok(Answered { refused: None, closes })
}

/// The body of the mesh's own words.
async fn skip(reader: &mut Reader<OwnedReadHalf>, length: usize) -> Result<(), Unread> {
    while reader.read.len() < length {
        if reader.more().await? == 0 {
            return Err(Unread::Cut);
        }
    }
    drop(reader.read.split_to(length));
    Ok(())
}

async fn part_of_answer(reader: &mut Reader<OwnedReadHalf>, asked: &Asked, most: usize) -> Result<(), Unread> {
    loop {
        let head = reader.head().await?;
        if (100..200).contains(&head.status()) {
            continue;
        }
        if head.field("starling-error").is_some() || head.status() == 204 {
            return Ok(());
        }
        if head.field("x-nonce") != Some(&asked.order.name()) {
            return Err(Unread::Wrong(format!("another's answer: {head:?}")));
        }
        let framed = head.framed(Framed::ToClose)?;
        reader.body(framed, asked.order.nonce, most).await?;
        return Ok(());
    }
}
