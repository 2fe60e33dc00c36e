//! Who says what on a stream is checked against certificates, at both ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use starling::mesh::{Backoff, Mesh, MeshConfig, Seed, Timings};
use starling_proto::mesh::v1;
use starling_proto::{NodeAddress, frame};
use starling_transport::{Alpn, Carriers, ConnectError, Connection, Dialer, Incoming, Limits, Listener, Tls};

use crate::backend::Backend;
use crate::caller::{call, get, post};
use crate::hosts::{World, address, eventually, soon};

const PATIENCE: Duration = Duration::from_secs(5);

/// A caller that can say what it likes, with a certificate that cannot.
pub(crate) async fn dial(tls: &Tls, to: std::net::SocketAddr) -> (Dialer, Result<Connection, ConnectError>) {
    let dialer = Dialer::bind("127.0.0.1".parse().unwrap(), tls, &Limits::default()).unwrap();
    let connection = dialer.connect(to, None, Alpn::Data, PATIENCE).await;
    (dialer, connection)
}

/// A request as such a caller may send it.
pub(crate) fn header(source: &str, destination: &str) -> v1::StreamHeader {
    v1::StreamHeader {
        protocol: v1::Protocol::Http.into(),
        source: source.to_owned(),
        destination: destination.to_owned(),
        method: Bytes::from_static(b"GET"),
        target: Bytes::from_static(b"/"),
        authority: Bytes::from_static(b"orders.mesh"),
        no_body: true,
        ..Default::default()
    }
}

pub(crate) async fn ask(connection: &Connection, header: &v1::StreamHeader) -> v1::ResponseHead {
    let (mut send, mut recv) = connection.open().await.unwrap();
    send.send_head_and(header, Bytes::new(), true).await.unwrap();
    soon("an answer", recv.recv_head(frame::MAX_HEAD)).await.unwrap()
}

#[tokio::test]
async fn a_stream_is_served_only_if_both_certificates_name_what_it_names() {
    let backend = Backend::says("served").await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let connection = connection.unwrap();
    for (kind, source, destination, status, error) in [
        ("its own service", "ns/default/svc/web", "ns/default/svc/orders", 200, ""),
        ("the node itself", "", "ns/default/svc/orders", 200, ""),
        ("another's service", "ns/default/svc/orders", "ns/default/svc/orders", 403, "refused"),
        ("its service elsewhere", "ns/shop/svc/web", "ns/default/svc/orders", 403, "refused"),
        ("what the server may not serve", "ns/default/svc/web", "ns/default/svc/stock", 403, "refused"),
        ("a source that is no name", "web", "ns/default/svc/orders", 502, "hop-protocol"),
        ("a destination that is no name", "ns/default/svc/web", "../orders", 502, "hop-protocol"),
        ("no destination", "ns/default/svc/web", "", 502, "hop-protocol"),
    ] {
        let answer = ask(&connection, &header(source, destination)).await;
        assert_eq!((answer.status, answer.error.as_str()), (status, error), "{kind}: {answer:?}");
    }
    assert_eq!(backend.seen().len(), 2);
    assert_eq!(orders.metric("starling_refused_total", &["\"refused\""]), 3);
    assert_eq!(orders.metric("starling_refused_total", &["\"hop-protocol\""]), 3);
}

#[tokio::test]
async fn what_is_named_but_not_offered_is_not_served_here() {
    let backend = Backend::says("served").await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    let mut other_instance = header("", "ns/default/svc/orders");
    other_instance.instance = 7;
    let answer = ask(&connection.unwrap(), &other_instance).await;
    assert_eq!((answer.status, answer.error.as_str()), (503, "not-served-here"));
}

#[tokio::test]
async fn nobody_connects_with_a_certificate_of_another_root() {
    let backend = Backend::says("served").await;
    let (world, stranger) = (World::new(), World::new());
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let (_dialer, connection) = dial(&stranger.tls("web-1", &["web"]), orders.quic()).await;
    assert!(matches!(connection, Err(ConnectError::Untrusted(_) | ConnectError::Refused(_))), "{connection:?}");
    let (_dialer, connection) = dial(&world.tls("web-1", &["web"]), orders.quic()).await;
    assert!(connection.is_ok(), "its own are welcome as before: {connection:?}");
}

/// A node that takes part in the mesh, says that it offers `orders`, and has no certificate for it.
struct Impostor {
    mesh: Mesh,
    streams: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start(world: &World) -> Self {
        let identity = world.identity("impostor", &["web"]);
        let tls = Tls::try_new(&identity).unwrap();
        let at = NodeAddress { ip: address().0, gossip_port: 7946, quic_port: 7947 };
        let mut listener = Listener::bind(at.quic(), &tls, &Limits::default()).unwrap();
        let config = MeshConfig {
            tls,
            identity: Arc::new(identity),
            advertise: at,
            bind: at.ip,
            seeds: vec![Seed::Addr(world.seed())],
            data_dir: world.path("impostor-data"),
            zone: String::new(),
            shards: 1,
            member_limit: MeshConfig::MEMBER_LIMIT,
            carriers: Carriers::Both,
            timings: Timings { seeds: Backoff::default(), ..Timings::default() },
        };
        let mesh = Mesh::start(config).await.unwrap();
        let streams = Arc::new(AtomicUsize::new(0));
        let (control, count) = (mesh.clone(), Arc::clone(&streams));
        tokio::spawn(async move {
            while let Some(incoming) = listener.accept().await {
                match incoming {
                    Incoming::Control(connection) => control.control_incoming(connection),
                    Incoming::Data(connection) => {
                        let count = Arc::clone(&count);
                        tokio::spawn(async move {
                            while let Some((_send, mut recv)) = connection.accept().await {
                                // The dialer opens a stream that it may never use: only what says something counts.
                                if recv.recv_head::<v1::StreamHeader>(frame::MAX_HEAD).await.is_ok() {
                                    count.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        });
                    }
                }
            }
        });
        let record = v1::ServiceRecord {
            service: "ns/default/svc/orders".into(),
            port: 80,
            protocol: v1::Protocol::Http.into(),
            healthy: true,
            ..Default::default()
        };
        mesh.register(record).await.unwrap();
        Self { mesh, streams }
    }
}

#[tokio::test]
async fn a_node_whose_certificate_does_not_name_the_service_is_sent_nothing_and_keeps_nobody_from_it() {
    let backend = Backend::says("the real one").await;
    let world = World::new();
    let web = world.node("web-1").reaches("orders").start();
    let impostor = Impostor::start(&world).await;
    // Its claim has come when it is named for it, after the time that it had to show a better certificate.
    eventually("it is named", || web.metric("starling_gossip_offences_total", &[]) > 0).await;
    let answer = call(web.way("orders"), post("/", "secret")).await;
    assert_eq!(answer.error().1, "no-such-service", "{answer:?}");

    let _orders = world.node("orders-1").offers("orders", backend.address).start();
    web.finds("orders", 1).await;
    for n in 0..20 {
        let request = if n % 2 == 0 { get("/") } else { post("/", "secret") };
        assert_eq!(call(web.way("orders"), request).await.body, "the real one", "request {n}");
    }
    assert_eq!(impostor.streams.load(Ordering::Relaxed), 0);
    drop(impostor.mesh);
}
