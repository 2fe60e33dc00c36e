use std::fmt;
use std::str::FromStr;

use starling_proto::ServiceName;

use crate::outbound::Destination;

/// Which requests go to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Of which host.
    pub host: HostPattern,
    /// Of which part of it.
    pub path: PathPrefix,
    /// Where they go.
    pub service: ServiceName,
}

/// A host, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// Each name with one more label before this one (`*.example.com`).
    Below(String),
    /// Just this one.
    Exact(String),
}

/// Paths that begin so, at the border of a segment: `/a` stands for `/a` and `/a/b`, not for `/ab`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathPrefix(String);

/// Not a host or path that a route can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Of a host.
    #[error("'{0}' is no host: write a name, or *.name for all below it, without a port")]
    Host(String),
    /// Of a path.
    #[error("'{0}' is no path: it begins with / and holds neither ? nor #")]
    Path(String),
}

impl FromStr for HostPattern {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if text == "*" {
            return Ok(Self::Any);
        }
        if !name.trim_end_matches('.').split('.').all(is_label) {
            return Err(RouteError::Host(text.to_owned()));
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl FromStr for PathPrefix {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let is_path =
            text.starts_with('/') && text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && !b"?#".contains(&byte));
        if is_path { Ok(Self(text.trim_end_matches('/').to_owned())) } else { Err(RouteError::Path(text.to_owned())) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.0)
    }
}

impl HostPattern {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(name) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(name)),
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
        }
    }

    /// A more precise one counts before.
    const fn rank(&self) -> u8 {
        match self {
            Self::Any => 0,
            Self::Below(_) => 1,
            Self::Exact(_) => 2,
        }
    }
}

impl PathPrefix {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The most precise route of those that lead somewhere: by the host first, then by the length of the path.
pub(super) fn choose(routes: &[Route], authority: &str, path: &str) -> Option<Destination> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { host } else { authority }
    });
    let host = host.trim_end_matches('.');
    let covers = routes.iter().filter(|route| route.host.covers(host) && route.path.covers(path));
    let best = covers.max_by_key(|route| (route.host.rank(), route.path.0.len()))?;
    Some(Destination { service: best.service.clone(), port: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path: &str, service: &str) -> Route {
        Route { host: host.parse().unwrap(), path: path.parse().unwrap(), service: service.parse().unwrap() }
    }

    #[test]
    fn the_most_precise_route_counts_whatever_the_order() {
        let mut routes = vec![
            route("*", "/", "front"),
            route("shop.example", "/", "shop"),
            route("shop.example", "/api", "api"),
            route("shop.example", "/api/v2/", "api2"),
            route("*.example", "/", "any"),
            route("*", "/api", "other"),
        ];
        let table = [
            ("shop.example", "/", Some("shop")),
            ("SHOP.example:8443", "/x", Some("shop")),
            ("shop.example.", "/api", Some("api")),
            ("shop.example", "/apis", Some("shop")),
            ("shop.example", "/api/v2/x", Some("api2")),
            ("a.example", "/api", Some("any")),
            ("a.b.example", "/api/x", Some("other")),
            ("", "/", Some("front")),
            ("[::1]:80", "/", Some("front")),
        ];
        for _ in 0..2 {
            for (host, path, service) in table {
                let found = choose(&routes, host, path).map(|to| to.service.to_string());
                assert_eq!(found.as_deref(), service, "{host}{path}");
            }
            routes.reverse();
        }
        assert_eq!(choose(&[route("a.example", "/", "a")], "b.example", "/"), None);
    }

    #[test]
    fn a_host_or_path_that_is_none_is_named() {
        for bad in ["", "a b", "http://a", "a:80", "*.*.a", "a..b", "*a"] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
        for bad in ["", "a", "/a?b", "/a b", "/#"] {
            assert!(bad.parse::<PathPrefix>().is_err(), "{bad}");
        }
        assert_eq!("/a/".parse::<PathPrefix>().unwrap().to_string(), "/a/");
        assert_eq!("*.A.example".parse::<HostPattern>().unwrap().to_string(), "*.a.example");
    }
}
