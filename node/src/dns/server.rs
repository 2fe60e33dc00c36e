use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::counts::Asked;
use super::upstream::Answered;
use super::{DnsCounts, Upstreams, Verdict, Zone};

/// A query larger than this is no question a program asks (RFC 6891 suggests 4096).
const LARGEST_QUERY: usize = 4096;

/// Questions that wait for the host's resolvers at one time.
const MOST_FORWARDED: usize = 256;

/// TCP connections at one time; each needs a descriptor.
const MOST_CONNECTIONS: usize = 64;

/// How long a TCP connection may say nothing (RFC 7766, section 6.2.3: a few seconds).
const TCP_IDLE: Duration = Duration::from_secs(5);

/// A pause after a socket error such as "too many open files", so that it never becomes a busy loop.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Answers for the mesh's names on one UDP and one TCP port. Only this host is answered.
pub struct DnsServer {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    desk: Arc<Desk>,
}

struct Desk {
    zone: Zone,
    upstreams: Upstreams,
    forwarding: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    counts: Arc<DnsCounts>,
}

impl DnsServer {
    /// Binds UDP and TCP to the address. With port 0 both get the same free port.
    pub async fn bind(address: SocketAddr, zone: Zone, upstreams: Upstreams) -> io::Result<Self> {
        let tcp = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        tcp.set_reuseaddr(true)?;
        tcp.bind(address)?;
        let tcp = tcp.listen(128)?;
        let udp = UdpSocket::bind(tcp.local_addr()?).await?;
        Self::new(tcp, udp, zone, upstreams)
    }

    /// Takes sockets that are bound already, to one address.
    pub fn of_sockets(
        tcp: std::net::TcpListener,
        udp: std::net::UdpSocket,
        zone: Zone,
        upstreams: Upstreams,
    ) -> io::Result<Self> {
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Self::new(TcpListener::from_std(tcp)?, UdpSocket::from_std(udp)?, zone, upstreams)
    }

    fn new(tcp: TcpListener, udp: UdpSocket, zone: Zone, upstreams: Upstreams) -> io::Result<Self> {
        let upstreams = upstreams.but_not(udp.local_addr()?);
        let desk = Desk {
            zone,
            upstreams,
            forwarding: Arc::new(Semaphore::new(MOST_FORWARDED)),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            counts: Arc::default(),
        };
        Ok(Self { udp: Arc::new(udp), tcp, desk: Arc::new(desk) })
    }

    /// What it counts.
    pub fn counts(&self) -> Arc<DnsCounts> {
        Arc::clone(&self.desk.counts)
    }

    /// Where it listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Answers until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve_udp(&self.udp, &self.desk) => {}
            () = serve_tcp(&self.tcp, &self.desk, &stop) => {}
        }
    }
}

async fn serve_udp(socket: &Arc<UdpSocket>, desk: &Arc<Desk>) {
    let mut buffer = [0; LARGEST_QUERY];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "the DNS socket failed to receive");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if !desk.is_local(client) {
            continue;
        }
        match desk.zone.handle(&buffer[..length], SystemTime::now()) {
            Verdict::Reply(reply, code) => {
                desk.counts.on(Asked::of(code));
                send(socket, &Zone::fit(reply, &buffer[..length]), client).await;
            }
            Verdict::Ignore => desk.counts.on(Asked::Rejected),
            Verdict::Forward => {
                let query = buffer[..length].to_vec();
                let Ok(permit) = Arc::clone(&desk.forwarding).try_acquire_owned() else {
                    desk.counts.on(Asked::Overload);
                    if let Some(reply) = Zone::refuse(&query, ResponseCode::ServFail) {
                        send(socket, &reply, client).await;
                    }
                    continue;
                };
                let (socket, desk) = (Arc::clone(socket), Arc::clone(desk));
                tokio::spawn(async move {
                    if let Some(reply) = desk.forward(&query, false).await {
                        send(&socket, &reply, client).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%error, "a DNS answer was not sent");
    }
}

async fn serve_tcp(listener: &TcpListener, desk: &Arc<Desk>, stop: &CancellationToken) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "the DNS listener failed to accept");
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        if !desk.is_local(client) {
            continue;
        }
        let Ok(permit) = Arc::clone(&desk.connections).try_acquire_owned() else {
            desk.counts.on(Asked::Overload);
            continue;
        };
        let (desk, stop) = (Arc::clone(desk), stop.clone());
        tokio::spawn(async move {
            // A client that hangs up or says nothing is nobody's fault.
            let _ended = stop.run_until_cancelled(desk.converse(stream)).await;
            drop(permit);
        });
    }
}

impl Desk {
    fn is_local(&self, client: SocketAddr) -> bool {
        let local = client.ip().to_canonical().is_loopback();
        if !local {
            self.counts.on(Asked::Foreign);
        }
        local
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut query = Vec::new();
        loop {
            let length = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??;
            if usize::from(length) > LARGEST_QUERY {
                self.counts.on(Asked::Rejected);
                return Ok(());
            }
            query.resize(length.into(), 0);
            tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
            let reply = match self.zone.handle(&query, SystemTime::now()) {
                Verdict::Reply(reply, code) => {
                    self.counts.on(Asked::of(code));
                    reply
                }
                Verdict::Ignore => {
                    self.counts.on(Asked::Rejected);
                    return Ok(());
                }
                Verdict::Forward => match self.forward(&query, true).await {
                    Some(reply) => reply,
                    None => return Ok(()),
                },
            };
            let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            let framed = [&length.to_be_bytes()[..], &reply].concat();
            tokio::time::timeout(TCP_IDLE, stream.write_all(&framed)).await??;
        }
    }

    async fn forward(&self, query: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        match self.upstreams.ask(query, over_tcp).await {
            Answered::Reply(reply) => {
                self.counts.on(Asked::Forwarded);
                Some(reply)
            }
            Answered::NoReply => {
                self.counts.on(Asked::Unanswered);
                Zone::refuse(query, ResponseCode::ServFail)
            }
            Answered::NobodyToAsk => {
                self.counts.on(Asked::Rejected);
                Zone::refuse(query, ResponseCode::Refused)
            }
        }
    }
}

#[cfg(test)]
mod tests;
