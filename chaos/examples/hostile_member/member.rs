//! The part of it that keeps to the rules, so that it is a member: the real engine, on a socket of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use starling_gossip::{
    Config, CredentialVerifier, Engine, Input, Keyring, Lifeguard, Output, SigningKey, Timings, VerifiedCredential, raw,
};
use starling_proto::mesh::v1::{self, control_request, control_response};
use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId, SpiffeId};
use starling_transport::{Alpn, Connection, Dialer, Identity, Limits, Tls, Trust};
use tokio::net::UdpSocket;

use crate::{GOSSIP, QUIC};

const PATIENCE: Duration = Duration::from_secs(2);
/// What an answer may have, in bytes.
const MAX_ANSWER: usize = 8 << 20;
/// Datagrams of others that are kept to be sent again.
const CAPTURED: usize = 500;

struct Roots(Trust);

impl CredentialVerifier for Roots {
    fn verify(&self, credential: &[u8]) -> Result<VerifiedCredential, String> {
        let checked = self.0.verify_credential(credential, SystemTime::now()).map_err(|error| error.to_string())?;
        Ok(VerifiedCredential {
            spiffe: checked.spiffe,
            gossip_key: checked.gossip_key,
            node_id: checked.node_id,
            issued_at: checked.issued_at,
            services: checked.services,
        })
    }
}

pub(crate) struct Member {
    pub(crate) engine: Engine,
    pub(crate) key: SigningKey,
    pub(crate) keyring: Keyring,
    pub(crate) rng: StdRng,
    pub(crate) captured: VecDeque<Bytes>,
    /// Whose states were exchanged.
    pub(crate) joined: BTreeSet<SocketAddr>,
    pub(crate) notices: u64,
    /// Datagrams to others that came here, since somebody said that they are here.
    pub(crate) misled: u64,
    counter: u64,
    socket: UdpSocket,
    dialer: Dialer,
    connections: BTreeMap<SocketAddr, Connection>,
}

impl Member {
    pub(crate) async fn start(directory: &Path, ip: IpAddr) -> anyhow::Result<Self> {
        let identity = Identity::load(directory)?;
        let key = || SigningKey::from_seed(**identity.gossip_seed());
        let keyring = || Keyring::try_new(identity.group_keys());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let address = NodeAddress { ip, gossip_port: GOSSIP, quic_port: QUIC };
        // Above that of the agent which ran here before.
        let generation = Generation(u32::try_from(now)? + 60);
        let config = Config {
            identity: MemberIdentity { node_id: identity.node_id(), address, generation, rejoin: 0, cell: 0 },
            spiffe: identity.spiffe().clone(),
            credential: identity.credential(),
            signing_key: key()?,
            keyring: keyring()?,
            member_limit: Config::MEMBER_LIMIT,
            zone: String::new(),
            version: "hostile".to_owned(),
            shards: 1,
            timings: Timings::default(),
            lifeguard: Lifeguard::On,
        };
        Ok(Self {
            engine: Engine::new(config, Box::new(Roots(identity.trust().clone())), rand::random(), Instant::now()),
            key: key()?,
            keyring: keyring()?,
            rng: StdRng::seed_from_u64(7),
            captured: VecDeque::new(),
            joined: BTreeSet::new(),
            notices: 1 << 20,
            misled: 0,
            counter: 0,
            socket: UdpSocket::bind((ip, GOSSIP)).await?,
            dialer: Dialer::bind(ip, &Tls::try_new(&identity)?, &Limits::default())?,
            connections: BTreeMap::new(),
        })
    }

    /// The node at an address, as the engine knows it.
    pub(crate) fn at(&self, ip: IpAddr) -> Option<MemberIdentity> {
        self.others().into_iter().find(|other| other.address.ip == ip)
    }

    /// All others in the identities they have now: what is said of one they gave up is not even looked at.
    pub(crate) fn others(&self) -> Vec<MemberIdentity> {
        let members = self.engine.join_state(None).members.into_iter();
        members.filter_map(|member| MemberIdentity::try_from(member.identity.as_ref()?).ok()).collect()
    }

    /// A packet for a node, good but for what the caller puts in.
    pub(crate) fn packet(&mut self, to: NodeId) -> v1::Packet {
        self.counter += 1;
        let own = self.engine.identity();
        v1::Packet {
            version: 1,
            sender: own.node_id.to_bytes(),
            destination: to.to_bytes(),
            generation: own.generation.0,
            counter: self.counter,
            ..Default::default()
        }
    }

    pub(crate) fn seal(&mut self, packet: &v1::Packet) -> Option<Bytes> {
        raw::seal(packet, &self.key, &self.keyring, self.rng.random())
    }

    /// How many were sent: one, or none.
    pub(crate) async fn send(&mut self, to: SocketAddr, packet: &v1::Packet) -> u64 {
        match self.seal(packet) {
            Some(bytes) => self.send_bytes(to, &bytes).await,
            None => 0,
        }
    }

    /// Waits until its own socket has room: nothing is lost there.
    pub(crate) async fn send_bytes(&self, to: SocketAddr, bytes: &[u8]) -> u64 {
        u64::from(self.socket.send_to(bytes, to).await.is_ok())
    }

    /// Does what a member does, for a while.
    pub(crate) async fn run_until(&mut self, end: Instant) {
        let mut buffer = [0; 2_048];
        loop {
            let due = self.engine.poll_timeout().unwrap_or(end).min(end);
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received.ok(),
                () = tokio::time::sleep_until(due.into()) => None,
            };
            let input = match received {
                Some((len, from)) => {
                    let bytes = Bytes::copy_from_slice(&buffer[..len]);
                    if self.captured.len() == CAPTURED {
                        self.captured.pop_front();
                    }
                    self.captured.push_back(bytes.clone());
                    self.misled += u64::from(self.is_of_another(&bytes));
                    Input::Datagram { from, bytes }
                }
                None => Input::Tick,
            };
            self.give(input).await;
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn is_of_another(&self, bytes: &[u8]) -> bool {
        let own = self.engine.identity().node_id.to_bytes();
        raw::open(bytes, &self.keyring).is_ok_and(|packet| packet.destination != own)
    }

    async fn give(&mut self, input: Input) {
        for output in self.engine.handle(input, Instant::now()) {
            match output {
                Output::Send { to, bytes } => self.send_on(to, &bytes).await,
                Output::Dial { at, .. } if !self.joined.contains(&at) => Box::pin(self.join(at)).await,
                Output::Resolve { at, ids, .. } => {
                    let node_ids = ids.iter().map(NodeId::to_bytes).collect();
                    let asked = self.ask(at, control_request::Kind::Resolve(v1::Resolve { node_ids })).await;
                    if let Some((_, control_response::Kind::Resolved(resolved))) = asked {
                        Box::pin(self.give(Input::Resolved { members: resolved.members })).await;
                    }
                }
                _ => {}
            }
        }
    }

    /// What the engine sends takes its counter from the same row as all the rest.
    async fn send_on(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let Ok(mut packet) = raw::open(bytes, &self.keyring) {
            self.counter += 1;
            packet.counter = self.counter;
            self.send(to, &packet).await;
        }
    }

    /// This node's state, for a join.
    pub(crate) fn state(&self) -> v1::JoinState {
        v1::JoinState { counter_floor: self.counter, ..self.engine.join_state(None) }
    }

    pub(crate) async fn join(&mut self, at: SocketAddr) {
        let state = self.state();
        if let Some((peer, control_response::Kind::Join(state))) =
            self.ask(at, control_request::Kind::Join(state)).await
        {
            self.joined.insert(at);
            self.give(Input::Joined { peer, state }).await;
        }
    }

    async fn connection(&mut self, at: SocketAddr) -> Option<Connection> {
        if let Some(known) = self.connections.get(&at).filter(|known| known.lost().is_none()) {
            return Some(known.clone());
        }
        let made = self.dialer.connect(at, None, Alpn::Control, PATIENCE).await.ok()?;
        self.connections.insert(at, made.clone());
        Some(made)
    }

    pub(crate) async fn ask(
        &mut self,
        at: SocketAddr,
        kind: control_request::Kind,
    ) -> Option<(SpiffeId, control_response::Kind)> {
        let connection = self.connection(at).await?;
        let exchange = async {
            let (mut send, mut recv) = connection.open().await.ok()?;
            send.send_head(&v1::ControlRequest { kind: Some(kind) }).await.ok()?;
            send.finish().ok()?;
            recv.recv_head::<v1::ControlResponse>(MAX_ANSWER).await.ok()?.kind
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.ok()??;
        Some((connection.peer().spiffe.clone(), answer))
    }

    /// Was it sent?
    pub(crate) async fn push(&mut self, at: SocketAddr, chitchat: Vec<u8>) -> bool {
        let Some(connection) = self.connection(at).await else { return false };
        let pushing = async {
            let mut send = connection.open_uni().await.ok()?;
            let kind = v1::control_push::Kind::Chitchat(chitchat.into());
            send.send_head(&v1::ControlPush { kind: Some(kind) }).await.ok()?;
            send.finish().ok()
        };
        tokio::time::timeout(PATIENCE, pushing).await.is_ok_and(|sent| sent.is_some())
    }
}
