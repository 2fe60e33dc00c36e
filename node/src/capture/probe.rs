use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns::VipRange;

/// Nothing listens here but the redirect (port 1 was tcpmux, RFC 1078).
const PROBE_PORT: u16 = 1;
const GREETING: &[u8; 16] = b"starling capture";
const PATIENCE: Duration = Duration::from_secs(1);

/// Does a connection to a VIP arrive at a node? Listing nftables takes privilege, so the node tries it: it connects to
/// the reserved [`VipRange::probe_address`], and whoever accepts captured connections must answer with [`answer_probe`].
///
/// False when the redirect is missing or when no node accepts captured connections within a second.
pub async fn redirect_works(range: VipRange) -> bool {
    let greeted = async {
        let mut stream = TcpStream::connect((range.probe_address(), PROBE_PORT)).await?;
        let mut greeting = [0; GREETING.len()];
        stream.read_exact(&mut greeting).await?;
        io::Result::Ok(greeting == *GREETING)
    };
    matches!(tokio::time::timeout(PATIENCE, greeted).await, Ok(Ok(true)))
}

/// Is this original destination that of [`redirect_works`]?
pub fn is_probe(range: VipRange, destination: SocketAddrV4) -> bool {
    *destination.ip() == range.probe_address()
}

/// Answers a connection for which [`is_probe`] holds.
pub async fn answer_probe(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(GREETING).await?;
    stream.shutdown().await
}
