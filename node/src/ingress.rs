//! The way in for the world outside the mesh: TLS by server name or plaintext, and which service a request is for.

mod route;

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use starling_transport::edge::EdgeServer;

use crate::fields;
use crate::outbound::Destination;

pub use route::{HostPattern, PathPrefix, Route, RouteError};

/// One address of the world's.
#[derive(Debug)]
pub(crate) struct Ingress {
    /// TLS, if it is spoken.
    pub(crate) tls: Option<EdgeServer>,
    /// Where a request, or a connection, goes.
    pub(crate) to: To,
    /// Proxies before this one, whose word on the client counts.
    pub(crate) trusted: Vec<ipnet::IpNet>,
}

/// Where what arrives goes.
#[derive(Debug)]
pub(crate) enum To {
    /// Requests of HTTP by their host and path; the most precise route counts.
    Routes(Vec<Route>),
    /// All bytes to one service.
    Service(Destination),
}

/// One connection of the world's, as its requests tell of it.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) ingress: Arc<Ingress>,
    /// The other end.
    pub(crate) peer: Option<IpAddr>,
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// What proxies of the world could have said of a client.
const OF_PROXIES: [HeaderName; 4] = [FORWARDED_FOR, FORWARDED, fields::FORWARDED_HOST, fields::FORWARDED_PROTO];
/// What only programs of the mesh may ask for.
const OF_THE_MESH: [HeaderName; 3] = [fields::STARLING_TIMEOUT, fields::STARLING_RETRIES, fields::STARLING_SOURCE];

impl Visit {
    /// The service of a request; `None` if no route leads anywhere.
    pub(crate) fn route<B>(&self, request: &Request<B>) -> Option<Destination> {
        let routes = match &self.ingress.to {
            To::Routes(routes) => routes,
            To::Service(destination) => return Some(destination.clone()),
        };
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let host = request.uri().authority().map_or(host, http::uri::Authority::as_str);
        route::choose(routes, host, request.uri().path())
    }

    /// Takes out what the world may not say, and puts in what is known of it.
    pub(crate) fn sign(&self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        for name in OF_THE_MESH {
            headers.remove(name);
        }
        let is_trusted = self.peer.is_some_and(|peer| self.ingress.trusted.iter().any(|net| net.contains(&peer)));
        if !is_trusted {
            for name in OF_PROXIES {
                headers.remove(name);
            }
        }
        if let Some(peer) = self.peer {
            let before = headers.get(FORWARDED_FOR).and_then(|value| value.to_str().ok());
            let chain = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
            if let Ok(chain) = HeaderValue::try_from(chain) {
                headers.insert(FORWARDED_FOR, chain);
            }
        }
        let scheme = if self.ingress.tls.is_some() { "https" } else { "http" };
        headers.entry(fields::FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.entry(fields::FORWARDED_HOST).or_insert(host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::map;

    fn visit(trusted: &[&str]) -> Visit {
        let trusted = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let ingress = Ingress { tls: None, to: To::Routes(Vec::new()), trusted };
        Visit { ingress: Arc::new(ingress), peer: Some([10, 0, 0, 9].into()) }
    }

    #[test]
    fn the_world_may_not_say_who_it_is() {
        let said = [
            ("starling-source", "ns/a/svc/b"),
            ("starling-timeout", "24h"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4"),
            ("x-kept", "1"),
        ];
        let mut headers = map(&said);
        visit(&[]).sign(&mut headers, Some(HeaderValue::from_static("shop.example")));
        let expected = [
            ("x-kept", "1"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
        ];
        assert_eq!(headers, map(&expected));
    }

    #[test]
    fn a_proxy_that_is_trusted_speaks_for_its_clients() {
        let mut headers = map(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")]);
        visit(&["10.0.0.0/8"]).sign(&mut headers, None);
        assert_eq!(headers, map(&[("x-forwarded-for", "1.2.3.4, 10.0.0.9"), ("x-forwarded-proto", "https")]));
    }
}
