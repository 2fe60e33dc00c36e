//! The sections that may stand often: `[[service]]`, `[[listener]]`, `[[capture.namespace]]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use starling_proto::ServiceName;

use super::problem::Key;
use super::raw::{Raw, Table, Value};
use super::read::{self, Wrong, wrong};
use super::section::{Keyed, Ledger, Section};
use super::{Listener, Namespace, Service};

/// A record of the catalog has at most 4 KiB.
const LABELS_MAX: usize = 16;
const LABEL_BYTES_MAX: usize = 200;

/// Where the parts of a `[[service]]` stand.
#[derive(Debug, Clone)]
pub(super) struct ServiceKeys {
    pub(super) name: Key,
    pub(super) address: Key,
    /// Where it says who its programs are.
    pub(super) user: Option<Key>,
    pub(super) cgroup: Option<Key>,
}

/// Where the parts of a `[[listener]]` stand.
#[derive(Debug, Clone)]
pub(super) struct ListenerKeys {
    pub(super) address: Key,
    pub(super) source: Option<Key>,
}

/// Where the parts of a `[[capture.namespace]]` stand.
#[derive(Debug, Clone)]
pub(super) struct NamespaceKeys {
    pub(super) path: Key,
    pub(super) source: Key,
}

pub(super) fn services(ledger: &Ledger, root: &mut Table, suffix: &str) -> (Vec<Service>, Vec<ServiceKeys>) {
    let mut known: BTreeMap<ServiceName, Key> = BTreeMap::new();
    let mut services = Vec::new();
    for mut section in Section::open_all(ledger, root, "service") {
        let name = section.require("name", "write the name that callers use, such as name = \"orders\"", read::service);
        let address = section.require("address", "write where it listens, such as address = \"127.0.0.1:8080\"", local);
        let protocol = section.or("protocol", starling_proto::Protocol::Http, read::protocol);
        let port = section.take("port", read::port).map(|keyed| keyed.value);
        let labels = section.or("labels", BTreeMap::new(), labels);
        let (user_key, user) = split(section.take("user", read::user));
        let (cgroup_key, cgroup) = split(section.take("cgroup", read::cgroup));
        section.close();
        let (Some(name), Some(address)) = (name, address) else { continue };
        check_name(ledger, &name.key, &name.value, suffix);
        if let Some(first) = known.get(&name.value) {
            let what = format!("'{}' is offered already by {} ({})", name.value, first.path, first.place);
            ledger.report(name.key.problem(what, "give it another name; a node offers one instance of a service"));
        } else {
            known.insert(name.value.clone(), name.key.clone());
        }
        let port = port.unwrap_or(address.value.port());
        services.push((
            Service { name: name.value, address: address.value, protocol, port, labels, user, cgroup },
            ServiceKeys { name: name.key, address: address.key, user: user_key, cgroup: cgroup_key },
        ));
    }
    services.into_iter().unzip()
}

/// `orders.mesh` is what callers write for `orders`; as a service it would be `orders` in the namespace `mesh`.
fn check_name(ledger: &Ledger, key: &Key, service: &ServiceName, suffix: &str) {
    if service.namespace() == suffix {
        let what = format!("'{service}' would be service {} in a namespace called {suffix}", service.name());
        let hint = format!("did you mean \"{}\"? .{suffix} is dns.suffix, for callers to append", service.name());
        ledger.report(key.problem(what, hint));
    }
}

fn local(raw: &Raw) -> Result<SocketAddr, Wrong> {
    let address = read::address(raw)?;
    if address.ip().is_unspecified() {
        let meant = SocketAddr::new(
            if address.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) },
            address.port(),
        );
        return Err(wrong(format!("{address} is no address to connect to"), format!("did you mean \"{meant}\"?")));
    }
    Ok(address)
}

fn labels(raw: &Raw) -> Result<BTreeMap<String, String>, Wrong> {
    const HINT: &str = "write labels = { version = \"v1\" }";
    let Value::Table(table) = &raw.value else {
        return Err(wrong(format!("expected a table, found {}", raw.value.kind()), HINT));
    };
    if table.len() > LABELS_MAX {
        return Err(wrong(format!("has {} labels", table.len()), format!("at most {LABELS_MAX} are carried")));
    }
    let label = |(key, raw): (&String, &Raw)| {
        let value = read::text(raw).map_err(|Wrong { what, .. }| wrong(format!("'{key}': {what}"), HINT))?;
        if key.len() + value.len() > LABEL_BYTES_MAX || key.chars().chain(value.chars()).any(char::is_control) {
            let what = format!("'{key}' is too long or has control characters");
            return Err(wrong(what, format!("a label has at most {LABEL_BYTES_MAX} bytes with its value")));
        }
        Ok((key.clone(), value.to_owned()))
    };
    table.iter().map(label).collect()
}

pub(super) fn listeners(ledger: &Ledger, root: &mut Table, suffix: &str) -> (Vec<Listener>, Vec<ListenerKeys>) {
    let mut listeners = Vec::new();
    for mut section in Section::open_all(ledger, root, "listener") {
        let address =
            section.require("address", "write where to listen, such as address = \"127.0.0.1:9001\"", read::address);
        let service = section.require("service", "write where it leads, such as service = \"orders\"", read::service);
        let protocol = section.take("protocol", read::protocol).map(|keyed| keyed.value);
        let source = section.take("source", read::service);
        section.close();
        let (Some(address), Some(service)) = (address, service) else { continue };
        check_name(ledger, &service.key, &service.value, suffix);
        if let Some(source) = &source {
            check_name(ledger, &source.key, &source.value, suffix);
        }
        let (source_key, source) = split(source);
        listeners.push((
            Listener { address: address.value, service: service.value, protocol, source },
            ListenerKeys { address: address.key, source: source_key },
        ));
    }
    listeners.into_iter().unzip()
}

/// `[[capture.namespace]]`
pub(super) fn namespaces(capture: &mut Section<'_>, suffix: &str) -> (Vec<Namespace>, Vec<NamespaceKeys>) {
    let ledger = capture.ledger();
    let mut namespaces: Vec<(Namespace, NamespaceKeys)> = Vec::new();
    for mut section in capture.open_within("capture.namespace") {
        let path = section.require("path", "write where it is, such as path = \"/run/netns/web\"", read::path);
        let source =
            section.require("source", "write whose programs run there, such as source = \"web\"", read::service);
        section.close();
        let (Some(path), Some(source)) = (path, source) else { continue };
        check_name(ledger, &source.key, &source.value, suffix);
        if let Some((_, first)) = namespaces.iter().find(|(known, _)| known.path == path.value) {
            let what = format!("'{}' stands in {} already", path.value.display(), first.path.path);
            ledger.report(path.key.problem(what, "a namespace belongs to one service"));
        }
        namespaces.push((
            Namespace { path: path.value, source: source.value },
            NamespaceKeys { path: path.key, source: source.key },
        ));
    }
    namespaces.into_iter().unzip()
}

fn split<T>(keyed: Option<Keyed<T>>) -> (Option<Key>, Option<T>) {
    keyed.map_or((None, None), |Keyed { key, value }| (Some(key), Some(value)))
}
