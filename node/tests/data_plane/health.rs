//! What a node tells of itself when something of it stands still: the program behind a service, or its own mesh side.

use starling::admin::{CheckState, Client, ClientError};

use crate::backend::{Backend, nobody};
use crate::caller::{call, get};
use crate::hosts::{DEADLINE, World, eventually};

#[tokio::test]
async fn a_program_that_accepts_no_connections_is_told_of_and_so_is_its_return() {
    let (dead, backend) = (nobody().await, Backend::says("alive").await);
    let world = World::new();
    let gone = world.node("orders-1").offers("orders", dead).start();
    let _well = world.node("orders-2").offers("orders", backend.address).start();
    let web = world.node("web-1").reaches("orders").start();
    web.finds("orders", 2).await;
    let orders = "orders".parse().unwrap();
    let state = |node: &str| {
        let endpoints = web.source.endpoints(&orders).unwrap_or_default();
        endpoints.into_iter().find(|endpoint| endpoint.node == node).map(|endpoint| endpoint.state)
    };
    while state("orders-1").as_deref() != Some("unhealthy") {
        assert_eq!(call(web.way("orders"), get("/")).await.status, 200);
    }
    assert_eq!(state("orders-2").as_deref(), Some("ready"));
    let failing = || {
        let members = web.source.members();
        members.iter().find(|member| member.name == "orders-1").map_or(0, |member| member.load.unhealthy)
    };
    eventually("each packet says how many fail", || failing() == 1).await;
    // The program starts.
    let _back = tokio::net::TcpListener::bind(dead).await.unwrap();
    eventually("it is well again", || state("orders-1").as_deref() == Some("ready") && failing() == 0).await;
    drop(gone);
}

#[tokio::test]
async fn while_the_mesh_side_is_blocked_the_watchdog_says_so_and_requests_go_on() {
    let backend = Backend::says("alive").await;
    let world = World::new();
    let node = world.node("web-1").offers("web", backend.address).reaches("web").start();
    node.finds("web", 1).await;
    let client = Client::new(node.place().dir.join("admin.sock"), DEADLINE);
    assert_eq!(client.status().await.unwrap().node.name, "web-1");
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    node.runtime.spawn(async move { blocked.recv().ok() });
    eventually("it stands still", || node.source.live().is_err()).await;
    let Err(ClientError::Refused { status, complaint }) = client.status().await else { panic!("an answer") };
    assert_eq!(status.as_u16(), 503);
    assert!(complaint.error.contains("the node is not live: the gossip loop has stood still for"), "{complaint:?}");
    assert_eq!(call(node.way("web"), get("/")).await.status, 200);
    unblock.send(()).unwrap();
    eventually("it turns again", || node.source.live().is_ok()).await;
    assert_eq!(client.status().await.unwrap().node.name, "web-1");
    assert_eq!(node.metric("starling_gossip_stalls_total", &[]), 1);
    assert_eq!(node.metric("starling_gossip_stalled", &[]), 0);
    let check = client.check().await.unwrap();
    let found = check.iter().find(|report| report.check == "loop").unwrap();
    assert_eq!(found.state, CheckState::Warning, "{found:?}");
}
