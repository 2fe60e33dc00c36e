//! How soon a service that speaks first is heard, through two real agents with a long path between them.
//!
//! With no mesh, over such a path, a caller has the first byte two round trips after it began to dial: SYN and SYN-ACK, then ACK
//! and greeting. That figure is reckoned, not measured: no program can delay a SYN. Through the mesh the caller dials its own agent, and
//! over a connection between the agents that is open already one round trip is enough: the stream's head out, the greeting back.

mod relay;
mod relay_tcp;
mod report;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pair::{Addresses, Offer, Pair};
use crate::services::{Services, listen};
use relay::{Carried, ECHO, Relay};
pub use report::{Carriage, Figure, FirstByteReport, Greeted};

const GREETING: &[u8] = b"220 hello, speak\r\n";
/// A greeting that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sent through the relay and back, one after the other.
const ECHOES: usize = 20;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct FirstBytePlan {
    /// The path's round trip between the two agents; half of it each way.
    pub round_trip: Duration,
    /// Connections to each of the two services, one after the other, behind the first.
    pub connections: usize,
}

/// Measures it.
///
/// # Panics
/// If the agents do not start, or do not find each other.
#[track_caller]
pub fn measure(plan: &FirstBytePlan) -> FirstByteReport {
    let addresses = Addresses::claim();
    let carried = Arc::new(Carried::default());
    let fronts = addresses.between();
    let nodes = [addresses.caller(), addresses.server()];
    let relay = Relay { delay: plan.round_trip / 2, fronts, nodes, carried: Arc::clone(&carried) };
    let (_services, offers) = serve(relay);
    let mut failed = Vec::new();
    let path = echo(nodes[0], fronts[1], &mut failed);
    let mut agents = Pair::start(addresses, offers.clone(), true);
    agents.wait_until_whole();
    let before = Carriage::of(&carried);
    // The first connection of all comes as soon as the caller's agent knows the services, and nothing has been asked before.
    let firsts: Vec<_> = offers.iter().map(|offer| first_byte(agents.way(offer.name))).collect();
    let mut greeted = Vec::new();
    for (offer, first) in offers.iter().zip(firsts) {
        let further = (0..plan.connections).map(|_| first_byte(agents.way(offer.name)));
        greeted.push(Greeted::new(offer, plan.round_trip, first, further.collect(), &mut failed));
    }
    let carriage = Carriage::of(&carried).since(before);
    failed.extend(agents.ended());
    failed.extend(agents.panics());
    FirstByteReport::new(plan, path, greeted, carriage, failed)
}

/// The relay, and two services that speak first.
fn serve(relay: Relay) -> (Services, Vec<Offer>) {
    Services::start(move || async move {
        relay.start().await.expect("the relay's ports are free");
        let address = listen(greet).await;
        vec![
            Offer { name: "declared", protocol: "tcp", port: 9001, address },
            Offer { name: "detected", protocol: "detect", port: 9002, address },
        ]
    })
}

/// Speaks as soon as it has accepted, and goes when the caller does.
async fn greet(mut stream: tokio::net::TcpStream) {
    if stream.write_all(GREETING).await.is_ok() {
        let _ = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
    }
}

/// From the beginning of `connect()` to the first byte of the greeting, which must be right.
fn first_byte(way: SocketAddr) -> Result<Duration, String> {
    let failed = |what: &str, error: &std::io::Error| format!("{way}: {what}: {error}");
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&way, PATIENCE).map_err(|error| failed("connect", &error))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed("connect", &error))?;
    let mut greeting = vec![0; GREETING.len()];
    stream.read_exact(&mut greeting[..1]).map_err(|error| failed("first byte", &error))?;
    let took = begun.elapsed();
    stream.read_exact(&mut greeting[1..]).map_err(|error| failed("greeting", &error))?;
    if greeting == GREETING { Ok(took) } else { Err(format!("{way}: a greeting of {greeting:?}")) }
}

/// The median of what datagrams take through the relay and back. They need no mesh, and show what the path is.
fn echo(here: Ipv4Addr, at: Ipv4Addr, failed: &mut Vec<String>) -> Duration {
    let once = || {
        let socket = UdpSocket::bind((here, 0))?;
        socket.connect((at, ECHO))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let begun = Instant::now();
        socket.send(b"echo")?;
        socket.recv(&mut [0; 64])?;
        Ok::<_, std::io::Error>(begun.elapsed())
    };
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..ECHOES {
        match once() {
            Ok(round_trip) => took.push(round_trip),
            Err(error) => failed.push(format!("an echo through the relay: {error}")),
        }
    }
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}
