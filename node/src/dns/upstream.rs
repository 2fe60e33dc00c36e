use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::VipRange;
use crate::capture::ResolvConf;

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
    read: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Upstreams {
    /// The host's own resolvers, as [`crate::capture::install`] leaves them in this file (`/etc/resolv.conf`).
    pub fn system(path: &Path, range: VipRange) -> Self {
        Self::System(SystemResolvers { path: path.to_owned(), range, read: Mutex::new(None) })
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
        for server in servers.into_iter().take(MOST_SERVERS) {
            let exchange =
                async { if over_tcp { ask_by_tcp(server, query).await } else { ask_by_udp(server, query).await } };
            match tokio::time::timeout(PATIENCE, exchange).await {
                Ok(Ok(reply)) => return Answered::Reply(reply),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a resolver of this host failed"),
                Err(_) => tracing::debug!(%server, "a resolver of this host did not answer in time"),
            }
        }
        Answered::NoReply
    }
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
                let servers = ResolvConf::parse(&text).upstreams(self.range);
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
    let mut stream = TcpStream::connect(server).await?;
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
