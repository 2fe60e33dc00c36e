//! What `dig` gets of a node: a table of questions and answers.

use std::time::Duration;

use starling_chaos::{MeshPlan, wait_until};

const SOON: Duration = Duration::from_mins(1);

/// What is asked, and what must stand in the answer. `VIP` is the address of `orders`, `PIV` the same backwards.
const TABLE: &[(&str, &[&str])] = &[
    // Addresses, and their absence: a name without an address of that family is no missing name.
    ("orders.mesh A", &["status: NOERROR", "flags: qr aa rd ra", "ANSWER: 1", "orders.mesh.\t\t5\tIN\tA\tVIP"]),
    ("orders.default.mesh A", &["ANSWER: 1", "orders.default.mesh.\t5\tIN\tA\tVIP"]),
    ("OrDeRs.MeSh A", &["OrDeRs.MeSh.\t\t5\tIN\tA\tVIP"]),
    (
        "orders.mesh AAAA",
        &[
            "status: NOERROR",
            "ANSWER: 0",
            "AUTHORITY: 1",
            "mesh.\t\t\t5\tIN\tSOA\tns.mesh. hostmaster.mesh. 1 3600 600 86400 5",
        ],
    ),
    ("orders.mesh TXT", &["status: NOERROR", "ANSWER: 0", "AUTHORITY: 1"]),
    ("orders.mesh HTTPS", &["status: NOERROR", "ANSWER: 0"]),
    ("orders.mesh TYPE65280", &["status: NOERROR", "ANSWER: 0"]),
    ("orders.mesh ANY", &["status: NOERROR", "VIP"]),
    // Names that are none, and must not be remembered.
    ("nobody.mesh A", &["status: NXDOMAIN", "ANSWER: 0", "mesh.\t\t\t0\tIN\tSOA"]),
    ("a.b.c.mesh A", &["status: NXDOMAIN"]),
    ("_http._tcp.nobody.mesh SRV", &["status: NXDOMAIN"]),
    ("x-.mesh A", &["status: NXDOMAIN"]),
    // Names with others below them.
    ("mesh A", &["status: NOERROR", "ANSWER: 0", "AUTHORITY: 1"]),
    ("mesh SOA", &["ANSWER: 1", "SOA\tns.mesh."]),
    ("shop.mesh A", &["status: NOERROR", "ANSWER: 0"]),
    ("_tcp.orders.mesh A", &["status: NOERROR", "ANSWER: 0"]),
    // Where a service is.
    ("orders.mesh SRV", &["ANSWER: 1", "SRV\t0 1 80 orders.mesh.", "ADDITIONAL: 2", "A\tVIP"]),
    ("_http._tcp.orders.mesh SRV", &["_http._tcp.orders.mesh.\t5\tIN\tSRV\t0 1 80 orders.mesh."]),
    ("_postgresql._tcp.db.shop.mesh SRV", &["SRV\t0 1 5432 db.shop.mesh."]),
    // And whose an address is.
    ("-x VIP", &["status: NOERROR", "PTR\torders.mesh."]),
    ("-x 127.77.0.1", &["status: NXDOMAIN", "77.127.in-addr.arpa.\t0\tIN\tSOA"]),
    ("77.127.in-addr.arpa SOA", &["ANSWER: 1"]),
    // How it is asked.
    ("+tcp orders.mesh A", &["ANSWER: 1", "(TCP)"]),
    ("+noedns orders.mesh A", &["ANSWER: 1", "ADDITIONAL: 0"]),
    ("+edns=1 +noednsneg orders.mesh A", &["status: BADVERS", "EDNS: version: 0"]),
    ("+dnssec orders.mesh A", &["ANSWER: 1", "EDNS: version: 0, flags: do; udp: 1232"]),
    ("+cookie=0123456789abcdef orders.mesh A", &["status: NOERROR", "ANSWER: 1"]),
    ("+norecurse orders.mesh A", &["flags: qr aa;", "ANSWER: 1"]),
    ("orders.mesh CH A", &["status: REFUSED"]),
    ("+opcode=NOTIFY orders.mesh SOA", &["status: NOTIMP"]),
    ("+header-only orders.mesh", &["status: FORMERR"]),
    // Nobody sent these here by way of the host's resolver entry.
    ("example.com A", &["status: REFUSED"]),
    ("-x 10.0.0.1", &["status: REFUSED"]),
];

#[test]
fn dig_gets_the_answer_of_each_question_in_the_table() {
    let mesh = MeshPlan::new("names", 1).start(|_, config| {
        config.service("orders", "127.0.0.1:8080").port(80);
        config.service("db.shop", "127.0.0.1:5432").protocol("tcp");
    });
    let host = mesh.host(0);
    let ask = |arguments: &[&str]| {
        let all = [&["@127.0.0.1", "-p", "5391", "+tries=1", "+time=5"], arguments].concat();
        host.run("dig", all).stdout
    };
    wait_until(SOON, "orders has an address", || ask(&["orders.mesh", "A"]).contains("ANSWER: 1"));
    let vip = ask(&["+short", "orders.mesh", "A"]).trim().to_owned();
    assert!(vip.starts_with("127.77."), "{vip}");
    let mut wrong = Vec::new();
    for (question, words) in TABLE {
        let question = question.replace("VIP", &vip);
        let answer = ask(&question.split(' ').collect::<Vec<_>>());
        let missing: Vec<_> =
            words.iter().map(|word| word.replace("VIP", &vip)).filter(|word| !answer.contains(word)).collect();
        if !missing.is_empty() {
            wrong.push(format!("dig {question}: no {missing:?} in\n{answer}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}
