//! A connection that switches to another protocol: bytes of a nonce go up, and come back.

use rand::RngExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Session;
use super::http1::{Framed, Reader, Unread, reset};
use super::ledger::Outcome;
use super::order::Order;

pub(super) async fn play(session: &mut Session, stream: TcpStream) {
    session.begin();
    let order = Order::draw(&mut session.rng, true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    let head =
        format!("GET {} HTTP/1.1\r\nhost: churn.mesh\r\nconnection: upgrade\r\nupgrade: churn\r\n\r\n", order.path());
    if writer.write_all(head.as_bytes()).await.is_err() {
        return session.ledger.count(Outcome::Broken);
    }
    let answer = match reader.head().await {
        Ok(answer) => answer,
        Err(Unread::Wrong(what)) => return session.ledger.violation(format!("{}: {what}", order.name())),
        Err(_) => return session.ledger.count(Outcome::Broken),
    };
    if let Some(code) = answer.field("starling-error") {
        return session.ledger.refused(code);
    }
    if answer.field("x-nonce") != Some(&order.name()) {
        return session.ledger.violation(format!("another's answer: {answer:?}"));
    }
    if answer.status() != 101 {
        return session.ledger.count(Outcome::Answered);
    }
    let up = order.request();
    let cuts = session.percent(20);
    let part = if cuts { session.rng.random_range(0..up.len()) } else { up.len() };
    let sending = async {
        writer.write_all(&up[..part]).await?;
        if cuts { Ok(()) } else { writer.shutdown().await }
    };
    if cuts {
        let _ = sending.await;
        reset(writer);
        return session.ledger.count(Outcome::Cut);
    }
    let (sent, read) = tokio::join!(sending, reader.body(Framed::ToClose, order.nonce, usize::MAX));
    match read {
        // Whoever is told of a reset as it writes reads an end.
        Ok(seen) if sent.is_err() && seen < order.up => session.ledger.count(Outcome::Broken),
        Ok(seen) if seen == order.up => session.ledger.count(Outcome::Answered),
        Ok(seen) => {
            session.ledger.violation(format!("{}: {seen} bytes of {} came back as all", order.name(), order.up));
        }
        Err(Unread::Wrong(what)) => session.ledger.violation(format!("{}: {what}", order.name())),
        Err(_) => session.ledger.count(Outcome::Broken),
    }
}
