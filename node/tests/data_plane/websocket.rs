//! Other protocols that a request of HTTP switches to, `WebSocket` above all.

use bytes::Bytes;
use http::{Request, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::{Backend, read_head};
use crate::hosts::{Running, World, soon};
use crate::http2::{connect, h2_backend};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Accepts what is asked for, whatever the key, and sends back what comes; ends when the caller does.
async fn http1_service() -> Backend {
    Backend::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"), "{head}");
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let accept = if key == KEY { ACCEPT.to_owned() } else { accept(key) };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\nwelcome "
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await
}

fn accept(key: &str) -> String {
    use base64::Engine;
    use sha1::Digest;
    let digest = sha1::Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

async fn http2_service() -> Backend {
    h2_backend(|request: Request<h2::RecvStream>, mut respond| async move {
        assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
        assert!(!request.headers().contains_key("sec-websocket-key"));
        let mut body = request.into_body();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"welcome "), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            stream.send_data(data, false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    })
    .await
}

async fn over_http1(web: &Running) {
    let mut stream = TcpStream::connect(web.way("chat")).await.unwrap();
    let asks = format!(
        "GET /room?a=b HTTP/1.1\r\nHost: chat.mesh\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(asks.as_bytes()).await.unwrap();
    let head = soon("the switch", read_head(&mut stream)).await;
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("connection: upgrade\r\nupgrade: websocket\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}\r\n")), "{head}");
    for text in ["hello", "again"] {
        stream.write_all(text.as_bytes()).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    soon("the end", stream.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "welcome helloagain");
}

async fn over_http2(web: &Running) {
    let mut sender = connect(web.way("chat")).await;
    let connected = async {
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
    };
    soon("the node allows it", connected).await;
    let mut request =
        Request::builder().method("CONNECT").uri("http://chat.mesh/room").version(Version::HTTP_2).body(()).unwrap();
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    let response = soon("the switch", response).await.unwrap();
    assert_eq!(response.status(), 200, "{:?}", response.headers());
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let (all, _) = soon("the end", crate::http2::read(response.into_body())).await.unwrap();
    assert_eq!(all, b"welcome hello");
}

#[tokio::test]
async fn a_websocket_opens_whatever_version_of_http_either_side_speaks() {
    for (backend, protocol) in [(http1_service().await, "http"), (http2_service().await, "http2")] {
        let world = World::new();
        let _chat = world.node("chat-1").offers_speaking("chat", backend.address, protocol).start();
        let web = world.node("web-1").reaches("chat").start();
        web.finds("chat", 1).await;
        over_http1(&web).await;
        over_http2(&web).await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_switch_answers_as_ever() {
    let backend = Backend::says("no").await;
    let world = World::new();
    let _chat = world.node("chat-1").offers("chat", backend.address).start();
    let web = world.node("web-1").reaches("chat").start();
    web.finds("chat", 1).await;
    let mut stream = TcpStream::connect(web.way("chat")).await.unwrap();
    let asks = "GET / HTTP/1.1\r\nHost: chat.mesh\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(asks.as_bytes()).await.unwrap();
    let mut all = String::new();
    soon("the end", stream.read_to_string(&mut all)).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200 ") && all.ends_with("\r\n\r\nno"), "{all}");
}
