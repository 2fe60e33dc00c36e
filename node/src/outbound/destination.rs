use std::fmt;

use http::Uri;
use http::uri::Authority;
use starling_proto::{Protocol, ServiceName};

use crate::ingress::Visit;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The service.
    pub(crate) service: ServiceName,
    /// The port that the application asked for; 0 if it named none.
    pub(crate) port: u16,
}

/// How an application's connection came in.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// All of it goes to one service: an explicit listener or a VIP.
    To {
        /// The service and port.
        destination: Destination,
        /// What the listener's configuration says it speaks; otherwise the service's own word counts.
        protocol: Option<Protocol>,
    },
    /// An HTTP proxy: each request names its destination.
    Proxy,
    /// The world outside the mesh: each request is routed by its host and path.
    Ingress(Visit),
}

/// An authority that names no service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAMeshName(String);

impl fmt::Display for NotAMeshName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is no service of the mesh: write name.mesh or name.namespace.mesh", self.0)
    }
}

impl Destination {
    /// The service that `authority` (`orders.mesh:80`) names under the mesh's DNS suffix.
    pub(crate) fn of_authority(authority: &Authority, suffix: &str) -> Result<Self, NotAMeshName> {
        let no_name = || NotAMeshName(authority.to_string());
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let name = host.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')).ok_or_else(no_name)?;
        let service = name.parse().map_err(|_| no_name())?;
        Ok(Self { service, port: authority.port_u16().unwrap_or(0) })
    }

    /// The destination of a request to the HTTP proxy: the authority of its target.
    pub(crate) fn of_target(target: &Uri, suffix: &str) -> Result<Self, NotAMeshName> {
        let authority = target.authority().ok_or_else(|| NotAMeshName(target.to_string()))?;
        Self::of_authority(authority, suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_name_gives_service_and_port() {
        let of = |text: &str| Destination::of_authority(&text.parse().unwrap(), "mesh");
        let orders = |port| Destination { service: "orders".parse().unwrap(), port };
        assert_eq!(of("orders.mesh"), Ok(orders(0)));
        assert_eq!(of("Orders.Mesh.:8080"), Ok(orders(8080)));
        assert_eq!(of("orders.shop.mesh").unwrap().service, "orders.shop".parse().unwrap());
        for bad in ["orders", "example.com", "mesh", "a.b.c.mesh", "ordersmesh", "127.0.0.1:80"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_request_without_an_authority_goes_nowhere() {
        assert!(Destination::of_target(&"/path".parse().unwrap(), "mesh").is_err());
        let target = "http://orders.mesh/path".parse().unwrap();
        assert_eq!(Destination::of_target(&target, "mesh").unwrap().port, 0);
    }
}
