//! The world outside: what comes in by an ingress, and what is reached by an egress.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use starling_transport::edge::{EdgeClient, EdgeProtocol, EdgeServer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::backend::{Backend, full};
use crate::caller::{Answer, call, get};
use crate::hosts::{Running, World, eventually, soon};
use crate::http2::read;

const INGRESS: u16 = 8443;

/// A certificate for these names that vouches for itself, as files.
fn certificate(dir: &TempDir, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let (chain, at) = (dir.path().join(format!("{file}.pem")), dir.path().join(format!("{file}.key")));
    fs::write(&chain, made.pem()).unwrap();
    fs::write(&at, key.serialize_pem()).unwrap();
    (chain, at)
}

fn ingress(node: &Running) -> SocketAddr {
    SocketAddr::new(node.place().ip, INGRESS)
}

async fn http1(to: SocketAddr, client: &EdgeClient, request: Request<Full<Bytes>>) -> Answer {
    let stream = client.connect(TcpStream::connect(to).await.unwrap()).await.unwrap();
    assert!(!stream.is_http2());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = soon("an answer", sender.send_request(request)).await.unwrap().into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

fn to(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", host).body(Full::default()).unwrap()
}

#[tokio::test]
async fn the_world_comes_in_over_tls_and_is_led_by_host_and_path() {
    let (front, api) = (Backend::says("front").await, Backend::says("api").await);
    let files = tempfile::tempdir().unwrap();
    let (shop, shop_key) = certificate(&files, "shop", &["shop.example"]);
    let (other, other_key) = certificate(&files, "other", &["*.other.example"]);
    let world = World::new();
    let _services = world.node("services-1").offers("front", front.address).offers("api", api.address).start();
    let config = format!(
        "[[ingress]]\naddress = \"IP:{INGRESS}\"\nsource = \"edge\"\n\
         tls = [{{ cert = {shop:?}, key = {shop_key:?} }}, {{ cert = {other:?}, key = {other_key:?} }}]\n\
         [[ingress.route]]\nhost = \"shop.example\"\nservice = \"front\"\n\
         [[ingress.route]]\nhost = \"shop.example\"\npath = \"/api\"\nservice = \"api\"\n\
         [[ingress.route]]\nhost = \"*.other.example\"\nservice = \"api\"\n"
    );
    let edge = world.node("edge-1").may_run("edge").with(&config).start();
    edge.finds("front", 1).await;
    edge.finds("api", 1).await;
    let client = |host: &str, roots: &PathBuf, protocol| EdgeClient::load(host, Some(roots), protocol).unwrap();
    let shop_client = client("shop.example", &shop, EdgeProtocol::Http1);
    for (path, body) in [("/", "front"), ("/apis", "front"), ("/api/x", "api")] {
        let answer = http1(ingress(&edge), &shop_client, to("shop.example", path)).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, body.as_bytes()), "{path}");
    }
    let forged = Request::get("/").header("host", "shop.example").header("starling-source", "ns/a/svc/b");
    let forged = forged.header("x-forwarded-for", "1.2.3.4").header("starling-timeout", "nonsense");
    http1(ingress(&edge), &shop_client, forged.body(Full::default()).unwrap()).await;
    let seen = front.last();
    assert_eq!(seen.field("starling-source"), Some("ns/default/svc/edge"));
    assert_eq!((seen.field("x-forwarded-for"), seen.field("x-forwarded-proto")), (Some("127.0.0.1"), Some("https")));
    assert_eq!((seen.field("host"), seen.field("x-forwarded-host")), (Some("shop.example"), Some("shop.example")));
    let other_client = client("a.other.example", &other, EdgeProtocol::Http1);
    let answer = http1(ingress(&edge), &other_client, to("a.other.example:8443", "/")).await;
    assert_eq!(&answer.body[..], b"api");
    let answer = http1(ingress(&edge), &shop_client, to("unknown.example", "/")).await;
    assert_eq!(answer.error(), (404, "no-route"));
    // HTTP/2, where the client says that it can.
    let stream = TcpStream::connect(ingress(&edge)).await.unwrap();
    let stream = client("shop.example", &shop, EdgeProtocol::Http).connect(stream).await.unwrap();
    assert!(stream.is_http2());
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://shop.example/api").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let answer = soon("an answer", response).await.unwrap();
    assert_eq!(soon("its body", read(answer.into_body())).await.unwrap().0, b"api");
    // Plaintext is no TLS.
    let mut stream = TcpStream::connect(ingress(&edge)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = soon("the end", stream.read_to_end(&mut rest)).await;
    assert!(!rest.starts_with(b"HTTP/"));
    eventually("the count of it", || edge.metric("starling_bad_requests_total", &["\"tls\""]) == 1).await;
}

#[tokio::test]
async fn an_ingress_to_one_service_carries_whatever_comes() {
    let echo = Backend::raw(|mut stream| async move {
        stream.write_all(b"welcome ").await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(&files, "db", &["db.example"]);
    let world = World::new();
    let _db = world.node("db-1").offers_tcp("db", echo.address).start();
    let config = format!(
        "[[ingress]]\naddress = \"IP:{INGRESS}\"\nservice = \"db\"\n[[ingress]]\naddress = \"IP:9443\"\nservice = \"db\"\n\
         tls = [{{ cert = {chain:?}, key = {key:?} }}]\n"
    );
    let edge = world.node("edge-1").with(&config).start();
    edge.finds("db", 1).await;
    let mut plain = TcpStream::connect(ingress(&edge)).await.unwrap();
    plain.write_all(b"hello").await.unwrap();
    plain.shutdown().await.unwrap();
    let mut all = String::new();
    soon("the end", plain.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "welcome hello");
    let client = EdgeClient::load("db.example", Some(&chain), EdgeProtocol::Opaque).unwrap();
    let stream = TcpStream::connect((edge.place().ip, 9443)).await.unwrap();
    let mut stream = client.connect(stream).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    soon("the end", stream.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "welcome hello");
}

/// A host outside that speaks HTTP over TLS and tells what it saw.
async fn outside(server: EdgeServer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let Ok(stream) = server.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let field = |name: &str| {
                        let value = request.headers().get(name).map(|value| value.to_str().unwrap());
                        format!("{name}={} ", value.unwrap_or("-"))
                    };
                    let seen = ["host", "starling-source", "x-kept"].map(field).concat();
                    Ok::<_, std::convert::Infallible>(Response::new(full(format!("{} {seen}", request.uri()))))
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_service_outside_is_called_by_its_name_in_the_mesh_and_hears_its_own() {
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(&files, "pay", &["localhost"]);
    let (stranger, _) = certificate(&files, "stranger", &["localhost"]);
    let address = outside(EdgeServer::load(&[(chain.clone(), key)], EdgeProtocol::Http1).unwrap()).await;
    let world = World::new();
    let egress = |name: &str, roots: &PathBuf| {
        let port = address.port();
        format!("[[egress]]\nname = {name:?}\naddress = \"localhost:{port}\"\ntls = true\nca = {roots:?}\n")
    };
    let config = egress("payments", &chain) + &egress("untrusted", &stranger);
    let _out = world.node("out-1").may_run("payments").may_run("untrusted").with(&config).start();
    let web = world.node("web-1").reaches("payments").reaches("untrusted").start();
    web.finds("payments", 1).await;
    web.finds("untrusted", 1).await;
    for _ in 0..3 {
        let answer = call(web.way("payments"), crate::caller::with(get("/pay?a=b"), &[("x-kept", "yes")])).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let expected = format!("/pay?a=b host=localhost:{} starling-source=- x-kept=yes ", address.port());
        assert_eq!((answer.status.as_u16(), text), (200, expected));
    }
    assert_eq!(call(web.way("untrusted"), get("/")).await.error(), (503, "upstream-connect"));
}
