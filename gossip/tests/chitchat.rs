//! Real chitchat instances that talk through `catalog::wire::check`: every message they make must pass, and what is
//! written anew must carry them to the same state.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, ChitchatMessage, Deserializable, FailureDetectorConfig,
    Serializable, spawn_chitchat,
};
use proptest::prelude::*;
use starling_gossip::SigningKey;
use starling_gossip::catalog::wire::{self, Admission, Admitted, Context, Replica, ReplicaId, Skipped};
use starling_gossip::catalog::{Catalog, Change, MAX_VALUE, text};
use starling_proto::{Generation, NodeId};
use tokio::sync::mpsc;

const CLUSTER: &str = "demo.example";
const ROUND: Duration = Duration::from_secs(3);

type Inbox = mpsc::UnboundedSender<(SocketAddr, Vec<u8>)>;

/// Who is admitted, where messages go, and what the checker said.
#[derive(Default)]
struct Mesh {
    admitted: Mutex<BTreeMap<NodeId, Admitted>>,
    inboxes: Mutex<BTreeMap<SocketAddr, Inbox>>,
    refused: Mutex<Vec<String>>,
    skipped: Mutex<Vec<Skipped>>,
    passed: Mutex<usize>,
}

impl Admission for Mesh {
    fn admitted(&self, node: NodeId) -> Option<Admitted> {
        self.admitted.lock().unwrap().get(&node).cloned()
    }
}

struct Held<'a>(&'a Chitchat);

fn chitchat_id(id: &ReplicaId) -> ChitchatId {
    ChitchatId::new(id.node.to_string(), id.generation, id.address)
}

impl Replica for Held<'_> {
    fn ids(&self) -> usize {
        self.0.node_states().len()
    }

    fn max_version(&self, id: &ReplicaId) -> Option<u64> {
        self.0.node_state(&chitchat_id(id)).map(chitchat::NodeState::max_version)
    }

    fn sizes(&self, id: &ReplicaId) -> BTreeMap<String, usize> {
        let state = self.0.node_state(&chitchat_id(id));
        state
            .into_iter()
            .flat_map(chitchat::NodeState::key_values)
            .map(|(key, text)| (key.to_owned(), text.len()))
            .collect()
    }
}

type Shared = Arc<OnceLock<Weak<tokio::sync::Mutex<Chitchat>>>>;

struct Checked {
    this: ReplicaId,
    mesh: Arc<Mesh>,
    chitchat: Shared,
    inbox: mpsc::UnboundedReceiver<(SocketAddr, Vec<u8>)>,
    beat: u64,
}

struct Opener {
    this: ReplicaId,
    mesh: Arc<Mesh>,
    chitchat: Shared,
}

#[async_trait]
impl Transport for Opener {
    async fn open(&self, address: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::unbounded_channel();
        self.mesh.inboxes.lock().unwrap().insert(address, sender);
        let (mesh, chitchat) = (Arc::clone(&self.mesh), Arc::clone(&self.chitchat));
        Ok(Box::new(Checked { this: self.this, mesh, chitchat, inbox, beat: 1 }))
    }
}

#[async_trait]
impl Socket for Checked {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if let Some(inbox) = self.mesh.inboxes.lock().unwrap().get(&to) {
            let _ = inbox.send((self.this.address, message.serialize_to_vec()));
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (from, bytes) = self.inbox.recv().await.expect("the mesh holds the sender");
            let chitchat = self.chitchat.get().and_then(Weak::upgrade).expect("running");
            let chitchat = chitchat.lock().await;
            self.beat += 1;
            let replica = Held(&chitchat);
            let (this, admission) = (&self.this, &*self.mesh);
            let context = Context { this, cluster: CLUSTER, admission, replica: &replica, beat: self.beat };
            match wire::check(&bytes, &context) {
                Ok(checked) => {
                    *self.mesh.passed.lock().unwrap() += 1;
                    self.mesh.skipped.lock().unwrap().push(checked.skipped);
                    return Ok((from, ChitchatMessage::deserialize(&mut &checked.bytes[..])?));
                }
                Err(error) => self.mesh.refused.lock().unwrap().push(error.to_string()),
            }
        }
    }
}

struct Node {
    id: ReplicaId,
    key: SigningKey,
    catalog: Catalog,
    handle: ChitchatHandle,
}

impl Node {
    async fn start(mesh: &Arc<Mesh>, seed: u8, generation: u32) -> Self {
        let key = SigningKey::from_seed([seed; 32]).unwrap();
        let node = NodeId::of_key(&key.public_key());
        let address = SocketAddr::from(([10, 0, 0, seed], 7947));
        let id = ReplicaId { node, generation: generation.into(), address };
        let admitted =
            Admitted { generation: Generation(generation), address, public_key: key.public_key(), alive: true };
        mesh.admitted.lock().unwrap().insert(node, admitted);
        let config = ChitchatConfig {
            chitchat_id: chitchat_id(&id),
            cluster_id: CLUSTER.into(),
            gossip_interval: ROUND,
            listen_addr: address,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig { sampling_window_size: 64, ..Default::default() },
            marked_for_deletion_grace_period: Duration::from_hours(1),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let opener = Opener { this: id, mesh: Arc::clone(mesh), chitchat: Shared::default() };
        let shared = Arc::clone(&opener.chitchat);
        let handle = spawn_chitchat(config, Vec::new(), &opener).await.unwrap();
        shared.set(Arc::downgrade(&handle.chitchat())).unwrap();
        Self { id, catalog: Catalog::new(node, Generation(generation)), key, handle }
    }

    async fn put(&mut self, key: &str, value: Bytes) {
        let known = self.catalog.hash();
        let encoded = self.catalog.set(key, value, &self.key).unwrap();
        if self.catalog.hash() != known {
            self.tell(key, &encoded).await;
        }
    }

    async fn withdraw(&mut self, key: &str) {
        let known = self.catalog.hash();
        if let Ok(encoded) = self.catalog.withdraw(key, &self.key)
            && self.catalog.hash() != known
        {
            self.tell(key, &encoded).await;
        }
    }

    async fn tell(&self, key: &str, encoded: &Bytes) {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(key, text::encode(encoded))).await;
    }

    /// What this node's chitchat holds, as a catalog that checks it all once more.
    async fn read(&self, mesh: &Mesh) -> Catalog {
        let mut catalog = Catalog::new(NodeId::from_bytes([0; 16]), Generation(1));
        let admitted = mesh.admitted.lock().unwrap().clone();
        let chitchat = self.handle.chitchat();
        for (id, state) in chitchat.lock().await.node_states() {
            let owner: NodeId = id.node_id.parse().unwrap();
            if u64::from(admitted[&owner].generation.0) == id.generation_id {
                for (key, value) in state.key_values() {
                    let change = catalog.apply(owner, key, &text::decode(value).unwrap(), &admitted[&owner].public_key);
                    assert_eq!(change, Ok(Change::Changed));
                }
            }
        }
        catalog
    }
}

async fn agree(mesh: &Mesh, nodes: &[Node]) {
    let expected = nodes.iter().fold(0_u64, |sum, node| sum.wrapping_add(node.catalog.hash()));
    for _ in 0..400 {
        let mut all = true;
        for node in nodes {
            all &= node.read(mesh).await.hash() == expected;
        }
        if all {
            return;
        }
        tokio::time::sleep(ROUND).await;
    }
    panic!("the nodes do not agree after 400 rounds");
}

fn introduce(nodes: &[Node]) {
    for pair in nodes.windows(2) {
        pair[1].handle.gossip(pair[0].id.address).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_message_of_honest_nodes_passes_through_growth_change_withdrawal_and_a_restart() {
    let mesh = Arc::new(Mesh::default());
    let mut nodes = Vec::new();
    for seed in 1..=5 {
        nodes.push(Node::start(&mesh, seed, 5).await);
    }
    introduce(&nodes);
    for node in &mut nodes {
        node.put("one", "1".into()).await;
        // Enough that a delta is cut by chitchat's own limit: 5 * 14 * 4 KiB.
        for n in 0..14 {
            let noise: Vec<u8> = (0..MAX_VALUE - 300).map(|at| (at * at * (n + 7)).to_le_bytes()[1]).collect();
            node.put(&format!("big{n}"), noise.into()).await;
        }
    }
    agree(&mesh, &nodes).await;
    for node in &mut nodes {
        node.put("one", "2".into()).await;
        node.withdraw("big0").await;
    }
    agree(&mesh, &nodes).await;
    nodes.pop().unwrap().handle.abort();
    let mut again = Node::start(&mesh, 5, 6).await;
    again.put("one", "3".into()).await;
    nodes.push(again);
    introduce(&nodes);
    agree(&mesh, &nodes).await;
    assert_eq!(*mesh.refused.lock().unwrap(), Vec::<String>::new());
    assert!(*mesh.passed.lock().unwrap() > 20);
    let skipped = mesh.skipped.lock().unwrap();
    assert!(skipped.iter().all(|skipped| skipped.full.is_empty()), "{skipped:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn honest_nodes_agree_whatever_they_set_and_withdraw(
        steps in proptest::collection::vec((0..3_usize, 0..4_u8, proptest::option::of(0..200_usize), 0..4_000_u64), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mesh = Arc::new(Mesh::default());
            let mut nodes = Vec::new();
            for seed in 1..=3 {
                nodes.push(Node::start(&mesh, seed, 5).await);
            }
            introduce(&nodes);
            for (who, key, what, wait) in steps {
                let key = format!("k{key}");
                match what {
                    Some(len) => nodes[who].put(&key, vec![7; len].into()).await,
                    None => nodes[who].withdraw(&key).await,
                }
                nodes[who].handle.gossip(nodes[(who + 1) % 3].id.address).unwrap();
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            agree(&mesh, &nodes).await;
            assert_eq!(*mesh.refused.lock().unwrap(), Vec::<String>::new());
        });
    }
}
