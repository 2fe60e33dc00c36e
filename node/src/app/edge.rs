//! What an ingress and an egress need of files, read before anything runs.

use starling_proto::Protocol;
use starling_transport::edge::{EdgeClient, EdgeError, EdgeProtocol, EdgeServer};

use crate::config::{ConfigError, Egress, IngressTo, Key, Loaded};
use crate::ingress::{Ingress, To};
use crate::outbound::Destination;

/// The ingresses of a node, in the order of its configuration.
///
/// # Errors
/// If a certificate or key cannot be used.
pub(super) fn ingresses(loaded: &Loaded) -> Result<Vec<Ingress>, ConfigError> {
    let read = |(index, configured): (usize, &crate::config::Ingress)| {
        let (to, protocol) = match &configured.to {
            IngressTo::Routes(routes) => (To::Routes(routes.clone()), EdgeProtocol::Http),
            IngressTo::Service(service) => {
                (To::Service(Destination { service: service.clone(), port: 0 }), EdgeProtocol::Opaque)
            }
        };
        let load = || EdgeServer::load(&configured.tls, protocol);
        let tls = if configured.tls.is_empty() { Ok(None) } else { load().map(Some) };
        let tls = tls.map_err(|error| {
            let hint = "write files in PEM: the chain with the leaf first, and its key";
            problem(&loaded.ingress_key(index), ("address", "tls"), &error, hint)
        })?;
        Ok(Ingress { tls, to, trusted: configured.trusted.clone() })
    };
    loaded.config.ingresses.iter().enumerate().map(read).collect()
}

/// The services outside, each with what TLS to it needs.
///
/// # Errors
/// If its roots cannot be used.
pub(super) fn egresses(loaded: &Loaded) -> Result<Vec<(Egress, Option<EdgeClient>)>, ConfigError> {
    let read = |(index, egress): (usize, &Egress)| {
        let protocol = match egress.protocol {
            Protocol::Http => EdgeProtocol::Http1,
            Protocol::Http2 | Protocol::Grpc => EdgeProtocol::Http2,
            Protocol::Tcp | Protocol::Udp | Protocol::Detect => EdgeProtocol::Opaque,
        };
        let load = || EdgeClient::load(&egress.host, egress.ca.as_deref(), protocol);
        let tls = if egress.tls { load().map(Some) } else { Ok(None) };
        let tls = tls.map_err(|error| {
            let hint = "write a file in PEM with the roots that its certificate leads to";
            problem(&loaded.egress_key(index), ("name", "ca"), &error, hint)
        })?;
        Ok((egress.clone(), tls))
    };
    loaded.config.egresses.iter().enumerate().map(read).collect()
}

/// Reads the files, for whoever wants to know whether a node would start.
///
/// # Errors
/// Of the first that cannot be used.
pub(crate) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
    ingresses(loaded)?;
    egresses(loaded).map(drop)
}

fn problem(key: &Key, (at, of): (&str, &str), error: &EdgeError, hint: &str) -> ConfigError {
    let path = key.path.strip_suffix(at).map_or_else(|| key.path.clone(), |section| format!("{section}{of}"));
    Key { path, ..key.clone() }.problem(error.to_string(), hint).into()
}
