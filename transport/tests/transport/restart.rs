use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use starling_transport::{Alpn, Carriers, Limits, Listener, Lost, Port, Tls};
use tokio::sync::oneshot;

use crate::fixture::{CONNECT, Mesh, ask, serve, soon};

/// A node's process, as far as QUIC goes: it can die without a word.
struct Process {
    address: SocketAddr,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    fn start(address: SocketAddr, tls: Tls) -> Self {
        let (kill, killed) = oneshot::channel::<()>();
        let (told, tell) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = Port::bind(address, 1, Carriers::Both).unwrap().into_sockets().remove(0);
                let listener = Listener::start(socket, &tls, &Limits::default()).unwrap();
                told.send(listener.local_addr()).unwrap();
                tokio::select! {
                    () = serve(listener, |_| b"here".to_vec()) => {}
                    _ = killed => {}
                }
            });
            // The runtime is dropped without a turn more: no task can send a farewell.
        });
        Self { address: tell.recv().unwrap(), kill: Some(kill), thread: Some(thread) }
    }

    fn kill(mut self) -> SocketAddr {
        drop(self.kill.take());
        self.thread.take().unwrap().join().unwrap();
        self.address
    }
}

#[tokio::test]
async fn a_restarted_peer_ends_old_connections_at_the_next_packet() {
    let mesh = Mesh::new();
    let first = Process::start("127.0.0.1:0".parse().unwrap(), mesh.tls("web-1"));
    let dialer = mesh.dialer("web-2");
    let connection = dialer.connect(first.address, None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");

    let address = first.kill();
    assert_eq!(connection.lost(), None, "it died without a word");
    let second = Process::start(address, mesh.tls("web-1"));

    let error = soon("the request fails", ask(&connection)).await.unwrap_err();
    // By the new process's word, not by a timeout.
    assert_eq!(connection.lost(), Some(Lost::Restarted), "{error}");

    let connection = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
    second.kill();
}

#[tokio::test]
async fn another_node_on_the_same_port_cannot_end_its_predecessors_connections() {
    let mesh = Mesh::new();
    let first = Process::start("127.0.0.1:0".parse().unwrap(), mesh.tls("web-1"));
    let dialer = mesh.dialer("web-2");
    let connection = dialer.connect(first.address, None, Alpn::Data, CONNECT).await.unwrap();
    let address = first.kill();
    let other = Process::start(address, mesh.tls("web-3"));
    let request = connection.begin_request();
    let asked = tokio::time::timeout(Duration::from_millis(300), ask(&connection)).await;
    assert!(asked.is_err(), "{asked:?}");
    soon("it is only silent", request.connection().silent()).await;
    assert_eq!(connection.lost(), None);
    other.kill();
}
