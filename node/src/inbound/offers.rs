//! The services that this node offers, and how busy each is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use starling_proto::mesh::v1;
use starling_proto::{Protocol, ServiceName};

use super::application::Application;

/// One local instance of a service.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Its name.
    pub(crate) service: ServiceName,
    /// Which instance, from 0, where this node offers several.
    pub(crate) instance: u32,
    /// Where its requests go in the end.
    pub(crate) application: Application,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The port that callers use.
    pub(crate) port: u16,
    /// Free words for those who choose.
    pub(crate) labels: BTreeMap<String, String>,
    load: LocalLoad,
    /// Connections in a row that the application did not accept.
    refused: AtomicU32,
}

#[derive(Debug, Default)]
struct LocalLoad {
    in_flight: AtomicU32,
    latency_us: AtomicU32,
}

/// Counts a request as in flight while it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Offer>);

impl Offer {
    /// An instance that has served nothing yet.
    #[must_use]
    pub(crate) fn new(
        service: ServiceName,
        instance: u32,
        application: Application,
        protocol: Protocol,
        port: u16,
    ) -> Self {
        let (labels, load) = (BTreeMap::new(), LocalLoad::default());
        Self { service, instance, application, protocol, port, labels, load, refused: AtomicU32::new(0) }
    }

    /// The record that tells the mesh of it.
    #[must_use]
    pub(crate) fn record(&self, zone: &str, draining: bool) -> v1::ServiceRecord {
        v1::ServiceRecord {
            service: self.service.path().to_owned(),
            instance: self.instance,
            port: self.port.into(),
            protocol: v1::Protocol::from(self.protocol).into(),
            labels: self.labels.clone(),
            zone: zone.to_owned(),
            healthy: true,
            draining,
            weight: 0,
        }
    }

    /// A request begins.
    #[must_use]
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// The application took a connection or a request, or it accepted none.
    pub(crate) fn on_reached(&self, reached: bool) {
        if !reached {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if self.refused.load(Ordering::Relaxed) > 0 {
            self.refused.store(0, Ordering::Relaxed);
        }
    }

    /// Connections in a row that the application did not accept.
    #[must_use]
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A request was answered after `latency`.
    pub(crate) fn on_answer(&self, latency: Duration) {
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let old = self.load.latency_us.load(Ordering::Relaxed);
        // A plain moving average over some eight requests; a lost update costs one sample.
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        self.load.latency_us.store(new, Ordering::Relaxed);
    }

    /// What callers are told with each answer.
    #[must_use]
    pub(crate) fn load(&self, epoch: u32) -> v1::Load {
        v1::Load {
            in_flight: self.load.in_flight.load(Ordering::Relaxed),
            latency_us: self.load.latency_us.load(Ordering::Relaxed),
            limit: 0,
            epoch,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.load.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All local instances.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    by_service: BTreeMap<ServiceName, Vec<Arc<Offer>>>,
}

impl Offers {
    /// Offers in the order given.
    #[must_use]
    pub(crate) fn new(offers: impl IntoIterator<Item = Offer>) -> Self {
        let mut by_service: BTreeMap<ServiceName, Vec<Arc<Offer>>> = BTreeMap::new();
        for offer in offers {
            by_service.entry(offer.service.clone()).or_default().push(Arc::new(offer));
        }
        Self { by_service }
    }

    /// The instance that a caller chose.
    #[must_use]
    pub(crate) fn find(&self, service: &ServiceName, instance: u32) -> Option<Arc<Offer>> {
        self.by_service.get(service)?.iter().find(|offer| offer.instance == instance).map(Arc::clone)
    }

    /// Every one of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Offer>> {
        self.by_service.values().flatten()
    }

    /// Requests being served now.
    #[must_use]
    pub(crate) fn in_flight(&self) -> u32 {
        self.iter().map(|offer| offer.load.in_flight.load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, instance: u32) -> Offer {
        let application = Application::local(std::net::SocketAddr::from(([127, 0, 0, 1], 8080)));
        Offer::new(name.parse().unwrap(), instance, application, Protocol::Http, 80)
    }

    #[test]
    fn an_instance_is_found_by_service_and_number() {
        let offers = Offers::new([offer("orders", 0), offer("orders", 1), offer("stock", 0)]);
        let orders = "orders".parse().unwrap();
        assert_eq!(offers.find(&orders, 1).unwrap().instance, 1);
        assert!(offers.find(&orders, 2).is_none());
        assert!(offers.find(&"web".parse().unwrap(), 0).is_none());
        assert_eq!(offers.iter().count(), 3);
    }

    #[test]
    fn a_request_counts_while_it_is_served() {
        let offers = Offers::new([offer("orders", 0)]);
        let orders = offers.find(&"orders".parse().unwrap(), 0).unwrap();
        let serving = orders.begin();
        assert_eq!((offers.in_flight(), orders.load(7).in_flight), (1, 1));
        orders.on_answer(Duration::from_micros(800));
        drop(serving);
        assert_eq!((orders.load(7).in_flight, orders.load(7).latency_us, orders.load(7).epoch), (0, 800, 7));
    }
}
