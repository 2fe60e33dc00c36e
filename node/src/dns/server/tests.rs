use std::net::Ipv4Addr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::dns::{VipRange, VipTable};

const DEADLINE: Duration = Duration::from_secs(10);

async fn start(upstreams: Upstreams) -> (SocketAddr, CancellationToken) {
    let vips = Arc::new(VipTable::in_memory(VipRange::default()));
    vips.observe(&["orders".parse().unwrap()], SystemTime::now());
    let zone = Zone::try_new("mesh", vips).unwrap();
    let server = DnsServer::bind("127.0.0.1:0".parse().unwrap(), zone, upstreams).await.unwrap();
    let (address, stop) = (server.local_address().unwrap(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    (address, stop)
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(query, server).await.unwrap();
    let mut reply = [0; 2048];
    let received = tokio::time::timeout(DEADLINE, socket.recv(&mut reply)).await.expect("a reply in time").unwrap();
    Message::from_vec(&reply[..received]).unwrap()
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_u16(query.len().try_into().unwrap()).await.unwrap();
    stream.write_all(query).await.unwrap();
    let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut reply).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// A resolver that knows one address for every name, on UDP and TCP; through [`DnsServer`]'s own upstream door.
async fn resolver() -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    let answer = |bytes: &[u8]| {
        let mut message = Message::from_vec(bytes).unwrap().into_response();
        let name = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 1)))));
        message.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = udp.recv_from(&mut buffer).await {
            // First a forgery with another id, then the answer.
            let mut forged = answer(&buffer[..length]);
            forged[0] ^= 0xff;
            udp.send_to(&forged, client).await.unwrap();
            udp.send_to(&answer(&buffer[..length]), client).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let reply = answer(&query);
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_service_resolves_over_udp_and_over_tcp() {
    let (server, _stop) = start(Upstreams::Refuse).await;
    for answer in [by_udp(server, &query("orders.mesh.")).await, by_tcp(server, &query("orders.mesh.")).await] {
        assert_eq!(answer.metadata.id, 99);
        assert_eq!(answer.answers.len(), 1);
    }
}

#[tokio::test]
async fn without_upstreams_other_names_are_refused() {
    let (server, _stop) = start(Upstreams::Refuse).await;
    assert_eq!(by_udp(server, &query("example.com.")).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn other_names_go_to_the_resolvers_of_the_host() {
    let (server, _stop) = start(Upstreams::Servers(vec![resolver().await])).await;
    for answer in [by_udp(server, &query("example.com.")).await, by_tcp(server, &query("example.com.")).await] {
        assert_eq!(answer.metadata.id, 99);
        assert_eq!(answer.answers.len(), 1);
    }
}

#[tokio::test]
async fn a_resolver_that_is_gone_is_passed_over() {
    let gone = {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        closed.local_addr().unwrap()
    };
    let (server, _stop) = start(Upstreams::Servers(vec![gone, resolver().await])).await;
    assert_eq!(by_udp(server, &query("example.com.")).await.answers.len(), 1);
    let (server, _stop) = start(Upstreams::Servers(vec![gone])).await;
    assert_eq!(by_udp(server, &query("example.com.")).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn the_resolvers_come_from_resolv_conf_once_ours_stands_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nameserver 192.0.2.7\n").unwrap();
    let (server, _stop) = start(Upstreams::system(file.path(), VipRange::default())).await;
    // Ours does not stand there, so nobody sent the query to us by way of it: forwarding is not our business.
    assert_eq!(by_udp(server, &query("example.com.")).await.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn a_client_of_another_host_gets_no_answer() {
    let (server, _stop) = start(Upstreams::Refuse).await;
    let desk_is_local = |address: &str| {
        let vips = Arc::new(VipTable::in_memory(VipRange::default()));
        let desk = Desk {
            zone: Zone::try_new("mesh", vips).unwrap(),
            upstreams: Upstreams::Refuse,
            forwarding: Arc::new(Semaphore::new(1)),
            connections: Arc::new(Semaphore::new(1)),
            counts: Arc::default(),
        };
        desk.is_local(address.parse().unwrap())
    };
    assert!(desk_is_local(&server.to_string()));
    assert!(desk_is_local("[::1]:53"));
    assert!(desk_is_local("[::ffff:127.0.0.1]:53"));
    assert!(!desk_is_local("10.0.0.7:53"));
}

#[tokio::test]
async fn a_resolver_that_fails_is_asked_no_further_than_the_next_one() {
    let failing = {
        let (server, stop) = start(Upstreams::Servers(vec![])).await;
        // It refuses all but its own names, as long as the test runs.
        drop(stop);
        server
    };
    let (server, _stop) = start(Upstreams::Servers(vec![failing, resolver().await])).await;
    assert_eq!(by_udp(server, &query("example.com.")).await.answers.len(), 1);
    let (server, _stop) = start(Upstreams::Servers(vec![failing])).await;
    assert_eq!(by_udp(server, &query("example.com.")).await.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn a_server_is_never_among_those_that_it_asks() {
    let own = "127.0.0.1:53".parse().unwrap();
    let text = |upstreams: Upstreams| match upstreams.but_not(own) {
        Upstreams::Servers(servers) => servers,
        _ => Vec::new(),
    };
    let other: SocketAddr = "10.0.0.2:53".parse().unwrap();
    assert_eq!(text(Upstreams::Servers(vec![own, other])), [other]);
}

#[tokio::test]
async fn it_stops_when_told() {
    let (server, stop) = start(Upstreams::Refuse).await;
    stop.cancel();
    let until_refused = async { while TcpStream::connect(server).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, until_refused).await.expect("the port is closed");
}
