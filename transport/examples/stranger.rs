//! Knocks on a node's QUIC port as those who may not come in: `stranger ADDRESS AUTHORITY TIMES`. Without a certificate, with
//! one that another authority signed in the name of a node, and with a protocol that nobody speaks. Prints how each was
//! thrown out; fails if it was not. For the tests of whole nodes.

use std::net::SocketAddr;
use std::path::Path;

#[path = "../tests/transport/hostile.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod hostile;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, authority, times] = &arguments[..] else { panic!("stranger ADDRESS AUTHORITY TIMES") };
    let address: SocketAddr = address.parse().expect("an address");
    let certificate = || hostile::signed(Path::new(authority), &hostile::params("spiffe://chaos.example/node/node-0"));
    for _ in 0..times.parse().expect("a number") {
        for (what, certificate, protocol) in [
            ("no certificate", None, "starling/1"),
            ("no certificate, control", None, "starling-control/1"),
            ("another authority", Some(certificate()), "starling/1"),
            ("another authority, control", Some(certificate()), "starling-control/1"),
            ("another protocol", Some(certificate()), "h3"),
        ] {
            let client = hostile::client(certificate, protocol.as_bytes());
            println!("{what}: {}", hostile::thrown_out(&client, address).await);
        }
    }
}
