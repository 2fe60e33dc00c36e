use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use starling_proto::ServiceName;

use super::route::{Direction, Route, RouteKey};

/// The most routes that are told apart. More than the services of a mesh call one another through one node; what comes
/// after is counted together under the destination `other`.
pub(crate) const MAX_ROUTES: usize = 1_000;

/// All routes of this node. Looked up by every request: a map that is replaced as a whole when a route is new, so that
/// a look-up takes no lock and makes no copy.
#[derive(Debug, Default)]
pub struct Routes {
    by_destination: ArcSwap<Map>,
    /// Held while a route is added.
    adding: Mutex<()>,
}

type Map = BTreeMap<Option<ServiceName>, Vec<Arc<Route>>>;

impl Routes {
    /// The route of a request; made if it is new.
    #[must_use]
    pub fn route(&self, direction: Direction, src: Option<&ServiceName>, dst: &ServiceName) -> Arc<Route> {
        find(&self.by_destination.load(), direction, src, Some(dst))
            .unwrap_or_else(|| self.add(RouteKey { direction, src: src.cloned(), dst: Some(dst.clone()) }))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.by_destination.load().values().flatten().cloned().collect()
    }

    #[cold]
    fn add(&self, mut key: RouteKey) -> Arc<Route> {
        let _adding: MutexGuard<'_, ()> = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.by_destination.load();
        if let Some(route) = find(&known, key.direction, key.src.as_ref(), key.dst.as_ref()) {
            return route;
        }
        if known.values().map(Vec::len).sum::<usize>() >= MAX_ROUTES {
            key = RouteKey { direction: key.direction, src: None, dst: None };
            if let Some(route) = find(&known, key.direction, None, None) {
                return route;
            }
        }
        let mut map = Map::clone(&known);
        let route = Arc::new(Route::new(key));
        map.entry(route.key().dst.clone()).or_default().push(route.clone());
        self.by_destination.store(Arc::new(map));
        route
    }
}

fn find(map: &Map, direction: Direction, src: Option<&ServiceName>, dst: Option<&ServiceName>) -> Option<Arc<Route>> {
    // An `Option<ServiceName>` must be owned to look it up: cloning it copies a pointer.
    let routes = map.get(&dst.cloned())?;
    routes.iter().find(|route| route.key().direction == direction && route.key().src.as_ref() == src).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    #[test]
    fn a_route_is_made_once_and_found_again() {
        let routes = Routes::default();
        let (web, orders) = (service("web"), service("orders"));
        let first = routes.route(Direction::Outbound, Some(&web), &orders);
        assert!(Arc::ptr_eq(&first, &routes.route(Direction::Outbound, Some(&web), &orders)));
        for (direction, src, dst) in [
            (Direction::Inbound, Some(&web), &orders),
            (Direction::Outbound, None, &orders),
            (Direction::Outbound, Some(&orders), &orders),
            (Direction::Outbound, Some(&web), &web),
        ] {
            assert!(!Arc::ptr_eq(&first, &routes.route(direction, src, dst)));
        }
        assert_eq!(routes.all().len(), 5);
    }

    #[test]
    fn routes_beyond_the_limit_are_counted_together() {
        let routes = Routes::default();
        for n in 0..MAX_ROUTES {
            _ = routes.route(Direction::Outbound, None, &service(&format!("s{n}")));
        }
        let beyond = routes.route(Direction::Outbound, None, &service("one-more"));
        assert_eq!((beyond.key().dst_label(), beyond.key().src_label()), ("other".into(), "unknown".into()));
        assert!(Arc::ptr_eq(&beyond, &routes.route(Direction::Outbound, Some(&service("web")), &service("two-more"))));
        assert_eq!(routes.all().len(), MAX_ROUTES + 1);
    }
}
