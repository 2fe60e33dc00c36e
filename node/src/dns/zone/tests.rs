use std::net::Ipv4Addr;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use starling_proto::ServiceName;

use super::*;
use crate::dns::VipRange;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1000)
}

fn zone() -> Zone {
    let vips = Arc::new(VipTable::in_memory(VipRange::default()));
    let services: Vec<ServiceName> =
        ["orders", "orders.shop", "web"].iter().map(|name| name.parse().unwrap()).collect();
    vips.observe(&services, now());
    let ports = [("orders", vec![80]), ("orders.shop", vec![5432, 5433])];
    vips.set_ports(ports.into_iter().map(|(name, ports)| (name.parse().unwrap(), ports)).collect());
    Zone::try_new("mesh", vips).unwrap()
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(zone: &Zone, message: &Message) -> Message {
    match zone.handle(&message.to_vec().unwrap(), now()) {
        Verdict::Reply(bytes, code) => {
            let answer = Message::from_vec(&bytes).unwrap();
            // Two names have the number 16.
            assert_eq!(u16::from(answer.metadata.response_code), u16::from(code));
            assert_eq!(answer.metadata.id, message.metadata.id);
            assert_eq!(answer.queries, message.queries);
            answer
        }
        other => panic!("no reply but {other:?}"),
    }
}

fn code_of(zone: &Zone, name: &str, kind: RecordType) -> ResponseCode {
    ask(zone, &query(name, kind)).metadata.response_code
}

fn addresses(answer: &Message) -> Vec<Ipv4Addr> {
    answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(A(address)) => Some(*address),
            _ => None,
        })
        .collect()
}

#[test]
fn a_service_resolves_to_its_vip_in_any_spelling() {
    let zone = zone();
    let vip = |name: &str| zone.vips.vip_of(&name.parse().unwrap()).unwrap();
    for (name, service) in [
        ("orders.mesh.", "orders"),
        ("ORders.MESH.", "orders"),
        ("orders.default.mesh.", "orders"),
        ("orders.Shop.mesh.", "orders.shop"),
    ] {
        let answer = ask(&zone, &query(name, RecordType::A));
        assert_eq!(addresses(&answer), [vip(service)], "{name}");
        assert!(answer.metadata.authoritative);
        assert_eq!(answer.answers[0].ttl, 5);
        // The case of the question comes back: some resolvers check it.
        assert!(answer.answers[0].name.eq_case(&Name::from_ascii(name).unwrap()));
    }
}

#[test]
fn other_records_of_a_service_are_no_data_and_not_no_such_name() {
    let zone = zone();
    for kind in [RecordType::AAAA, RecordType::TXT, RecordType::HTTPS, RecordType::PTR] {
        let answer = ask(&zone, &query("orders.mesh.", kind));
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{kind}");
        assert!(answer.answers.is_empty());
        // A name never gets an address of the other family: that may be remembered as long as an address.
        assert!(matches!(&answer.authorities[0].data, RData::SOA(soa) if soa.minimum == 5));
        assert_eq!(answer.authorities[0].ttl, 5);
    }
}

/// Port and target of each SRV record.
fn located(answer: &Message) -> Vec<(u16, String)> {
    let srv = |record: &Record| match &record.data {
        RData::SRV(srv) => Some((srv.port, srv.target.to_ascii())),
        _ => None,
    };
    answer.answers.iter().filter_map(srv).collect()
}

#[test]
fn a_service_is_located_with_its_port_and_its_address_beside_it() {
    let zone = zone();
    for (name, target) in [
        ("orders.mesh.", "orders.mesh."),
        ("_http._tcp.orders.mesh.", "orders.mesh."),
        ("_Whatever._UDP.Orders.mesh.", "Orders.mesh."),
        ("_http._tcp.orders.default.mesh.", "orders.default.mesh."),
    ] {
        let answer = ask(&zone, &query(name, RecordType::SRV));
        assert_eq!(located(&answer), [(80, target.to_owned())], "{name}");
        let RData::A(A(address)) = answer.additionals[0].data else { panic!("{name}: no address") };
        assert_eq!(Some(address), zone.vips.vip_of(&"orders".parse().unwrap()));
        assert_eq!(answer.additionals[0].name.to_ascii(), target);
    }
    let two = located(&ask(&zone, &query("_postgresql._tcp.orders.shop.mesh.", RecordType::SRV)));
    assert_eq!(two.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [5432, 5433]);
    assert_eq!(located(&ask(&zone, &query("web.mesh.", RecordType::SRV))), [], "nobody offers it now");
}

#[test]
fn names_with_underscores_exist_only_where_a_service_is_located() {
    let zone = zone();
    for (name, code) in [
        ("_tcp.orders.mesh.", ResponseCode::NoError),
        ("_http._tcp.orders.mesh.", ResponseCode::NoError),
        ("_sctp.orders.mesh.", ResponseCode::NXDomain),
        ("_http._tcp.nobody.mesh.", ResponseCode::NXDomain),
        ("_a._http._tcp.orders.mesh.", ResponseCode::NXDomain),
        ("orders._tcp.mesh.", ResponseCode::NXDomain),
        ("_tcp.mesh.", ResponseCode::NXDomain),
    ] {
        let answer = ask(&zone, &query(name, RecordType::A));
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (code, 0), "{name}");
    }
}

#[test]
fn an_address_of_the_range_leads_back_to_its_name() {
    let zone = zone();
    for (service, name) in [("orders", "orders.mesh."), ("orders.shop", "orders.shop.mesh.")] {
        let [a, b, c, d] = zone.vips.vip_of(&service.parse().unwrap()).unwrap().octets();
        let answer = ask(&zone, &query(&format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR));
        let RData::PTR(pointer) = &answer.answers[0].data else { panic!("no name for {service}") };
        assert_eq!(pointer.0.to_ascii(), name);
    }
    let of = |name: &str| ask(&zone, &query(name, RecordType::PTR));
    let answer = of("53.0.77.127.in-addr.arpa.");
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "no service has it");
    assert_eq!(answer.authorities[0].name.to_ascii(), "77.127.in-addr.arpa.");
    assert_eq!(of("77.127.in-addr.arpa.").metadata.response_code, ResponseCode::NoError);
    assert_eq!(of("3.77.127.in-addr.arpa.").metadata.response_code, ResponseCode::NoError, "there are names below it");
    for others in ["1.0.0.127.in-addr.arpa.", "127.in-addr.arpa.", "1.0.0.10.in-addr.arpa.", "1.ip6.arpa."] {
        assert_eq!(zone.handle(&query(others, RecordType::PTR).to_vec().unwrap(), now()), Verdict::Forward, "{others}");
    }
}

#[test]
fn an_answer_that_a_client_takes_not_whole_says_that_there_is_more() {
    let zone = zone();
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
    let service: ServiceName = long.parse().unwrap();
    zone.vips.observe([&service], now());
    zone.vips.set_ports([(service, (1..=8).collect())].into());
    let fitted = |message: &Message| {
        let bytes = message.to_vec().unwrap();
        let Verdict::Reply(reply, _) = zone.handle(&bytes, now()) else { panic!("no reply") };
        let fitted = Zone::fit(reply.clone(), &bytes);
        (reply.len(), fitted.len(), Message::from_vec(&fitted).unwrap())
    };
    let mut message = query(&format!("{long}.mesh."), RecordType::SRV);
    let (whole, cut, answer) = fitted(&message);
    assert!(whole > 512 && cut <= 512, "{whole} {cut}");
    assert!(answer.metadata.truncation && answer.answers.is_empty() && answer.queries == message.queries);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let (whole, _, answer) = fitted(&message);
    assert_eq!(answer.metadata.truncation, whole > 1232, "no more than passes any path in one piece");
}

#[test]
fn an_unknown_name_of_the_mesh_does_not_exist_and_is_not_remembered() {
    let zone = zone();
    for name in ["nobody.mesh.", "orders.nobody.mesh.", "a.b.c.mesh.", "under_score.mesh."] {
        let answer = ask(&zone, &query(name, RecordType::A));
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        let RData::SOA(soa) = &answer.authorities[0].data else { panic!("no SOA for {name}") };
        // The smaller of the two counts.
        assert_eq!((soa.minimum, answer.authorities[0].ttl), (5, 0));
        assert_eq!(answer.authorities[0].name, Name::from_ascii("mesh.").unwrap());
    }
}

#[test]
fn a_namespace_and_the_suffix_exist_without_an_address() {
    let zone = zone();
    assert_eq!(code_of(&zone, "shop.mesh.", RecordType::A), ResponseCode::NoError);
    assert_eq!(code_of(&zone, "mesh.", RecordType::A), ResponseCode::NoError);
    assert_eq!(ask(&zone, &query("mesh.", RecordType::SOA)).answers.len(), 1);
}

#[test]
fn names_outside_the_suffix_are_for_others() {
    let zone = zone();
    for name in ["example.com.", "notmesh.", "mesh.example.com.", "."] {
        assert_eq!(zone.handle(&query(name, RecordType::A).to_vec().unwrap(), now()), Verdict::Forward, "{name}");
    }
}

#[test]
fn what_is_no_plain_query_gets_the_error_of_its_kind() {
    let zone = zone();
    let code = |bytes: &[u8]| match zone.handle(bytes, now()) {
        Verdict::Reply(_, code) => Some(code),
        _ => None,
    };
    let good = query("orders.mesh.", RecordType::A);
    let bytes = good.to_vec().unwrap();
    assert_eq!(code(&bytes[..bytes.len() - 3]), Some(ResponseCode::FormErr));
    assert_eq!(code(&bytes[..11]), None, "shorter than a header");
    let mut response = bytes.clone();
    response[2] |= 0x80;
    assert_eq!(code(&response), None, "a response must never be answered");
    let mut two = good.clone();
    two.add_query(Query::query(Name::from_ascii("web.mesh.").unwrap(), RecordType::A));
    assert_eq!(code(&two.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Status;
    assert_eq!(code(&update.to_vec().unwrap()), Some(ResponseCode::NotImp));
    let mut chaos = good;
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos.to_vec().unwrap()), Some(ResponseCode::Refused));
}

#[test]
fn edns_is_answered_with_edns() {
    let zone = zone();
    let mut with = query("orders.mesh.", RecordType::A);
    assert!(ask(&zone, &with).edns.is_none());
    with.set_edns(Edns::new());
    assert_eq!(ask(&zone, &with).edns.unwrap().max_payload(), 1232);
    let mut later = Edns::new();
    later.set_version(1).set_dnssec_ok(true);
    with.set_edns(later);
    let answer = ask(&zone, &with);
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS: RFC 6891, section 6.1.3");
    assert!(answer.edns.is_some_and(|edns| edns.version() == 0 && edns.flags().dnssec_ok));
}

#[test]
fn a_suffix_may_have_several_labels_but_must_be_a_domain() {
    let vips = || Arc::new(VipTable::in_memory(VipRange::default()));
    let zone = Zone::try_new("Mesh.Internal", vips()).unwrap();
    zone.vips.observe(&["orders".parse().unwrap()], now());
    assert_eq!(addresses(&ask(&zone, &query("orders.mesh.internal.", RecordType::A))).len(), 1);
    for bad in ["", ".", "a..b", "a b", &"x".repeat(64)] {
        assert!(Zone::try_new(bad, vips()).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_answer_at_length(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Verdict::Reply(reply, _) = zone().handle(&bytes, now()) {
            prop_assert!(reply.len() <= bytes.len() + 256);
        }
    }

    #[test]
    fn a_damaged_query_never_makes_it_panic(at in 0_usize..29, to in any::<u8>()) {
        let mut bytes = query("orders.mesh.", RecordType::A).to_vec().unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        zone().handle(&bytes, now());
    }
}
