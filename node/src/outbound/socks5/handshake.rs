//! What client and server say before the connection is the client's own (RFC 1928, sections 3 to 6). Nothing is read beyond it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

/// The reply's code (section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Succeeded = 0,
    /// General failure.
    Failed = 1,
    /// By the rules of this node or the far one.
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    /// BIND and UDP ASSOCIATE among them.
    CommandNotSupported = 7,
    AddressTypeNotSupported = 8,
}

/// Why there is nothing to connect to.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The client is gone.
    Broken(io::Error),
    /// It speaks something else, or wants an authentication that there is none of.
    Malformed,
    /// It is to be told this.
    Answered(Reply),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Reply {
    /// The word for a connection that was not made.
    pub(super) fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::ConnectionRefused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => Self::NetworkUnreachable,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Self::HostUnreachable,
            io::ErrorKind::PermissionDenied => Self::NotAllowed,
            _ => Self::Failed,
        }
    }
}

/// Agrees that there is no authentication, and reads the request.
pub(super) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Asked, Refusal> {
    if stream.read_u8().await? != VERSION {
        return Err(Refusal::Malformed);
    }
    let mut methods = [0; 255];
    let count = usize::from(stream.read_u8().await?);
    stream.read_exact(&mut methods[..count]).await?;
    if !methods[..count].contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(Refusal::Malformed);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, command, _reserved, kind] = head;
    if version != VERSION {
        return Err(Refusal::Malformed);
    }
    let host = match kind {
        IPV4 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            Host::Address(Ipv4Addr::from(octets).into())
        }
        IPV6 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            Host::Address(Ipv6Addr::from(octets).to_canonical())
        }
        NAME => {
            let mut octets = [0; 255];
            let length = usize::from(stream.read_u8().await?);
            stream.read_exact(&mut octets[..length]).await?;
            name(&octets[..length])?
        }
        _ => return Err(Refusal::Answered(Reply::AddressTypeNotSupported)),
    };
    let port = stream.read_u16().await?;
    if command == CONNECT { Ok(Asked { host, port }) } else { Err(Refusal::Answered(Reply::CommandNotSupported)) }
}

/// Some clients send an address as a name.
fn name(octets: &[u8]) -> Result<Host, Refusal> {
    let printable = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let text = std::str::from_utf8(octets).ok().filter(printable);
    let text = text.ok_or(Refusal::Answered(Reply::HostUnreachable))?;
    let address: Result<IpAddr, _> = text.trim_start_matches('[').trim_end_matches(']').parse();
    Ok(address.map_or_else(|_| Host::Name(text.to_owned()), |ip| Host::Address(ip.to_canonical())))
}

/// Says what became of it; `bound` is the address that the connection leaves from.
pub(super) async fn reply(stream: &mut (impl AsyncWrite + Unpin), code: Reply, bound: SocketAddr) -> io::Result<()> {
    let mut bytes = vec![VERSION, code as u8, 0];
    match bound.ip() {
        IpAddr::V4(ip) => {
            bytes.push(IPV4);
            bytes.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(IPV6);
            bytes.extend(ip.octets());
        }
    }
    bytes.extend(bound.port().to_be_bytes());
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BIND: u8 = 2;
    const UDP_ASSOCIATE: u8 = 3;

    /// What is made of these bytes, and what is said to the client meanwhile.
    fn read(bytes: &[u8]) -> (Result<Asked, Refusal>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = tokio::io::duplex(4096);
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let asked = ask(&mut server).await;
            drop(server);
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            (asked, said)
        })
    }

    fn request(command: u8, address: &[u8]) -> Vec<u8> {
        [&[5, 1, 0, 5, command, 0][..], address, &80_u16.to_be_bytes()].concat()
    }

    #[test]
    fn names_and_addresses_of_both_families_are_read() {
        let named = [&[3, 11][..], b"orders.mesh"].concat();
        let cases: [(&[u8], Host); 4] = [
            (&named, Host::Name("orders.mesh".to_owned())),
            (&[1, 10, 0, 0, 1], Host::Address("10.0.0.1".parse().unwrap())),
            (&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Host::Address("::1".parse().unwrap())),
            (
                &[3, 9, b'1', b'2', b'7', b'.', b'0', b'.', b'0', b'.', b'1'],
                Host::Address("127.0.0.1".parse().unwrap()),
            ),
        ];
        for (address, host) in cases {
            let (asked, said) = read(&request(CONNECT, address));
            assert_eq!(asked.unwrap(), Asked { host, port: 80 });
            assert_eq!(said, [5, 0], "no authentication");
        }
    }

    #[test]
    fn what_is_not_carried_gets_the_code_of_its_kind() {
        for (bytes, code) in [
            (request(BIND, &[1, 10, 0, 0, 1]), Reply::CommandNotSupported),
            (request(UDP_ASSOCIATE, &[1, 0, 0, 0, 0]), Reply::CommandNotSupported),
            (request(9, &[1, 10, 0, 0, 1]), Reply::CommandNotSupported),
            (request(CONNECT, &[2, 0, 0]), Reply::AddressTypeNotSupported),
            (request(CONNECT, &[3, 0]), Reply::HostUnreachable),
            (request(CONNECT, &[3, 1, b'\n']), Reply::HostUnreachable),
        ] {
            let (asked, _) = read(&bytes);
            assert!(matches!(asked, Err(Refusal::Answered(found)) if found == code), "{bytes:?}: {asked:?}");
        }
    }

    #[test]
    fn a_client_that_insists_on_a_password_is_told_that_no_method_fits() {
        let (asked, said) = read(&[5, 1, 2]);
        assert!(matches!(asked, Err(Refusal::Malformed)));
        assert_eq!(said, [5, 0xff]);
        assert!(matches!(read(&[4, 1, 0, 80]).0, Err(Refusal::Malformed)), "SOCKS4");
        assert!(matches!(read(b"GET / HTTP/1.1\r\n").0, Err(Refusal::Malformed)));
    }

    #[test]
    fn nothing_is_read_beyond_the_request() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, mut server) = tokio::io::duplex(4096);
            client.write_all(&[&request(CONNECT, &[1, 10, 0, 0, 1])[..], b"hello"].concat()).await.unwrap();
            ask(&mut server).await.unwrap();
            reply(&mut server, Reply::Succeeded, "[::1]:9".parse().unwrap()).await.unwrap();
            let mut early = [0; 5];
            server.read_exact(&mut early).await.unwrap();
            assert_eq!(&early, b"hello");
            let mut said = [0; 2 + 22];
            client.read_exact(&mut said).await.unwrap();
            assert_eq!(said[2..6], [5, 0, 0, 4]);
        });
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), good in any::<bool>()) {
            let start: &[u8] = if good { &[5, 1, 0] } else { &[] };
            let _ = read(&[start, &bytes].concat());
        }
    }
}
