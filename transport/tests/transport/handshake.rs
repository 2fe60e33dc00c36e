use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, SanType, string::Ia5String};
use starling_proto::ErrorCode;
use starling_transport::{Alpn, Carriers, ConnectError, Incoming, Limits, Listener, Refusal};

use crate::carriers::over_each_carrier;
use crate::fixture::{CONNECT, DOMAIN, Mesh, Pair, ask, serve, soon, until};
use crate::hostile::{self, Certificate, params, signed, uri};

over_each_carrier!(
    each_side_knows_the_other_by_its_certificate,
    a_peer_may_run_what_its_certificate_names_and_nothing_else,
    data_and_control_are_told_apart,
    a_node_that_is_refused_hears_why_when_it_connects,
    whoever_answers_in_anothers_place_is_not_talked_to,
    a_draining_listener_says_that_it_is_busy,
    connections_are_bounded_and_the_rest_is_counted,
);

const NAME: &str = "spiffe://demo.example/node/mallory";

async fn each_side_knows_the_other_by_its_certificate(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    assert_eq!(pair.near.peer().spiffe, Mesh::spiffe("web-1"));
    assert_eq!(pair.far.peer().spiffe, Mesh::spiffe("web-2"));
    if over == Carriers::Quic {
        assert_eq!(pair.far.remote_address(), pair.dialer.local_addr());
    }
    assert_eq!(pair.far.remote_address().ip(), pair.dialer.local_addr().ip());
    assert_eq!(pair.near.carrier(), pair.far.carrier());
    assert_eq!(pair.near.alpn(), Alpn::Data);
}

async fn a_peer_may_run_what_its_certificate_names_and_nothing_else(over: Carriers) {
    let pair = Pair::new(&Mesh::new(), over).await;
    let may_run = |service: &str| pair.near.peer().may_run(&service.parse().unwrap());
    assert!(may_run("web"));
    assert!(may_run("orders.shop"));
    assert!(!may_run("orders"));
    assert!(!may_run("web.shop2"));
}

async fn data_and_control_are_told_apart(over: Carriers) {
    let mesh = Mesh::new();
    let (mut listener, dialer) = (mesh.listener("web-1"), mesh.dialer_over("web-2", over));
    let address = listener.local_addr();
    let dial = dialer.connect(address, None, Alpn::Control, CONNECT);
    let (near, far) = soon("a connection", async { tokio::join!(dial, listener.accept()) }).await;
    let Some(Incoming::Control(far)) = far else { panic!("no control connection") };
    let near = near.unwrap();
    let mut push = near.open_uni().await.unwrap();
    push.write_raw(bytes::Bytes::from_static(b"news")).await.unwrap();
    push.finish().unwrap();
    let mut got = soon("a push", far.accept_uni()).await.unwrap();
    assert_eq!(got.read_raw(100).await.unwrap().unwrap(), "news");
    // And the other way round: either side may push.
    let mut push = far.open_uni().await.unwrap();
    push.write_raw(bytes::Bytes::from_static(b"back")).await.unwrap();
    let mut got = soon("a push", near.accept_uni()).await.unwrap();
    assert_eq!(got.read_raw(100).await.unwrap().unwrap(), "back");
}

/// What `spoil` does to a certificate makes a listener refuse it for `reason`, and a dialer too.
async fn refused(reason: Refusal, spoil: impl FnOnce(&mut CertificateParams)) {
    let mesh = Mesh::new();
    let mut params = params(NAME);
    spoil(&mut params);
    let certificate = || signed(&mesh.authority(), &params);
    refused_by_listener(&mesh, reason, || Some(certificate()), b"starling/1").await;
    refused_by_dialer(&mesh, reason, certificate).await;
}

/// Over QUIC and over TCP.
async fn refused_by_listener(mesh: &Mesh, reason: Refusal, certificate: impl Fn() -> Option<Certificate>, alpn: &[u8]) {
    refused_over_quic(mesh, reason, certificate(), alpn).await;
    let tls = mesh.tls("web-1");
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &Limits::default()).unwrap();
    let address = listener.local_addr();
    let both = async {
        tokio::join!(
            hostile::thrown_out_by_tcp(certificate(), alpn, address),
            until("the refusal is counted", || tls.refusals().of(reason) == 1)
        )
    };
    tokio::select! {
        _ = listener.accept() => panic!("{reason}: let in"),
        (by_alert, ()) = both => assert!(by_alert, "{reason}: it is told why"),
    }
    assert_eq!(tls.refusals().iter().map(|(_, count)| count).sum::<u64>(), 1, "counted once");
}

async fn refused_over_quic(mesh: &Mesh, reason: Refusal, certificate: Option<Certificate>, alpn: &[u8]) {
    let tls = mesh.tls("web-1");
    let mut listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &Limits::default()).unwrap();
    let client = hostile::client(certificate, alpn);
    let address = listener.local_addr();
    let both = async {
        tokio::join!(
            hostile::thrown_out(&client, address),
            until("the refusal is counted", || tls.refusals().of(reason) == 1)
        )
    };
    tokio::select! {
        _ = listener.accept() => panic!("{reason}: let in"),
        _ = both => {}
    }
    assert_eq!(tls.refusals().iter().map(|(_, count)| count).sum::<u64>(), 1, "counted once");
}

/// Over QUIC and over TCP.
async fn refused_by_dialer(mesh: &Mesh, reason: Refusal, certificate: impl Fn() -> Certificate) {
    let (address, serving) = hostile::tcp_server(certificate()).await;
    let outcome = mesh.dialer_over("web-2", Carriers::Tcp).connect(address, None, Alpn::Data, CONNECT).await;
    match outcome {
        Err(ConnectError::Untrusted(refused)) => assert_eq!(refused.reason, reason, "{refused}"),
        other => panic!("{reason}: {other:?}"),
    }
    serving.await.unwrap();
    let server = hostile::server(certificate());
    let accepting = tokio::spawn({
        let server = server.clone();
        async move {
            while server.accept().await.map(|incoming| tokio::spawn(async { incoming.await.is_ok() })).is_some() {}
        }
    });
    let dialer = mesh.dialer("web-2");
    let outcome = dialer.connect(server.local_addr().unwrap(), None, Alpn::Data, CONNECT).await;
    match outcome {
        Err(ConnectError::Untrusted(refused)) => assert_eq!(refused.reason, reason, "{refused}"),
        other => panic!("{reason}: {other:?}"),
    }
    accepting.abort();
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let certificate = || signed(&other.authority(), &params(NAME));
    refused_by_listener(&mesh, Refusal::UnknownIssuer, || Some(certificate()), b"starling/1").await;
    refused_by_dialer(&mesh, Refusal::UnknownIssuer, certificate).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    refused(Refusal::Expired, |params| params.not_after = (SystemTime::now() - Duration::from_secs(5)).into()).await;
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused() {
    refused(Refusal::NotYetValid, |params| params.not_before = (SystemTime::now() + Duration::from_secs(50)).into())
        .await;
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused() {
    let other = "spiffe://other.example/node/mallory";
    refused(Refusal::WrongTrustDomain, |params| params.subject_alt_names = vec![uri(other)]).await;
}

#[tokio::test]
async fn a_certificate_with_two_names_is_refused() {
    refused(Refusal::BadName, |params| params.subject_alt_names.push(uri("spiffe://demo.example/node/web-1"))).await;
}

#[tokio::test]
async fn a_certificate_with_no_uri_or_of_no_node_is_refused() {
    let dns = SanType::DnsName(Ia5String::try_from("web-1.demo.example").unwrap());
    refused(Refusal::BadName, |params| params.subject_alt_names = vec![dns]).await;
    refused(Refusal::BadName, |params| params.subject_alt_names = vec![uri("spiffe://demo.example/user/a")]).await;
}

#[tokio::test]
async fn a_certificate_with_a_broken_list_of_services_is_refused() {
    for content in [vec![0x30, 1], vec![0x0c, 0], vec![0x30, 5, 0x0c, 3, b'A', b'B', b'C']] {
        let extension = CustomExtension::from_oid_content(hostile::SERVICES, content);
        refused(Refusal::BadServices, |params| params.custom_extensions = vec![extension]).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_use_is_refused() {
    let mail = vec![ExtendedKeyUsagePurpose::EmailProtection];
    refused(Refusal::BadCertificate, |params| params.extended_key_usages = mail).await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    refused_by_listener(&Mesh::new(), Refusal::NoCertificate, || None, b"starling/1").await;
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_refused() {
    let mesh = Mesh::new();
    let certificate = || Some(signed(&mesh.authority(), &params(NAME)));
    refused_by_listener(&mesh, Refusal::NoProtocol, certificate, b"h3").await;
}

#[tokio::test]
async fn a_good_peer_of_another_key_type_is_let_in() {
    let mesh = Mesh::new();
    let mut listener = mesh.listener("web-1");
    let client = hostile::client(Some(signed(&mesh.authority(), &params(NAME))), b"starling/1");
    let dial = client.connect(listener.local_addr(), "localhost").unwrap();
    let (_near, far) = soon("a connection", async { tokio::join!(dial, listener.accept()) }).await;
    let Some(Incoming::Data(far)) = far else { panic!("refused") };
    assert_eq!(far.peer().spiffe.to_string(), NAME);
    assert!(far.peer().services.is_empty());
}

async fn a_node_that_is_refused_hears_why_when_it_connects(over: Carriers) {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    // It trusts web-1, but web-1 does not trust it: its roots were replaced by web-1's.
    let request = other.request("stranger", &[]);
    starling_transport::ca::issue(&request).unwrap();
    let listener = mesh.listener("web-1");
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| Vec::new()));
    let identity = starling_transport::Identity::load(&request.out).unwrap();
    let tls = starling_transport::Tls::try_new(&identity).unwrap();
    let dialer = starling_transport::Dialer::bind(
        "127.0.0.1".parse().unwrap(),
        &tls,
        &Limits { carriers: over, ..Limits::default() },
    )
    .unwrap();
    let error = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Untrusted(refused) if refused.reason == Refusal::UnknownIssuer), "{error}");
    assert_eq!(error.code(), ErrorCode::ConnectFailed);
}

async fn whoever_answers_in_anothers_place_is_not_talked_to(over: Carriers) {
    let mesh = Mesh::new();
    let listener = mesh.listener("web-1");
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| Vec::new()));
    let expected = Mesh::spiffe("web-3");
    let outcome = mesh.dialer_over("web-2", over).connect(address, Some(&expected), Alpn::Data, CONNECT).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::WrongPeer { expected, found: Mesh::spiffe("web-1") });
}

#[tokio::test]
async fn a_dead_address_times_out() {
    let mesh = Mesh::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_millis(100);
    let outcome = mesh.dialer("web-2").connect(socket.local_addr().unwrap(), None, Alpn::Data, timeout).await;
    let error = outcome.unwrap_err();
    assert_eq!(error, ConnectError::Timeout(timeout));
    assert_eq!(error.code(), ErrorCode::ConnectTimeout);
}

async fn a_draining_listener_says_that_it_is_busy(over: Carriers) {
    let mesh = Mesh::new();
    let mut listener = mesh.listener("web-1");
    let address = listener.local_addr();
    listener.drain();
    tokio::spawn(serve(listener, |_| Vec::new()));
    let outcome = mesh.dialer_over("web-2", over).connect(address, None, Alpn::Data, CONNECT).await;
    assert_eq!(outcome.unwrap_err(), ConnectError::Busy);
}

#[tokio::test]
async fn garbage_on_the_port_does_nothing() {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &Limits::default()).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"here".to_vec()));

    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    noise.set_nonblocking(true).unwrap();
    for round in 0..200_u32 {
        let mut state = round.wrapping_mul(2_654_435_761);
        let byte = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let bytes: Vec<u8> = (0..=round * 5).map(|_| byte(&mut state)).collect();
        let _ = noise.send_to(&bytes, address);
    }
    for text in ["GET / HTTP/1.1\r\nHost: web\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", ""] {
        noise.send_to(text.as_bytes(), address).unwrap();
    }
    // A handshake behind all of it: whatever the noise did is done by then.
    let connection = mesh.dialer("web-2").connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap(), b"here");
    let answer = noise.recv(&mut [0; 2048]);
    assert_eq!(answer.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "noise got an answer");
    let counted: Vec<_> = tls.refusals().iter().filter(|(_, count)| *count > 0).collect();
    assert!(matches!(counted[..], [(Refusal::Noise, 150..=203)]), "{counted:?}");
}

async fn connections_are_bounded_and_the_rest_is_counted(over: Carriers) {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let limits = Limits { connections: 2, ..Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &limits).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| Vec::new()));
    let dialer = mesh.dialer_over("web-2", over);
    let _first = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    let second = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap();
    assert_eq!(dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap_err(), ConnectError::Busy);
    assert_eq!(tls.refusals().of(Refusal::TooMany), 1);
    assert_eq!(second.peer().spiffe.trust_domain().as_str(), DOMAIN);
}

#[tokio::test]
async fn many_peers_at_once_prove_their_address_and_get_in() {
    let mesh = Mesh::new();
    let tls = mesh.tls("web-1");
    let limits = Limits { handshakes: 16, ..Limits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &tls, &limits).unwrap();
    let address = listener.local_addr();
    tokio::spawn(serve(listener, |_| b"in".to_vec()));
    let dialer = std::sync::Arc::new(mesh.dialer("web-2"));
    let mut dials = tokio::task::JoinSet::new();
    for _ in 0..14 {
        let dialer = dialer.clone();
        dials.spawn(async move {
            let connection = dialer.connect(address, None, Alpn::Data, CONNECT).await.unwrap();
            ask(&connection).await.unwrap()
        });
    }
    let answers = soon("all peers", dials.join_all()).await;
    assert!(answers.iter().all(|answer| answer == b"in"));
}
