//! Opaque TCP: a line that says what is wanted, bytes of its nonce up, bytes of its nonce down.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Session;
use super::http1::{Framed, Reader, Unread, reset};
use super::ledger::{Ledger, Outcome};
use super::order::{Act, Order};

const GREETING: &[u8] = b"hello\r\n";
/// A client that says nothing is let go of after this.
const IDLE: Duration = Duration::from_secs(5);

/// The service. Some speak first.
pub(super) async fn serve(stream: TcpStream, ledger: Arc<Ledger>, speaks_first: bool) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    if speaks_first && writer.write_all(GREETING).await.is_err() {
        return;
    }
    let Ok(Ok(line)) = tokio::time::timeout(IDLE, reader.line()).await else { return };
    let Some(order) = Order::of_path(&line) else {
        return ledger.violation(format!("the service of opaque TCP was told {line:?}"));
    };
    ledger.once(order.nonce);
    let hangs_up = matches!(order.act, Act::Reset | Act::Silent | Act::EarlyClose);
    let down = order.answer();
    if hangs_up {
        let _ = writer.write_all(&down[..down.len() / 2]).await;
        return reset(writer);
    }
    // It answers while it reads, as soon as it is asked.
    let (read, sent) = tokio::join!(reader.body(Framed::ToClose, order.nonce, usize::MAX), async {
        writer.write_all(&down).await?;
        writer.shutdown().await
    });
    match read {
        // Whoever is told of a reset as it writes reads an end.
        Ok(seen) if sent.is_err() && seen < order.up => ledger.count(Outcome::Unserved),
        Ok(seen) if seen == order.up => ledger.count(Outcome::Served),
        Ok(seen) => ledger.violation(format!("{}: {seen} bytes of {} ended like all", order.name(), order.up)),
        Err(Unread::Wrong(what)) => ledger.violation(format!("{}: the service read {what}", order.name())),
        Err(_) => ledger.count(Outcome::Unserved),
    }
}

/// The program that calls.
pub(super) async fn play(session: &mut Session, stream: TcpStream, speaks_first: bool) {
    session.begin();
    let order = Order::draw(&mut session.rng, true);
    if session.percent(10) {
        // Opened, and never used.
        session.ledger.count(Outcome::Cut);
        return;
    }
    let (reader, mut writer) = stream.into_split();
    let mut reader = Reader::new(reader);
    if speaks_first {
        match reader.line().await {
            Ok(line) if line == "hello" => {}
            Ok(line) => return session.ledger.violation(format!("a greeting of {line:?}")),
            Err(_) => return session.ledger.count(Outcome::Broken),
        }
    }
    let cuts = session.percent(15);
    let up = order.request();
    let part = if cuts { session.rng.random_range(0..up.len()) } else { up.len() };
    let line = format!("{}\n", order.path());
    let sending = async {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(&up[..part]).await?;
        if cuts { Ok(()) } else { writer.shutdown().await }
    };
    if cuts {
        let _ = sending.await;
        // By a reset: an end would be the end.
        reset(writer);
        return session.ledger.count(Outcome::Cut);
    }
    let (sent, read) = tokio::join!(sending, reader.body(Framed::ToClose, order.nonce, usize::MAX));
    let resets = matches!(order.act, Act::Reset | Act::Silent | Act::EarlyClose);
    match read {
        Ok(seen) if sent.is_err() && seen < order.down => session.ledger.count(Outcome::Broken),
        Ok(seen) if seen == order.down => session.ledger.count(Outcome::Answered),
        Ok(seen) => {
            let what = format!("{}: {seen} bytes of {} ended like all ({:?})", order.name(), order.down, order.act);
            session.ledger.violation(what);
        }
        Err(Unread::Wrong(what)) => session.ledger.violation(format!("{}: {what}", order.name())),
        Err(_) => {
            session.ledger.count(Outcome::Broken);
            if !resets {
                session.ledger.count(Outcome::Collateral);
            }
        }
    }
}
