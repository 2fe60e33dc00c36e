//! `[[ingress]]` and `[[egress]]`: where the world outside meets the mesh.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use starling_proto::{Protocol, ServiceName};

use super::problem::Key;
use super::raw::{Raw, Table};
use super::read::{self, Wrong, wrong};
use super::section::{Keyed, Ledger, Section};
use crate::ingress::Route;

/// `[[ingress]]`: a way in for the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Where the world connects to.
    pub address: SocketAddr,
    /// Certificates, each with its key; none: plaintext.
    pub tls: Vec<(PathBuf, PathBuf)>,
    /// Where requests go.
    pub to: IngressTo,
    /// Proxies before this one, whose `X-Forwarded-*` count.
    pub trusted: Vec<IpNet>,
    /// The service that it speaks for; `None`: as for every caller that nothing is known of.
    pub source: Option<ServiceName>,
}

/// Where what comes to an ingress goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngressTo {
    /// By host and path.
    Routes(Vec<Route>),
    /// All of it, whatever it is.
    Service(ServiceName),
}

/// `[[egress]]`: a service outside, offered to the mesh by this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its name in the mesh.
    pub name: ServiceName,
    /// Its name or address outside.
    pub host: String,
    /// Its port outside.
    pub host_port: u16,
    /// TLS, begun by this node.
    pub tls: bool,
    /// Roots that its certificate must lead to; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port that callers use.
    pub port: u16,
}

impl Egress {
    /// What requests call it: with the port, unless that is the usual one.
    #[must_use]
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.host_port == usual { host } else { format!("{host}:{}", self.host_port) }
    }
}

const TO: &str = "write service = \"front\" for all of it, or [[ingress.route]] with host, path and service";

pub(super) fn ingresses(ledger: &Ledger, root: &mut Table) -> (Vec<Ingress>, Vec<Key>) {
    let mut ingresses = Vec::new();
    for mut section in Section::open_all(ledger, root, "ingress") {
        let address =
            section.require("address", "write where to listen, such as address = \"0.0.0.0:443\"", read::address);
        let pairs = section.take_all("tls", "ingress.tls");
        let tls = pairs.into_iter().filter_map(certificate).collect();
        let routes: Vec<_> = section.take_all("route", "ingress.route").into_iter().filter_map(route).collect();
        let service = section.take("service", read::service);
        let trusted = section.or("trusted", Vec::new(), networks);
        let source = section.take("source", read::service).map(|keyed| keyed.value);
        let at = section.key("service");
        section.close();
        let to = match (service, routes.is_empty()) {
            (Some(Keyed { key, .. }), false) => {
                ledger.report(key.problem("stands beside [[ingress.route]]", TO));
                continue;
            }
            (Some(Keyed { value, .. }), true) => IngressTo::Service(value),
            (None, false) => IngressTo::Routes(routes),
            (None, true) => {
                ledger.report(at.problem("is missing, and there is no route", TO));
                continue;
            }
        };
        let Some(address) = address else { continue };
        ingresses.push((Ingress { address: address.value, tls, to, trusted, source }, address.key));
    }
    ingresses.into_iter().unzip()
}

fn certificate(mut section: Section<'_>) -> Option<(PathBuf, PathBuf)> {
    const HINT: &str = "write tls = [{ cert = \"shop.pem\", key = \"shop.key\" }]";
    let chain = section.require("cert", HINT, read::path);
    let key = section.require("key", HINT, read::path);
    section.close();
    Some((chain?.value, key?.value))
}

fn route(mut section: Section<'_>) -> Option<Route> {
    let host = section.or("host", crate::ingress::HostPattern::Any, |raw| {
        read::text(raw)?
            .parse()
            .map_err(|error: crate::ingress::RouteError| wrong(error.to_string(), "such as \"shop.example\""))
    });
    let path = section.or("path", crate::ingress::PathPrefix::default(), |raw| {
        read::text(raw)?
            .parse()
            .map_err(|error: crate::ingress::RouteError| wrong(error.to_string(), "such as \"/api\""))
    });
    let service = section.require("service", "write where it leads, such as service = \"orders\"", read::service);
    section.close();
    Some(Route { host, path, service: service?.value })
}

fn networks(raw: &Raw) -> Result<Vec<IpNet>, Wrong> {
    let network = |text: &str| {
        let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        network.map_err(|_| wrong(format!("'{text}' is no network"), "write addresses or networks: [\"10.0.0.0/8\"]"))
    };
    read::list(raw)?.into_iter().map(network).collect()
}

pub(super) fn egresses(ledger: &Ledger, root: &mut Table) -> (Vec<Egress>, Vec<Key>) {
    let mut egresses = Vec::new();
    for mut section in Section::open_all(ledger, root, "egress") {
        let name =
            section.require("name", "write the name that callers use, such as name = \"payments\"", read::service);
        let address =
            section.require("address", "write its name and port, such as address = \"api.example.com:443\"", outside);
        let tls = section.take("tls", read::boolean).map(|keyed| keyed.value);
        let ca = section.take("ca", read::path).map(|keyed| keyed.value);
        let protocol = section.take("protocol", read::protocol);
        let port = section.take("port", read::port).map(|keyed| keyed.value);
        section.close();
        if let Some(protocol) = protocol.as_ref().filter(|protocol| protocol.value == Protocol::Udp) {
            ledger.report(protocol.key.problem("datagrams do not leave the mesh", "write http, http2, grpc or tcp"));
        }
        let protocol = protocol.map_or(Protocol::Http, |keyed| keyed.value);
        let (Some(name), Some(address)) = (name, address) else { continue };
        let (host, host_port) = address.value;
        let tls = tls.unwrap_or(host_port == 443);
        let port = port.unwrap_or(if protocol.is_http() { 80 } else { host_port });
        egresses.push((Egress { name: name.value, host, host_port, tls, ca, protocol, port }, name.key));
    }
    egresses.into_iter().unzip()
}

fn outside(raw: &Raw) -> Result<(String, u16), Wrong> {
    let text = read::text(raw)?;
    let bad = || wrong(format!("'{text}' is no host with a port"), "write such as \"api.example.com:443\"");
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let port: u16 = port.parse().map_err(|_| bad())?;
    if port == 0 || !host.trim_end_matches('.').split('.').all(is_label) {
        return Err(bad());
    }
    Ok((host.trim_end_matches('.').to_ascii_lowercase(), port))
}
