use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::VipRange;
use crate::capture::ResolvConf;
use crate::dial;

/// How long one of the host's resolvers may take. Two of them fit into the 5 s that glibc waits for us.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most resolvers that are asked for one name; glibc reads three.
const MOST_SERVERS: usize = 3;

/// How long what stands in `resolv.conf` is believed.
const REREAD_AFTER: Duration = Duration::from_secs(5);

const LARGEST_REPLY: usize = 65_535;

/// Who answers for names outside the mesh.
pub enum Upstreams {
    /// Nobody: they are refused.
    Refuse,
    /// These servers.
    Servers(Vec<SocketAddr>),
    /// The servers that `resolv.conf` lists after ours; nobody while ours does not stand there.
    System(SystemResolvers),
}

/// What `resolv.conf` says, read again every few seconds.
pub struct SystemResolvers {
    path: PathBuf,
    range: VipRange,
    /// The servers count even if ours does not stand before them.
    always: bool,
    /// Where we listen: asked there, we would ask ourselves.
    own: Option<SocketAddr>,
    read: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Upstreams {
    /// The host's own resolvers, as [`crate::capture::install`] leaves them in this file (`/etc/resolv.conf`).
    pub fn system(path: &Path, range: VipRange) -> Self {
        Self::System(SystemResolvers { path: path.to_owned(), range, always: false, own: None, read: Mutex::new(None) })
    }

    /// The resolvers of this file, whether or not ours stands there: for another namespace's programs, who have a file of
    /// their own.
    pub fn of_host(path: &Path, range: VipRange) -> Self {
        Self::System(SystemResolvers { path: path.to_owned(), range, always: true, own: None, read: Mutex::new(None) })
    }

    /// The same without the server itself, which listens there.
    #[must_use]
    pub(super) fn but_not(mut self, own: SocketAddr) -> Self {
        match &mut self {
            Self::Refuse => {}
            Self::Servers(servers) => servers.retain(|server| !is_same(own, *server)),
            Self::System(system) => system.own = Some(own),
        }
        self
    }

    /// Asks one server after another until one answers. None if there is none to ask or none answers.
    pub(super) async fn ask(&self, query: &[u8], over_tcp: bool) -> Answered {
        let servers = match self {
            Self::Refuse => Vec::new(),
            Self::Servers(servers) => servers.clone(),
            Self::System(system) => system.servers(),
        };
        if servers.is_empty() {
            return Answered::NobodyToAsk;
        }
        let mut failure = None;
        for server in servers.into_iter().take(MOST_SERVERS) {
            let exchange =
                async { if over_tcp { ask_by_tcp(server, query).await } else { ask_by_udp(server, query).await } };
            match tokio::time::timeout(PATIENCE, exchange).await {
                // It could not find out, or does not want to: another may, as with the system's own resolver.
                Ok(Ok(reply)) if is_failure(&reply) => failure = failure.or(Some(reply)),
                Ok(Ok(reply)) => return Answered::Reply(reply),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver of this host failed"),
                Err(_) => tracing::debug!(%server, "a resolver of this host did not answer in time"),
            }
        }
        failure.map_or(Answered::NoReply, Answered::Reply)
    }
}

/// Would a question to `server` arrive at a socket bound to `own`?
fn is_same(own: SocketAddr, server: SocketAddr) -> bool {
    let same = own.ip() == server.ip() || (own.ip().is_unspecified() && server.ip().is_loopback());
    same && own.port() == server.port()
}

/// SERVFAIL, NOTIMP or REFUSED.
fn is_failure(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|flags| matches!(flags & 0x0f, 2 | 4 | 5))
}

/// What came of asking.
pub(super) enum Answered {
    Reply(Vec<u8>),
    NoReply,
    NobodyToAsk,
}

impl SystemResolvers {
    fn servers(&self) -> Vec<SocketAddr> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some((at, servers)) if at.elapsed() < REREAD_AFTER => servers.clone(),
            _ => {
                let text = std::fs::read_to_string(&self.path).unwrap_or_default();
                let parsed = ResolvConf::parse(&text);
                let parsed = ResolvConf { has_our_lines: parsed.has_our_lines || self.always, ..parsed };
                let mut servers = parsed.upstreams(self.range);
                servers.retain(|server| self.own.is_none_or(|own| !is_same(own, *server)));
                *read = Some((Instant::now(), servers.clone()));
                servers
            }
        }
    }
}

/// A socket of its own for each question, so that a forged reply must guess port and id.
async fn ask_by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    let (asked, id) = with_new_id(query);
    socket.send(&asked).await?;
    let mut reply = vec![0; LARGEST_REPLY];
    loop {
        let length = socket.recv(&mut reply).await?;
        if is_reply(&reply[..length], id) {
            reply.truncate(length);
            reply[..2].copy_from_slice(&query[..2]);
            return Ok(reply);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut stream = dial::own(server).await?;
    let (asked, id) = with_new_id(query);
    let length = u16::try_from(asked.len()).map_err(too_long)?;
    stream.write_all(&[&length.to_be_bytes()[..], &asked].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    if !is_reply(&reply, id) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    reply[..2].copy_from_slice(&query[..2]);
    Ok(reply)
}

/// `query` is a message that was decoded before, so it has a header.
fn with_new_id(query: &[u8]) -> (Vec<u8>, [u8; 2]) {
    let id: [u8; 2] = rand::random();
    let mut asked = query.to_vec();
    asked[..2].copy_from_slice(&id);
    (asked, id)
}

fn is_reply(bytes: &[u8], id: [u8; 2]) -> bool {
    bytes.len() >= 12 && bytes[..2] == id && bytes[2] & 0x80 != 0
}
