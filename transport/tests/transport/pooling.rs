use std::collections::BTreeSet;
use std::sync::Arc;

use starling_proto::SpiffeId;
use starling_transport::{ConnectError, Pool, PoolSettings, Target};
use tokio::sync::watch;

use crate::fixture::{Mesh, ask, serve, soon};
use crate::relay::Relay;

async fn linked(watch: &mut watch::Receiver<Arc<BTreeSet<SpiffeId>>>, expected: &[&str]) {
    let expected: BTreeSet<SpiffeId> = expected.iter().map(|name| Mesh::spiffe(name)).collect();
    soon("the links change", watch.wait_for(|linked| **linked == expected)).await.unwrap();
}

fn pool(mesh: &Mesh) -> Pool {
    Pool::start(Arc::new(mesh.dialer("web-9")), PoolSettings::default())
}

async fn node(mesh: &Mesh, name: &str) -> (Relay, Target) {
    let listener = mesh.listener(name);
    let relay = Relay::to(listener.local_addr()).await;
    tokio::spawn(serve(listener, |_| b"here".to_vec()));
    let target = Target { spiffe: Mesh::spiffe(name), address: relay.address() };
    (relay, target)
}

#[tokio::test]
async fn endpoints_in_use_are_connected_before_anyone_asks() {
    let mesh = Mesh::new();
    let ((_relay_1, first), (_relay_2, second)) = (node(&mesh, "web-1").await, node(&mesh, "web-2").await);
    let pool = pool(&mesh);
    let mut links = pool.linked();
    pool.warm(&[first.clone(), second.clone()]);
    linked(&mut links, &["web-1", "web-2"]).await;
    let connection = pool.try_connection(&first).expect("it is there").unwrap();
    assert_eq!(connection.peer().spiffe, first.spiffe);
    assert_eq!(ask(&connection).await.unwrap(), b"here");
}

#[tokio::test]
async fn all_who_ask_at_once_share_one_connection() {
    let mesh = Mesh::new();
    let (_relay, target) = node(&mesh, "web-1").await;
    let pool = pool(&mesh);
    let ask = || async { pool.connection(&target).await.unwrap().id() };
    let (a, b, c) = soon("a connection", async { tokio::join!(ask(), ask(), ask()) }).await;
    assert!(a == b && b == c);
}

#[tokio::test]
async fn a_silent_peer_is_not_handed_out_and_serves_again_soon_after_it_is_back() {
    let mesh = Mesh::new();
    let (relay, target) = node(&mesh, "web-1").await;
    let pool = pool(&mesh);
    let mut links = pool.linked();
    pool.warm(std::slice::from_ref(&target));
    let connection = soon("a connection", pool.connection(&target)).await.unwrap();
    linked(&mut links, &["web-1"]).await;

    relay.cut();
    let request = connection.begin_request();
    soon("silence", connection.silent()).await;
    linked(&mut links, &[]).await;
    assert!(pool.is_silent(&target.spiffe));
    let error = soon("an error", pool.connection(&target)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout(_)), "{error}");
    drop(request);

    relay.heal();
    soon("it is back", linked(&mut links, &["web-1"])).await;
    let connection = soon("a connection", pool.connection(&target)).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
}

#[tokio::test]
async fn an_idle_connection_that_carries_nothing_any_more_is_found_out_when_it_is_examined() {
    let mesh = Mesh::new();
    let (relay, target) = node(&mesh, "web-1").await;
    let pool = pool(&mesh);
    let mut links = pool.linked();
    pool.warm(std::slice::from_ref(&target));
    linked(&mut links, &["web-1"]).await;

    relay.cut();
    pool.examine(&target.spiffe);
    linked(&mut links, &[]).await;
    assert!(pool.is_silent(&target.spiffe));

    relay.heal();
    linked(&mut links, &["web-1"]).await;
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_is_an_error_for_whoever_asked() {
    let mesh = Mesh::new();
    let (_relay, mut target) = node(&mesh, "web-1").await;
    target.spiffe = Mesh::spiffe("web-2");
    let error = soon("an error", pool(&mesh).connection(&target)).await.unwrap_err();
    assert_eq!(error, ConnectError::WrongPeer { expected: Mesh::spiffe("web-2"), found: Mesh::spiffe("web-1") });
}

#[tokio::test]
async fn a_dropped_pool_lets_its_connections_go() {
    let mesh = Mesh::new();
    let (_relay, target) = node(&mesh, "web-1").await;
    let pool = pool(&mesh);
    let connection = soon("a connection", pool.connection(&target)).await.unwrap();
    drop(pool);
    assert_eq!(ask(&connection).await.unwrap(), b"here", "whoever holds it may finish");
    let mut links = {
        let pool = self::pool(&mesh);
        pool.linked()
    };
    soon("its driver is gone", async { while links.changed().await.is_ok() {} }).await;
}
