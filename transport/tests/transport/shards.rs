//! Several threads, one port: a connection and its requests stay with one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread::{self, JoinHandle, ThreadId};

use starling_transport::{Alpn, Carriers, Dialer, Limits, Listener, Port, Tls};
use tokio::sync::oneshot;

use crate::fixture::{CONNECT, Mesh, ask, serve, soon};
use crate::relay::Relay;

const SHARDS: usize = 2;
const DIALS: usize = 24;
const REQUESTS: usize = 8;

struct Node {
    address: SocketAddr,
    shards: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// On a thread and a runtime of its own, as each shard of a node.
fn on_shard<T: Send + 'static, F: Future<Output = T>>(work: impl FnOnce() -> F + Send + 'static) -> JoinHandle<T> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { work().await })
    })
}

fn current_thread() -> ThreadId {
    thread::current().id()
}

impl Node {
    /// Every answer names the shard that served it, after checking that it runs on the shard's own thread.
    fn start(tls: &Tls) -> Self {
        let port = Port::bind("127.0.0.1:0".parse().unwrap(), SHARDS, Carriers::Both).unwrap();
        let address = port.local_addr();
        let shard = |(shard, socket)| {
            let (stop, stopped) = oneshot::channel::<()>();
            let tls = tls.clone();
            let thread = on_shard(move || async move {
                let listener = Listener::start(socket, &tls, &Limits::default()).unwrap();
                let home = current_thread();
                let answer = move |_: &_| {
                    assert_eq!(current_thread(), home, "a request crossed threads");
                    vec![u8::try_from(shard).unwrap()]
                };
                tokio::select! {
                    () = serve(listener, answer) => {}
                    _ = stopped => {}
                }
            });
            (stop, thread)
        };
        Self { address, shards: port.into_sockets().into_iter().enumerate().map(shard).collect() }
    }

    fn stop(self) {
        for (stop, thread) in self.shards {
            drop(stop);
            thread.join().unwrap();
        }
    }
}

/// Dials many connections from one shard; gives the port it dialed from, and the shard that served each connection.
async fn dial_many(tls: Tls, address: SocketAddr) -> (u16, Vec<u8>) {
    let home = current_thread();
    let mut served = Vec::new();
    let mut port = 0;
    // A dialer each: the kernel chooses a shard by the pair of addresses.
    for _ in 0..DIALS {
        let dialer = Dialer::bind("127.0.0.1".parse().unwrap(), &tls, &Limits::default()).unwrap();
        port = dialer.local_addr().port();
        let connection = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap();
        let mut by = BTreeSet::new();
        for _ in 0..REQUESTS {
            by.extend(ask(&connection).await.unwrap());
            assert_eq!(current_thread(), home);
        }
        assert_eq!(by.len(), 1, "one connection was served by two shards");
        served.extend(by);
    }
    (port, served)
}

#[test]
fn connections_spread_over_the_shards_of_one_port_and_stay_there() {
    let mesh = Mesh::new();
    let node = Node::start(&mesh.tls("web-1"));
    let tls = mesh.tls("web-2");
    let dialing: Vec<_> = (0..SHARDS)
        .map(|_| {
            let (tls, address) = (tls.clone(), node.address);
            on_shard(move || async move { soon("all requests", dial_many(tls, address)).await })
        })
        .collect();
    let mut count: BTreeMap<u8, usize> = BTreeMap::new();
    let mut ports = BTreeSet::new();
    for thread in dialing {
        let (port, served) = thread.join().unwrap();
        ports.insert(port);
        for shard in served {
            *count.entry(shard).or_default() += 1;
        }
    }
    assert_eq!(ports.len(), SHARDS, "each shard dials from a port of its own");
    // 48 fair coins: less than 5 of one kind happens once in 10^8 runs.
    assert!(count.len() == SHARDS && count.values().all(|count| *count >= 5), "{count:?}");
    node.stop();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_peer_whose_address_changes_stays_with_its_shard() {
    let mesh = Mesh::new();
    let node = Node::start(&mesh.tls("web-1"));
    let dialer = mesh.dialer("web-2");
    for _ in 0..12 {
        let relay = Relay::to(node.address).await;
        let connection = dialer.connect(relay.address(), None, Alpn::Data, CONNECT).await.unwrap();
        let before = soon("an answer", ask(&connection)).await.unwrap();
        relay.readdress();
        let after = soon("an answer after the move", ask(&connection)).await.unwrap();
        assert_eq!(before, after);
    }
    node.stop();
}
