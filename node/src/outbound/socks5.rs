//! SOCKS5 (RFC 1928): CONNECT without authentication, to names and addresses of the mesh and beyond it.

mod handshake;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use starling_proto::{ErrorCode, Protocol};
use tokio::net::TcpStream;

use self::handshake::{Host, Refusal, Reply};
use super::pass::NotPassed;
use super::target::Target;
use super::{Caller, Destination, Inlet, Way, entry, pass, tcp};
use crate::failure::Failure;
use crate::rejected::Rejected;
use crate::shard::Shard;

/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said for our own address where there is none to tell.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Serves one connection.
pub(super) async fn serve(shard: Arc<Shard>, mut stream: TcpStream, inlet: &Inlet, caller: Caller) {
    let asked = match tokio::time::timeout(PATIENCE, handshake::ask(&mut stream)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(Refusal::Broken(error))) => {
            return tracing::debug!(%error, "a client left in the middle of its SOCKS5 request");
        }
        Ok(Err(Refusal::Malformed)) | Err(_) => return shard.plane.telemetry.on_rejected(Rejected::Socks),
        Ok(Err(Refusal::Answered(reply))) => return refuse(&mut stream, reply).await,
    };
    let target = match asked.host {
        Host::Name(name) => of_name(&shard, &name, asked.port).await,
        Host::Address(ip) => of_addresses(&shard, vec![SocketAddr::new(ip, asked.port)]),
    };
    match target {
        Ok(Leads::To(destination)) => to_service(shard, stream, destination, caller).await,
        Ok(Leads::Beyond(addresses)) => match pass::connect(&shard, &addresses, inlet.netns.as_ref()).await {
            Ok(dialed) => {
                let bound = dialed.stream.local_addr().unwrap_or(NO_ADDRESS);
                if handshake::reply(&mut stream, Reply::Succeeded, bound).await.is_ok() {
                    pass::carry(&shard, stream, dialed).await;
                }
            }
            Err(NotPassed::Forbidden) => refuse(&mut stream, Reply::NotAllowed).await,
            Err(NotPassed::Failed(error)) => refuse(&mut stream, Reply::of_error(&error)).await,
        },
        Err(reply) => refuse(&mut stream, reply).await,
    }
}

/// Where a request leads.
enum Leads {
    To(Destination),
    Beyond(Vec<SocketAddr>),
}

async fn of_name(shard: &Shard, name: &str, port: u16) -> Result<Leads, Reply> {
    let suffix = &shard.plane.suffix;
    let host = name.trim_end_matches('.').to_ascii_lowercase();
    if host == *suffix || host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.')) {
        // Whatever else ends so is no name beyond the mesh either.
        let service = host.strip_suffix(&format!(".{suffix}")).and_then(|name| name.parse().ok());
        return service.map(|service| Leads::To(Destination { service, port })).ok_or(Reply::HostUnreachable);
    }
    let looking_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), port)));
    match looking_up.await {
        Ok(Ok(found)) => of_addresses(shard, found.collect()),
        Ok(Err(_)) | Err(_) => Err(Reply::HostUnreachable),
    }
}

fn of_addresses(shard: &Shard, addresses: Vec<SocketAddr>) -> Result<Leads, Reply> {
    for address in &addresses {
        match Target::of(shard, *address) {
            Target::Service(destination) => return Ok(Leads::To(destination)),
            Target::Probe | Target::Nobody => return Err(Reply::HostUnreachable),
            Target::Beyond(_) => {}
        }
    }
    if addresses.is_empty() { Err(Reply::HostUnreachable) } else { Ok(Leads::Beyond(addresses)) }
}

async fn to_service(shard: Arc<Shard>, mut stream: TcpStream, to: Destination, caller: Caller) {
    let offered = shard.plane.clusters.load().cluster(&to.service).is_some_and(|cluster| !cluster.is_empty());
    if !offered {
        return refuse(&mut stream, Reply::HostUnreachable).await;
    }
    let protocol = entry::spoken(&shard, &to);
    if protocol.is_http() || protocol == Protocol::Detect {
        // What fails later is said in HTTP.
        if handshake::reply(&mut stream, Reply::Succeeded, NO_ADDRESS).await.is_ok() {
            let way = Way::To { destination: to, protocol: Some(protocol) };
            entry::serve_way(shard, stream, way, caller).await;
        }
        return;
    }
    match tcp::open(&shard, &caller, &to).await {
        Ok(tunnel) => {
            if handshake::reply(&mut stream, Reply::Succeeded, NO_ADDRESS).await.is_ok() {
                tunnel.carry(stream.into(), bytes::Bytes::new()).await;
            }
        }
        Err((mut record, failure)) => {
            record.fail(&failure);
            refuse(&mut stream, Reply::of_failure(&failure)).await;
        }
    }
}

async fn refuse(stream: &mut TcpStream, reply: Reply) {
    // It may have gone already.
    let _ = handshake::reply(stream, reply, NO_ADDRESS).await;
}

impl Reply {
    /// The word for a failure within the mesh.
    fn of_failure(failure: &Failure) -> Self {
        match failure.code {
            ErrorCode::Refused => Self::NotAllowed,
            ErrorCode::UpstreamConnect => Self::ConnectionRefused,
            ErrorCode::NoSuchService
            | ErrorCode::NoEndpoint
            | ErrorCode::NotServedHere
            | ErrorCode::ConnectFailed
            | ErrorCode::ConnectTimeout
            | ErrorCode::ConnectionSilent
            | ErrorCode::ConnectionLost
            | ErrorCode::TryTimeout
            | ErrorCode::Deadline => Self::HostUnreachable,
            _ => Self::Failed,
        }
    }
}
