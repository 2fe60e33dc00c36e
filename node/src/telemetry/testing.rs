//! What the tests of telemetry build their data with.

use std::time::{Duration, SystemTime};

use http::Method;
use starling_proto::Protocol;

use super::{Direction, Peer, RequestRecord};

/// A GET of `web` that `orders.shop` answered with 200.
pub(crate) fn record() -> RequestRecord {
    RequestRecord {
        direction: Direction::Outbound,
        protocol: Protocol::Http,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        duration: Duration::from_nanos(1_234_400),
        src: "web".parse().ok(),
        dst: "orders.shop".parse().unwrap(),
        endpoint: "spiffe://demo.example/node/node-2".parse().ok(),
        peer: Peer::Local(([127, 0, 0, 1], 40_000).into()),
        method: Some(Method::GET),
        target: "/cart".into(),
        status: 200,
        error: None,
        bytes_in: 0,
        bytes_out: 42,
        attempts: 1,
        trace: None,
    }
}
