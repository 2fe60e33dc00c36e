use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// No agent takes longer over its status.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far more than a status has.
const MOST: usize = 1 << 20;

/// What an agent says of itself, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    /// How many members are in which state.
    members: BTreeMap<String, usize>,
    /// Gossip's counters.
    #[serde(default)]
    gossip: BTreeMap<String, u64>,
}

impl Status {
    pub(super) fn alive(&self) -> usize {
        self.members.get("alive").copied().unwrap_or(0)
    }

    pub(super) fn down(&self) -> usize {
        self.members.get("down").copied().unwrap_or(0)
    }

    pub(super) fn counter(&self, name: &str) -> u64 {
        self.gossip.get(name).copied().unwrap_or(0)
    }
}

/// Asks an agent for its status again and again, over one connection of its admin socket for as long as that lasts.
pub(super) struct Asker {
    socket: PathBuf,
    connection: Option<BufReader<UnixStream>>,
}

impl Asker {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), connection: None }
    }

    /// What it says now.
    pub(super) fn status(&mut self) -> io::Result<Status> {
        // The agent ends each connection after a while.
        let before = self.connection.take().and_then(|connection| self.ask(connection).ok());
        let status = match before {
            Some(status) => status,
            None => self.ask(self.connect()?)?,
        };
        serde_json::from_slice(&status).map_err(io::Error::other)
    }

    fn connect(&self) -> io::Result<BufReader<UnixStream>> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(stream))
    }

    fn ask(&mut self, mut connection: BufReader<UnixStream>) -> io::Result<Vec<u8>> {
        connection.get_mut().write_all(b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
        let body = answer(&mut connection)?;
        self.connection = Some(connection);
        Ok(body)
    }
}

/// The body of one answer of HTTP/1.1 with a length.
fn answer(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let malformed = |what: &str| io::Error::other(format!("no answer of an agent: {what:?}"));
    let (mut line, mut length) = (String::new(), None);
    from.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(malformed(line.trim_end()));
    }
    loop {
        line.clear();
        from.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().ok().filter(|length| *length <= MOST);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length.ok_or_else(|| malformed("without length"))?];
    from.read_exact(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let mut text = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ndate: now\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n"[..];
        assert_eq!(answer(&mut text).ok().as_deref(), Some(&b"{}"[..]));
        for bad in ["", "HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}"] {
            assert!(answer(&mut bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(answer(&mut &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"[..]).is_err());
    }

    #[test]
    fn an_agent_that_ends_a_connection_is_asked_on_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let mut asker = Asker::new(&path);
        assert!(asker.status().is_err(), "nobody is there yet");
        let listener = UnixListener::bind(&path).expect("a socket");
        let agent = std::thread::spawn(move || {
            for down in [0, 1] {
                let (mut stream, _) = listener.accept().expect("it comes");
                let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                let body = format!(r#"{{"members":{{"alive":2,"down":{down}}},"uptime":1}}"#);
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).expect("it reads");
            }
        });
        for down in [0, 1] {
            let status = asker.status().expect("it answers");
            assert_eq!((status.alive(), status.down(), status.counter("datagrams_sent")), (2, down, 0));
        }
        agent.join().expect("both were asked");
    }
}
