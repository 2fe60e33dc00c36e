//! Chitchat, apart from the simulator: it keeps a clock and randomness of its own, so it runs on tokio's paused time, and
//! is asked to converge rather than to replay. `gossip/tests/chitchat.rs` has its messages checked; here there are many nodes.

mod catalog {
    pub(crate) mod gate;
}

use std::net::SocketAddr;
use std::time::Duration;

use catalog::gate::Gate;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, spawn_chitchat};

/// As `node` runs it: a round every 3 s.
const ROUND: Duration = Duration::from_secs(3);
/// A signed service record in base64.
const VALUE: usize = 400;

struct Mesh {
    nodes: Vec<ChitchatHandle>,
    gate: Gate,
}

fn address(n: usize) -> SocketAddr {
    let [high, low] = u16::try_from(n + 1).unwrap().to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7_947))
}

impl Mesh {
    /// Nodes with two values each, each introduced to the one before it.
    async fn new(size: usize) -> Self {
        let gate = Gate::new(ROUND);
        let mut nodes = Vec::new();
        for n in 0..size {
            let config = ChitchatConfig {
                chitchat_id: ChitchatId::new(format!("{n:032x}"), 1, address(n)),
                cluster_id: "sim.example".to_owned(),
                gossip_interval: ROUND,
                listen_addr: address(n),
                seed_nodes: Vec::new(),
                // Nobody is ever dead: that is foca's to say, and `node` tells chitchat so by the heartbeats it lets in.
                failure_detector_config: FailureDetectorConfig {
                    phi_threshold: f64::MAX,
                    sampling_window_size: 64,
                    initial_interval: ROUND,
                    max_interval: ROUND * 4,
                    dead_node_grace_period: Duration::from_hours(24),
                },
                marked_for_deletion_grace_period: Duration::from_hours(24),
                catchup_callback: None,
                extra_liveness_predicate: None,
            };
            let values = ["node", "svc/default/orders/0"].map(|key| (key.to_owned(), "x".repeat(VALUE)));
            nodes.push(spawn_chitchat(config, values.into(), &gate).await.unwrap());
        }
        for (n, node) in nodes[1..].iter().enumerate() {
            node.gossip(address(n)).unwrap();
        }
        Self { nodes, gate }
    }

    /// Nodes that hold this value of the first node, and something of every other.
    async fn informed(&self, value: &str) -> usize {
        let mut count = 0;
        for node in &self.nodes {
            let chitchat = node.chitchat();
            let chitchat = chitchat.lock().await;
            let states = chitchat.node_states();
            let whole = states.len() == self.nodes.len() && states.values().all(|state| state.num_key_values() == 2);
            let first = states.iter().find(|(id, _)| id.gossip_advertise_addr == address(0));
            count += usize::from(whole && first.is_some_and(|(_, state)| state.get("node") == Some(value)));
        }
        count
    }

    /// Rounds until all hold all.
    async fn rounds_until(&self, value: &str) -> u32 {
        for round in 0..60 {
            if self.informed(value).await == self.nodes.len() {
                return round;
            }
            tokio::time::sleep(ROUND).await;
        }
        panic!("{} of {} are informed after 60 rounds", self.informed(value).await, self.nodes.len());
    }

    /// Bytes that a node sends in a second, over so many rounds.
    async fn bytes(&self, rounds: u32) -> f64 {
        let before = self.gate.bytes();
        tokio::time::sleep(ROUND * rounds).await;
        (self.gate.bytes() - before) as f64 / self.nodes.len() as f64 / (ROUND * rounds).as_secs_f64()
    }

    async fn play(&self) {
        let joined = self.rounds_until(&"x".repeat(VALUE)).await;
        let all = self.bytes(10).await;
        // The packets of gossip say now that nothing is missing.
        self.gate.on_behind(false);
        let idle = self.bytes(40).await;
        self.gate.on_behind(true);
        self.nodes[0].with_chitchat(|chitchat| chitchat.self_node_state().set("node", "changed")).await;
        let changed = self.rounds_until("changed").await;
        let size = self.nodes.len();
        println!(
            "{size} nodes: all known after {joined} rounds, a change after {changed} (no push); idle {idle:.0} B/s a node, \
             {all:.0} if every round is taken"
        );
        assert!(idle < 2_000.0, "{idle} B/s");
        assert!(idle * 20.0 < all, "{idle} of {all} B/s: rounds are not skipped");
        assert!(changed <= 15, "{changed} rounds");
    }
}

#[tokio::test(start_paused = true)]
async fn forty_nodes_agree_after_a_start_and_after_a_change_without_a_push() {
    Mesh::new(40).await.play().await;
}

#[tokio::test(start_paused = true)]
#[ignore = "takes minutes; prints figures for docs/gossip.md"]
async fn two_hundred_and_fifty_nodes_agree() {
    Mesh::new(250).await.play().await;
}
