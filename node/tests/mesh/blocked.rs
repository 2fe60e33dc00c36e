//! A firewall that drops gossip's datagrams and lets QUIC pass.

use std::time::Duration;

use super::fleet::{DEADLINE, Fleet, Node, address, alive, offers, seed};
use starling_gossip::Liveness;

async fn liveness(node: &Node) -> Liveness {
    node.mesh.status().await.unwrap().engine.liveness
}

#[tokio::test]
async fn a_member_whose_gossip_port_is_blocked_stays_as_long_as_quic_works() {
    let fleet = Fleet::new();
    let a = fleet.start("a", address(), vec![]);
    let c = fleet.start("c", address(), vec![seed(a.address)]);
    // It gossips from another address than it is known by: what it sends is refused, and nothing reaches it.
    let (known, real) = (address(), address());
    let mut config = fleet.config("b", known, vec![seed(a.address)]);
    config.bind = real.ip;
    let b = Node::start(config).unwrap();
    b.offer("web").await;
    for node in [&a, &b, &c] {
        node.sees("all three and the service", |view| alive(view) == 3 && offers(view, "web") == 1).await;
    }
    // Many probes of it, none of which a datagram answers.
    let probed = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while liveness(&a).await.stream_pings < 8 || liveness(&b).await.stream_pings < 8 {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, probed).await.is_ok(), "{:?}", liveness(&a).await);
    for node in [&a, &b, &c] {
        node.sees("all three still", |view| alive(view) == 3 && offers(view, "web") == 1).await;
        let liveness = liveness(node).await;
        assert_eq!(liveness.downs, 0, "{liveness:?}");
    }
}
