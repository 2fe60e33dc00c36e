//! From a configuration to a running driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use starling_gossip::{
    Config, CredentialVerifier, Engine, Lifeguard, Seeds, SigningKey, VerifiedCredential as Verified,
};
use starling_proto::mesh::v1::KeyringState;
use starling_proto::{Generation, MemberIdentity};
use starling_transport::{Dialer, Limits, Trust};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::catalog::OUTBOX;
use super::counters::Counters;
use super::data_dir::{DataDir, Found};
use super::driver::{Driver, JOBS, State};
use super::heartbeat::Heartbeat;
use super::keys;
use super::links::Links;
use super::peers::Peers;
use super::persist::{self, Desk, Unmet};
use super::resolver::Resolver;
use super::roster::SharedRoster;
use super::seed::Seed;
use super::{Inner, Mesh, MeshConfig, MeshError};

/// The mesh's roots, as gossip asks them.
struct Roots(Trust);

impl CredentialVerifier for Roots {
    fn verify(&self, credential: &[u8]) -> Result<Verified, String> {
        let checked = self.0.verify_credential(credential, SystemTime::now()).map_err(|error| error.to_string())?;
        Ok(Verified {
            spiffe: checked.spiffe,
            gossip_key: checked.gossip_key,
            node_id: checked.node_id,
            issued_at: checked.issued_at,
            services: checked.services,
        })
    }
}

pub(super) async fn start(config: MeshConfig) -> Result<Mesh, MeshError> {
    let (data, found) = DataDir::open(&config.data_dir)?;
    for damage in &found.damage {
        tracing::warn!("{damage}; going on without");
    }
    let socket = gossip_socket(&config).await?;
    let generation = boot_generation(&found);
    // On disk before anyone hears of it.
    data.generation().raise(generation, 0).map_err(MeshError::Generation)?;

    let now = Instant::now();
    let engine = engine(&config, &found.keys, generation, now)?;
    let this = engine.identity().node_id;
    let counters = Arc::new(Counters::default());
    let heartbeat = Arc::new(Heartbeat::new(now));
    let stop = CancellationToken::new();
    let roster = SharedRoster::default();
    let (jobs, inbound) = mpsc::channel(JOBS);
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    let limits = Limits { carriers: config.carriers, ..Limits::default() };
    let dialer = Dialer::bind(config.bind, &config.tls, &limits)?;
    let own = config.advertise.quic();
    let peers = Peers::new(dialer, own, Arc::clone(&roster), jobs.clone(), Arc::clone(&counters), stop.clone());
    let peers = Arc::new(peers);
    tokio::spawn(Arc::clone(&peers).run_sends(outgoing));

    let view = engine.view();
    let (views, view_changes) = watch::channel(Arc::clone(&view));
    let disk = Arc::new(Desk::default());
    let generation_file = data.generation();
    tokio::spawn(persist::run(data, Arc::clone(&disk), Arc::clone(&counters), stop.clone()));
    let unmet = Unmet::new(found.members, found.records, this);
    let seeds = config.seeds.iter().filter(|seed| **seed != Seed::Addr(own)).cloned();
    let hints = unmet.addresses().filter(|address| *address != own);
    let view = Arc::new(ArcSwap::new(view));
    let links = Arc::new(Links::default());
    let mut driver = Driver {
        this,
        zone: config.zone,
        cluster: config.identity.trust_domain().to_string(),
        seeds: Seeds::new(seeds, hints.map(Seed::Addr), config.timings.seeds.clone(), now),
        unmet,
        timings: config.timings,
        socket,
        jobs: inbound,
        links: Arc::clone(&links),
        peers: Arc::clone(&peers),
        counters: Arc::clone(&counters),
        heartbeat: Arc::clone(&heartbeat),
        roster,
        view: Arc::clone(&view),
        views,
        disk,
        generation: generation_file,
        outbox,
        resolver: Arc::new(Resolver::new(config.bind)),
        stop: stop.clone(),
        state: State::new(now),
        engine,
    };
    driver.start_catalog().await?;
    tokio::spawn(driver.run());
    Ok(Mesh {
        inner: Arc::new(Inner { id: this, view, views: view_changes, jobs, links, peers, counters, heartbeat, stop }),
    })
}

async fn gossip_socket(config: &MeshConfig) -> Result<UdpSocket, MeshError> {
    let address = SocketAddr::new(config.bind, config.advertise.gossip_port);
    UdpSocket::bind(address).await.map_err(|source| MeshError::Bind { address, source })
}

/// Above what is on disk and above the clock; above what the mesh remembers the engine raises it itself.
fn boot_generation(found: &Found) -> Generation {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Generation::at_boot(now, found.generation.map(|(generation, _)| generation), None)
}

fn engine(
    config: &MeshConfig,
    on_disk: &[KeyringState],
    generation: Generation,
    now: Instant,
) -> Result<Engine, MeshError> {
    let identity = &config.identity;
    let key = |error: &dyn std::fmt::Display| MeshError::Key(error.to_string());
    let signing_key = SigningKey::from_seed(**identity.gossip_seed()).map_err(|error| key(&error))?;
    let keyring = keys::keyring(identity, on_disk)?;
    let gossip = Config {
        identity: MemberIdentity {
            node_id: identity.node_id(),
            address: config.advertise,
            generation,
            rejoin: 0,
            cell: 0,
        },
        spiffe: identity.spiffe().clone(),
        credential: identity.credential(),
        signing_key,
        keyring,
        member_limit: config.member_limit,
        zone: config.zone.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shards: config.shards,
        timings: config.timings.gossip.clone(),
        lifeguard: Lifeguard::On,
    };
    // The thread's generator is seeded by the operating system.
    Ok(Engine::new(gossip, Box::new(Roots(identity.trust().clone())), rand::random(), now))
}
