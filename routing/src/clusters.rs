use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use starling_proto::{Endpoint, ServiceName};

use crate::{Cluster, Timeline};

/// The clusters of all services: one immutable snapshot, replaced as a whole when the services change.
#[derive(Debug, Clone)]
pub struct Clusters {
    timeline: Timeline,
    by_service: BTreeMap<ServiceName, Arc<Cluster>>,
}

impl Clusters {
    /// No services yet; time begins at `now`.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { timeline: Timeline::starting(now), by_service: BTreeMap::new() }
    }

    /// The clusters of these services. Numbers of endpoints that stay (by key), and budgets of services that stay, are
    /// kept; a cluster of which nothing changed is the same one.
    #[must_use]
    pub fn rebuild(&self, services: &BTreeMap<ServiceName, Arc<[Endpoint]>>) -> Self {
        let cluster = |(service, source): (&ServiceName, &Arc<[Endpoint]>)| {
            let cluster = match self.by_service.get(service) {
                Some(same) if same.is_of(source) => same.clone(),
                previous => {
                    let previous = previous.map(|cluster| &**cluster);
                    Arc::new(Cluster::new(service.clone(), source.clone(), previous, self.timeline))
                }
            };
            (service.clone(), cluster)
        };
        Self { timeline: self.timeline, by_service: services.iter().map(cluster).collect() }
    }

    /// The cluster of a service; `None`: nobody offers it
    /// ([`NoSuchService`](starling_proto::ErrorCode::NoSuchService)).
    #[must_use]
    pub fn cluster(&self, service: &ServiceName) -> Option<&Arc<Cluster>> {
        self.by_service.get(service)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.by_service.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{endpoint, epoch, rng, service};
    use crate::{Outcome, Pick};

    fn services(endpoints: Vec<Endpoint>) -> BTreeMap<ServiceName, Arc<[Endpoint]>> {
        BTreeMap::from([(service("orders"), endpoints.into())])
    }

    fn pick(clusters: &Clusters, now: Instant) -> Pick {
        clusters.cluster(&service("orders")).unwrap().pick(&[], |_| false, &mut rng(1), now).unwrap()
    }

    #[test]
    fn what_was_learnt_of_an_endpoint_outlives_a_change_of_it() {
        let now = epoch();
        let first = Clusters::new(now).rebuild(&services(vec![endpoint("orders", 1)]));
        let mut under_way = pick(&first, now);
        under_way.on_outcome(Outcome::Served, now);
        let moved = Endpoint { address: ([127, 0, 0, 9], 1).into(), ..endpoint("orders", 1) };
        let second = first.rebuild(&services(vec![moved.clone(), endpoint("orders", 2)]));
        let cluster = second.cluster(&service("orders")).unwrap();
        let entry = cluster.entries().iter().find(|entry| entry.endpoint().key == moved.key).unwrap();
        assert_eq!(**entry.endpoint(), moved);
        let seen = cluster.snapshot(entry, now);
        assert_eq!((seen.in_flight, seen.chosen, seen.latency.is_some()), (1, 1, true));
        drop(under_way);
        assert_eq!(cluster.snapshot(entry, now).in_flight, 0);
    }

    #[test]
    fn an_endpoint_that_returns_begins_anew_while_requests_to_the_old_one_end_in_peace() {
        let now = epoch();
        let first = Clusters::new(now).rebuild(&services(vec![endpoint("orders", 1)]));
        let under_way = pick(&first, now);
        let gone = first.rebuild(&services(vec![endpoint("orders", 2)]));
        let back = gone.rebuild(&services(vec![endpoint("orders", 1)]));
        let cluster = back.cluster(&service("orders")).unwrap();
        assert_eq!(cluster.entries()[0].stats().in_flight(), 0);
        under_way.finish(Outcome::Failed, now);
        assert_eq!(cluster.snapshot(&cluster.entries()[0], now).failures, 0);
    }

    #[test]
    fn a_cluster_of_which_nothing_changed_is_the_same_one() {
        let first = Clusters::new(epoch()).rebuild(&services(vec![endpoint("orders", 1)]));
        let second = first.rebuild(&services(vec![endpoint("orders", 1)]));
        let name = service("orders");
        assert!(Arc::ptr_eq(first.cluster(&name).unwrap(), second.cluster(&name).unwrap()));
        let third = second.rebuild(&services(vec![]));
        let (second, third) = (second.cluster(&name).unwrap(), third.cluster(&name).unwrap());
        assert!(third.is_empty());
        assert!(Arc::ptr_eq(second.budget(), third.budget()));
        assert!(Clusters::new(epoch()).cluster(&name).is_none());
    }
}
