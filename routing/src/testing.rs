//! What the tests of this room build their data with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use starling_proto::{Endpoint, EndpointKey, NodeId, Protocol, ServiceName};

use crate::{Cluster, Clusters};

/// Some moment to count from.
#[allow(clippy::disallowed_methods)]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

pub(crate) fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// A healthy endpoint of a service, on node `n`.
pub(crate) fn endpoint(name: &str, n: u8) -> Endpoint {
    Endpoint {
        key: EndpointKey { node: NodeId::from_bytes([n; 16]), service: service(name), instance: 0 },
        spiffe: format!("spiffe://test.example/node/n{n}").parse().unwrap(),
        address: ([127, 0, 0, n], 7947).into(),
        port: 80,
        protocol: Protocol::Http,
        zone: "".into(),
        labels: Arc::default(),
        healthy: true,
        draining: false,
        weight: 100,
    }
}

/// The clusters of one service with these endpoints, beginning at `now`.
pub(crate) fn cluster_of(endpoints: Vec<Endpoint>, now: Instant) -> Arc<Cluster> {
    let name = service("orders");
    let services = BTreeMap::from([(name.clone(), endpoints.into())]);
    Clusters::new(now).rebuild(&services).cluster(&name).unwrap().clone()
}

/// A cluster of `n` healthy endpoints, on nodes 1 to n.
pub(crate) fn cluster(n: u8, now: Instant) -> Arc<Cluster> {
    cluster_of((1..=n).map(|n| endpoint("orders", n)).collect(), now)
}
