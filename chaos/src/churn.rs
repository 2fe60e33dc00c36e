//! Requests over connections that are opened, cut, half-closed and reset at random, through two real agents: each answer
//! carries its request's nonce, and at the end both agents hold what they held before.
//!
//! All that happens is drawn from a seed: what each connection does, and what its requests ask of the service (the service
//! obeys: it resets, hangs up, answers early). How the threads interleave is not, and need not be: what is held to account
//! holds under every order.

mod census;
mod http1;
mod http1_client;
mod http1_server;
mod http2_client;
mod http2_server;
mod ledger;
mod order;
mod report;
mod tcp;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use census::Census;
pub use census::Held;
use ledger::{Ledger, Outcome};
pub use report::ChurnReport;

use crate::pair::{Addresses, Offer, Pair};
use crate::services::{Services, listen};

/// What to play.
#[derive(Debug, Clone, Copy)]
pub struct ChurnPlan {
    /// Requests, connections of opaque TCP among them.
    pub requests: u64,
    /// What is drawn is drawn from this.
    pub seed: u64,
    /// Connections at a time.
    pub connections: usize,
}

/// One connection may take so long. Nothing that is asked for takes a tenth of it: whatever is still there was forgotten.
const SESSION: Duration = Duration::from_secs(30);
/// Requests before the first count, so that all that stays for good is there.
const WARM_UP: u64 = 500;

/// The ways into the caller's agent.
#[derive(Debug, Clone, Copy)]
struct Ways {
    /// To a service of HTTP/1.1.
    http1: SocketAddr,
    /// To one of HTTP/2.
    http2: SocketAddr,
    /// To that of HTTP/1.1, by an agent that finds out what is spoken.
    detected: SocketAddr,
    /// To one of opaque TCP.
    tcp: SocketAddr,
    /// To one that speaks first, found out as well.
    first: SocketAddr,
}

/// Plays it.
///
/// # Panics
/// If the agents do not start, or do not find each other.
#[track_caller]
pub fn play(plan: &ChurnPlan) -> ChurnReport {
    let ledger = Arc::new(Ledger::default());
    let (services, offers) = serve(&ledger);
    let mut agents = Pair::start(Addresses::claim(), offers, false);
    agents.wait_until_whole();
    let ways = Ways::of(&agents);
    let started = Instant::now();
    let wave = |number: u64, requests: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let seed = plan.seed.wrapping_mul(4).wrapping_add(number);
        runtime.block_on(drive(ways, Arc::clone(&ledger), requests, seed, plan.connections));
    };
    wave(0, WARM_UP);
    let warm = Census::at_rest(&agents, None);
    wave(1, plan.requests / 2);
    let half = Census::at_rest(&agents, Some(&warm));
    wave(2, plan.requests - plan.requests / 2);
    let whole = Census::at_rest(&agents, Some(&warm));
    let took = started.elapsed();
    let ended = agents.ended().into_iter().chain(agents.panics()).collect();
    drop(services);
    ChurnReport::new(plan, &ledger, &[warm, half, whole], ended, took)
}

/// So many requests, by as many connections at a time as it is said.
async fn drive(ways: Ways, ledger: Arc<Ledger>, requests: u64, seed: u64, connections: usize) {
    let left = Arc::new(AtomicU64::new(requests));
    let mut workers = JoinSet::new();
    for worker in 0..connections as u64 {
        let mut rng = StdRng::seed_from_u64(seed ^ worker.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (ledger, left) = (Arc::clone(&ledger), Arc::clone(&left));
        workers.spawn(async move {
            let mut session = Session { ledger, left, rng: StdRng::seed_from_u64(rng.random()) };
            while session.left.load(Ordering::Relaxed) > 0 {
                let begun = session.describe();
                let choice = rng.random_range(0..100);
                let ended = tokio::time::timeout(SESSION, session.play(ways, choice)).await;
                if ended.is_err() {
                    session.ledger.violation(format!("a connection of kind {choice} hangs; {begun}"));
                }
            }
        });
    }
    workers.join_all().await;
}

/// One connection after the other.
struct Session {
    ledger: Arc<Ledger>,
    left: Arc<AtomicU64>,
    rng: StdRng,
}

impl Session {
    async fn play(&mut self, ways: Ways, choice: u32) {
        let (to, kind) = match choice {
            0..35 => (ways.http1, 0),
            35..45 => (ways.http2, 0),
            45..55 => (ways.detected, 0),
            55..70 => (ways.http1, 1),
            70..80 => (ways.http2, 1),
            80..88 => (ways.tcp, 2),
            88..94 => (ways.first, 3),
            _ => (if choice.is_multiple_of(2) { ways.http1 } else { ways.http2 }, 4),
        };
        let Ok(stream) = TcpStream::connect(to).await else {
            self.ledger.violation(format!("the agent at {to} accepts no connection"));
            return tokio::time::sleep(Duration::from_secs(1)).await;
        };
        match kind {
            0 => http1_client::play(self, stream).await,
            1 => http2_client::play(self, stream).await,
            2 => tcp::play(self, stream, false).await,
            3 => tcp::play(self, stream, true).await,
            _ => websocket::play(self, stream).await,
        }
    }

    /// A request begins.
    fn begin(&self) {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1))).ok();
        self.ledger.count(Outcome::Asked);
    }

    fn describe(&self) -> String {
        format!("{} requests are left", self.left.load(Ordering::Relaxed))
    }

    /// One of a hundred, so many times?
    fn percent(&mut self, share: u32) -> bool {
        self.rng.random_range(0..100) < share
    }
}

impl Ways {
    fn of(agents: &Pair) -> Self {
        let [http1, http2, detected, tcp, first] =
            ["http1", "http2", "detected", "tcp", "first"].map(|name| agents.way(name));
        Self { http1, http2, detected, tcp, first }
    }
}

/// Starts the services.
fn serve(ledger: &Arc<Ledger>) -> (Services, Vec<Offer>) {
    let ledger = Arc::clone(ledger);
    Services::start(move || async move {
        let each = || Arc::clone(&ledger);
        let own = each();
        let http1 = listen(move |stream| http1_server::serve(stream, Arc::clone(&own))).await;
        let own = each();
        let http2 = listen(move |stream| http2_server::serve(stream, Arc::clone(&own))).await;
        let own = each();
        let tcp = listen(move |stream| tcp::serve(stream, Arc::clone(&own), false)).await;
        let own = each();
        let first = listen(move |stream| tcp::serve(stream, Arc::clone(&own), true)).await;
        vec![
            Offer { name: "http1", protocol: "http", port: 9001, address: http1 },
            Offer { name: "http2", protocol: "http2", port: 9002, address: http2 },
            Offer { name: "detected", protocol: "detect", port: 9003, address: http1 },
            Offer { name: "tcp", protocol: "tcp", port: 9004, address: tcp },
            Offer { name: "first", protocol: "detect", port: 9005, address: first },
        ]
    })
}
