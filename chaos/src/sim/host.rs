use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use starling_gossip::{
    Config, CredentialVerifier, Engine, Keyring, Lifeguard, Remembered, Seeds, SigningKey, Timings, VerifiedCredential,
};
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId, SpiffeId};

use super::scenario::EngineSettings;
use super::world::Happening;

const GOSSIP: u16 = 7_946;
const QUIC: u16 = 7_947;
const GROUP_KEY: [u8; 32] = [42; 32];
/// Unix seconds at the start of a run.
pub(super) const EPOCH: i64 = 1_800_000_000;
/// A credential has a certificate, a key and two signatures: about as many bytes.
const CREDENTIAL: usize = 800;
/// Datagrams that the kernel keeps for a process that does not read: Linux's 208 KiB, by what it counts for a small one.
const SOCKET_BUFFER: usize = 256;

/// One simulated machine with one node.
pub(super) struct Host {
    pub(super) name: String,
    pub(super) id: NodeId,
    pub(super) address: NodeAddress,
    number: usize,
    /// The process; `None` while there is none.
    pub(super) engine: Option<Engine>,
    /// Rises with every start of a process.
    pub(super) boot: u32,
    /// How many faults keep the process from running: it is stopped, or waits for the CPU.
    pub(super) held: u32,
    /// By SIGSTOP.
    pub(super) suspended: bool,
    /// Its packets are stuck.
    pub(super) stalled: bool,
    /// Datagrams that are stuck on their way out.
    pub(super) outbox: Vec<(SocketAddr, Bytes)>,
    /// What came meanwhile.
    pub(super) waiting: VecDeque<Happening>,
    datagrams_waiting: usize,
    pub(super) tick_at: Option<Duration>,
    pub(super) seeds_at: Option<Duration>,
    pub(super) seeds: Seeds<usize>,
    pub(super) joining: BTreeSet<usize>,
    pub(super) calls: BTreeMap<u64, super::control::Pending>,
    /// Until when it accepts others.
    pub(super) busy_until: Duration,
    /// Peers with a connection for control streams, and when it was last used.
    pub(super) connections: BTreeMap<usize, Duration>,
    /// Data connections to others, and whether they are up.
    pub(super) links: BTreeMap<usize, bool>,
    /// What its clock is ahead, in seconds.
    pub(super) clock: i64,
    pub(super) disk: Option<Remembered>,
    /// For what happens to this host alone.
    pub(super) rng: StdRng,
}

impl Host {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        let [high, low] = u16::try_from(number + 1).unwrap_or(u16::MAX).to_be_bytes();
        let mut rng_seed = [0; 32];
        rng_seed[..8].copy_from_slice(&seed.to_be_bytes());
        rng_seed[8..16].copy_from_slice(&(number as u64).to_be_bytes());
        Self {
            name: format!("n{number}"),
            id: key(number).node_id(),
            address: NodeAddress { ip: IpAddr::from([10, 0, high, low]), gossip_port: GOSSIP, quic_port: QUIC },
            number,
            engine: None,
            boot: 0,
            held: 0,
            suspended: false,
            stalled: false,
            outbox: Vec::new(),
            waiting: VecDeque::new(),
            datagrams_waiting: 0,
            tick_at: None,
            seeds_at: None,
            seeds: Seeds::default(),
            joining: BTreeSet::new(),
            calls: BTreeMap::new(),
            busy_until: Duration::ZERO,
            connections: BTreeMap::new(),
            links: BTreeMap::new(),
            clock: 0,
            disk: None,
            rng: StdRng::from_seed(rng_seed),
        }
    }

    /// Does its process run now?
    pub(super) const fn runs(&self) -> bool {
        self.engine.is_some() && self.held == 0
    }

    pub(super) fn spiffe(&self) -> SpiffeId {
        spiffe(&self.name)
    }

    /// Unix seconds on its wall.
    pub(super) fn wall(&self, now: Duration) -> i64 {
        EPOCH + i64::try_from(now.as_secs()).unwrap_or(i64::MAX) + self.clock
    }

    /// Starts a process, with what the disk kept.
    pub(super) fn start(&mut self, settings: &EngineSettings, now: Duration, base: Instant) {
        let kept = self.disk.as_ref().map_or(0, |kept| kept.generation.0.saturating_add(1));
        let wall = u32::try_from(self.wall(now).max(0)).unwrap_or(u32::MAX);
        let generation = Generation(wall.max(kept));
        let config = config(self, generation, settings);
        self.stop();
        self.boot += 1;
        self.engine = Some(Engine::new(config, Box::new(Verifier), self.rng.random(), base + now));
    }

    /// Ends the process. What waited for it is lost.
    pub(super) fn stop(&mut self) {
        self.engine = None;
        self.waiting.clear();
        self.outbox.clear();
        self.datagrams_waiting = 0;
        self.joining.clear();
        self.calls.clear();
        self.connections.clear();
        self.links.clear();
        self.tick_at = None;
        self.seeds_at = None;
    }

    /// Keeps what comes while the process does not run. `false` if there is no room.
    pub(super) fn keep(&mut self, happening: Happening) -> bool {
        if matches!(happening, Happening::Datagram { .. }) {
            if self.datagrams_waiting == SOCKET_BUFFER {
                return false;
            }
            self.datagrams_waiting += 1;
        }
        self.waiting.push_back(happening);
        true
    }

    /// What came while the process did not run.
    pub(super) fn take_waiting(&mut self) -> VecDeque<Happening> {
        self.datagrams_waiting = 0;
        std::mem::take(&mut self.waiting)
    }
}

fn config(host: &Host, generation: Generation, settings: &EngineSettings) -> Config {
    let signing_key = key(host.number);
    let mut timings = Timings::default();
    if let Some([least, most]) = settings.suspicion {
        (timings.suspicion_min, timings.suspicion_max) = (least.0, most.0);
    }
    let identity = MemberIdentity { node_id: host.id, address: host.address, generation, rejoin: 0, cell: 0 };
    Config {
        identity,
        spiffe: host.spiffe(),
        credential: credential(&signing_key, &host.name),
        signing_key,
        keyring: Keyring::try_new(vec![(1, GROUP_KEY)]).expect("one key of epoch 1"),
        member_limit: settings.member_limit.unwrap_or(Config::MEMBER_LIMIT),
        zone: format!("zone-{}", host.number % 3),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shards: 1,
        timings,
        lifeguard: if settings.lifeguard == Some(false) { Lifeguard::Off } else { Lifeguard::On },
    }
}

fn key(number: usize) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    SigningKey::from_seed(seed).expect("any 32 bytes are a seed")
}

fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://sim.example/node/{name}").parse().expect("a plain name")
}

/// Key, name, and the room that certificates and signatures take.
fn credential(key: &SigningKey, name: &str) -> Bytes {
    let mut credential = [&key.public_key()[..], spiffe(name).to_string().as_bytes()].concat();
    credential.resize(CREDENTIAL, 0);
    credential.into()
}

/// Believes every credential: outsiders are not what is simulated.
struct Verifier;

impl CredentialVerifier for Verifier {
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String> {
        let (key, name) = credential.split_at_checked(32).ok_or("too short")?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let spiffe = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or("no name")?;
        let gossip_key = key.try_into().map_err(|_| "too short")?;
        let services = vec!["*/*".parse().map_err(|_| "no pattern")?];
        Ok(VerifiedCredential { spiffe, gossip_key, node_id: NodeId::of_key(key), issued_at: 1, services })
    }
}
