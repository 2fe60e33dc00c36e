use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use socket2::SockRef;

use super::Complaint;

/// Connections answered at a time.
const BATCH: usize = 32;
/// What is given to a client to say what it wants, and to take the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_millis(100);
/// Enough of a request to see what it is about.
const HEAD: usize = 1_024;

/// Answers at the admin sockets while the thread that should do so is blocked.
#[derive(Debug)]
pub struct StandIn {
    unix: UnixListener,
    tcp: Option<TcpListener>,
}

impl StandIn {
    pub(super) const fn new(unix: UnixListener, tcp: Option<TcpListener>) -> Self {
        Self { unix, tcp }
    }

    /// Answers whoever waits, and nobody else: `/metrics` with what is known, all others that the node is not live,
    /// since `why`. Takes at most a few seconds, however slow its clients are.
    pub fn answer(&self, why: &str, metrics: &str) {
        // The listeners do not block: an error is most often that nobody waits.
        for _ in 0..BATCH {
            let Some(Ok((stream, _))) = self.tcp.as_ref().map(TcpListener::accept) else { break };
            serve(stream, why, metrics);
        }
        for _ in 0..BATCH {
            let Ok((stream, _)) = self.unix.accept() else { break };
            serve(stream, why, metrics);
        }
    }
}

fn serve(mut stream: impl Read + Write + AsFd, why: &str, metrics: &str) {
    let socket = SockRef::from(&stream);
    let timeouts = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_read_timeout(Some(CLIENT_TIMEOUT)))
        .and_then(|()| socket.set_write_timeout(Some(CLIENT_TIMEOUT)));
    let mut head = [0; HEAD];
    let read = timeouts.and_then(|()| stream.read(&mut head));
    if let Ok(len) = read {
        // A client that goes away is not worth a word.
        let _ = stream.write_all(respond(&head[..len], why, metrics).as_bytes());
    }
}

fn respond(head: &[u8], why: &str, metrics: &str) -> String {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let target = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    let (status, kind, body) = match target {
        b"/metrics" => ("200 OK", plain, metrics.to_owned()),
        target if target.starts_with(b"/v1/") => {
            let error = format!("the node is not live: {why}");
            let hint = "its log says more; a restart may help".to_owned();
            let body = serde_json::to_string(&Complaint { error, hint }).unwrap_or_default();
            ("503 Service Unavailable", "application/json", body)
        }
        _ => ("503 Service Unavailable", plain, format!("not live: {why}\n")),
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_gets_the_answer_that_fits_it() {
        for (request, status, kind, body) in [
            ("GET /live HTTP/1.1\r\n\r\n", "503", "text/plain", "not live: it sleeps\n"),
            ("GET /ready HTTP/1.1\r\n\r\n", "503", "text/plain", "not live: it sleeps\n"),
            ("GET /metrics HTTP/1.1\r\n\r\n", "200", "text/plain", "stalled 1\n"),
            (
                "GET /v1/members HTTP/1.1\r\n\r\n",
                "503",
                "application/json",
                "{\"error\":\"the node is not live: it sleeps\"",
            ),
            ("\u{0}", "503", "text/plain", "not live: it sleeps\n"),
            ("", "503", "text/plain", "not live: it sleeps\n"),
        ] {
            let answer = respond(request.as_bytes(), "it sleeps", "stalled 1\n");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("content-type: {kind}")), "{answer}");
            let (_, found) = answer.split_once("\r\n\r\n").unwrap();
            assert!(found.starts_with(body), "{answer}");
            assert!(answer.contains(&format!("content-length: {}\r\n", found.len())), "{answer}");
        }
    }
}
