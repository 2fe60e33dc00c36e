//! A network between two sockets on loopback, to be cut, healed and re-addressed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

/// Packets of one client to a server and back.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    /// Nothing of the client passes; what the server sends does.
    deaf: AtomicBool,
    /// Which of its sockets it speaks to the server from.
    front: AtomicUsize,
}

impl Relay {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), server).await
    }

    /// One that clients find there.
    pub(crate) async fn at(address: SocketAddr, server: SocketAddr) -> Self {
        let near = UdpSocket::bind(address).await.unwrap();
        let far = [UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
        let address = near.local_addr().unwrap();
        let state = Arc::new(State::default());
        let task = tokio::spawn(run(near, far, server, state.clone())).abort_handle();
        Self { address, state, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes, as when a host is gone.
    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    /// From now on the server hears nothing of the client, as behind a firewall that lets out and not in.
    pub(crate) fn deafen(&self) {
        self.state.deaf.store(true, Ordering::Relaxed);
    }

    pub(crate) fn heal(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
        self.state.deaf.store(false, Ordering::Relaxed);
    }

    /// From now on the client appears at another port, as behind a NAT that forgot it.
    pub(crate) fn readdress(&self) {
        self.state.front.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(near: UdpSocket, far: [UdpSocket; 2], server: SocketAddr, state: Arc<State>) {
    let mut client = None;
    let (mut up, mut down, mut other) = ([0; 2048], [0; 2048], [0; 2048]);
    loop {
        tokio::select! {
            Ok((len, from)) = near.recv_from(&mut up) => {
                client = Some(from);
                if !state.cut.load(Ordering::Relaxed) && !state.deaf.load(Ordering::Relaxed) {
                    let front = state.front.load(Ordering::Relaxed) % far.len();
                    let _ = far[front].send_to(&up[..len], server).await;
                }
            }
            Ok(len) = far[0].recv(&mut down) => deliver(&near, client, &down[..len], &state).await,
            Ok(len) = far[1].recv(&mut other) => deliver(&near, client, &other[..len], &state).await,
        }
    }
}

async fn deliver(near: &UdpSocket, client: Option<SocketAddr>, bytes: &[u8], state: &State) {
    if let Some(client) = client
        && !state.cut.load(Ordering::Relaxed)
    {
        let _ = near.send_to(bytes, client).await;
    }
}
