//! From what was written to what is meant: a [`Config`] or all its errors.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;

use starling_transport::{Carriers, MAX_SHARDS};

use super::problem::{ConfigError, Key, Place, Problem};
use super::raw::{Raw, RawConfig, Table, Value};
use super::read::{self, Wrong, wrong};
use super::section::{Keyed, Ledger, Section, close_root};
use super::{
    Admin, Capture, Config, Defaults, Dns, Host, Identity, Limits, Listen, Loaded, Log, Mesh, Node, Proxy, Seed,
    Telemetry, Unknown, claim, default, edge, repeated,
};
use crate::dns::VipRange;

/// `unknown`: variables and flags that name no key, told with what else is wrong.
pub(super) fn build(
    raw: RawConfig,
    unknown: Vec<Problem>,
    fallback: Place,
    host: &Host,
) -> Result<Loaded, ConfigError> {
    let ledger = Ledger::new(fallback.clone());
    let mut root = raw.table;
    let node = node(&ledger, &mut root, host);
    let mesh = mesh(&ledger, &mut root, host);
    let mut section = Section::open(&ledger, &mut root, "identity");
    let identity = Identity { dir: section.or("dir", default::IDENTITY_DIR.into(), read::path) };
    section.close();
    let admin = admin(&ledger, &mut root);
    let dns = dns(&ledger, &mut root);
    let mut section = Section::open(&ledger, &mut root, "proxy");
    let proxy = Proxy {
        http: listen(&mut section, "http", default::PROXY_HTTP),
        socks5: listen(&mut section, "socks5", default::PROXY_SOCKS5),
    };
    section.close();
    let (services, service_keys) = repeated::services(&ledger, &mut root, &dns.suffix);
    let (listeners, listener_keys) = repeated::listeners(&ledger, &mut root, &dns.suffix);
    let (ingresses, ingress_keys) = edge::ingresses(&ledger, &mut root);
    let (egresses, egress_keys) = edge::egresses(&ledger, &mut root);
    let mut section = Section::open(&ledger, &mut root, "capture");
    let (namespaces, namespace_keys) = repeated::namespaces(&mut section, &dns.suffix);
    let capture = Capture {
        listen: listen(&mut section, "listen", default::CAPTURE_LISTEN),
        unknown: section.or("unknown", Unknown::Pass, read::unknown),
        namespaces,
    };
    section.close();
    let mut section = Section::open(&ledger, &mut root, "log");
    let log = Log {
        level: section.or("level", tracing::level_filters::LevelFilter::INFO, read::level),
        access: section.or("access", None, read::access),
    };
    section.close();
    let mut section = Section::open(&ledger, &mut root, "telemetry");
    let telemetry = Telemetry {
        otlp: section.take("otlp", read::url).map(|keyed| keyed.value),
        sampling: section.or("sampling", default::SAMPLING, read::fraction),
    };
    section.close();
    let defaults = defaults(&ledger, &mut root);
    let limits = limits(&ledger, &mut root);
    close_root(&ledger, &root);
    let config = Config {
        node,
        mesh,
        identity,
        admin,
        dns,
        proxy,
        services,
        listeners,
        ingresses,
        egresses,
        capture,
        log,
        telemetry,
        defaults,
        limits,
    };
    claim::check(&config, &ledger, &service_keys, &listener_keys, &ingress_keys);
    twice(&config, &ledger, &egress_keys);
    let (problems, keys) = ledger.close();
    ConfigError::check(unknown.into_iter().chain(problems).collect())?;
    let (services, listeners, namespaces) = (service_keys, listener_keys, namespace_keys);
    let (ingresses, egresses) = (ingress_keys, egress_keys);
    Ok(Loaded { config, keys, fallback, services, listeners, ingresses, egresses, namespaces })
}

fn node(ledger: &Ledger, root: &mut Table, host: &Host) -> Node {
    let mut section = Section::open(ledger, root, "node");
    let name = match section.take("name", |raw| read::text(raw).and_then(read::node_name)) {
        Some(keyed) => keyed.value,
        None => host_name(ledger, host),
    };
    let node = Node {
        name,
        zone: section.or("zone", String::new(), zone),
        data_dir: section.or("data_dir", default::DATA_DIR.into(), read::path),
        shards: section.or("shards", host.cores.min(SHARDS_MAX), shards),
    };
    section.close();
    node
}

/// The default of `node.name`; reported if it cannot stand in a certificate.
fn host_name(ledger: &Ledger, host: &Host) -> String {
    let key = ledger.key("node.name");
    let problem = match host.name.as_deref().map(read::node_name) {
        Some(Ok(name)) => return name,
        // What somebody wrote is wrong already: that is what they need to hear.
        _ if key.place.line.is_some() || key.place.is_text() => return String::new(),
        Some(Err(Wrong { what, hint })) => {
            key.problem(format!("is missing, and the host name does not serve: {what}"), hint)
        }
        None => key.problem("is missing, and this host has no name", "write name = \"web-1\""),
    };
    ledger.report(problem);
    String::new()
}

/// What one port can be shared by.
const SHARDS_MAX: NonZeroUsize = NonZeroUsize::new(MAX_SHARDS).unwrap();

fn shards(raw: &Raw) -> Result<NonZeroUsize, Wrong> {
    let shards = read::integer(raw, 1..=i64::try_from(MAX_SHARDS).unwrap_or(i64::MAX))?;
    usize::try_from(shards).ok().and_then(NonZeroUsize::new).ok_or_else(|| wrong("is no count", ""))
}

fn zone(raw: &Raw) -> Result<String, Wrong> {
    let text = read::text(raw)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if text.len() <= 63 && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(wrong(
        format!("'{text}' is not a zone"),
        "write up to 63 of a-z, A-Z, 0-9, '.', '-' and '_', such as \"eu-1a\"",
    ))
}

fn mesh(ledger: &Ledger, root: &mut Table, host: &Host) -> Mesh {
    let mut section = Section::open(ledger, root, "mesh");
    let given = section.take("advertise", reachable);
    let bind = section.take("bind", read::ip);
    let gossip_port = section.or("gossip_port", default::GOSSIP_PORT, read::port);
    let quic_port = section.or("quic_port", default::QUIC_PORT, read::port);
    let carriers = section.or("carrier", Carriers::Both, read::carrier);
    let seeds = section.take("seeds", seeds).map_or_else(Vec::new, |keyed| read_seeds(ledger, &keyed));
    section.close();
    let key = ledger.key("mesh.advertise");
    let advertise = given.map(|keyed| keyed.value).or(host.address);
    if advertise.is_none() {
        let what = "is missing, and this host has no default route to take the address from";
        ledger.report(
            key.problem(what, "write the address where others reach this node, such as advertise = \"10.0.0.1\""),
        );
    }
    let advertise = advertise.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    if let Some(bind) = bind.as_ref().filter(|bind| bind.value.is_ipv4() != advertise.is_ipv4()) {
        let what = format!("{} is not of the same family as mesh.advertise, {advertise}", bind.value);
        ledger.report(bind.key.problem(what, "write both as IPv4 or both as IPv6"));
    }
    let beyond = seeds.iter().find(|seed| matches!(seed, Seed::Addr(at) if !at.ip().is_loopback()));
    if let (true, Some(Seed::Addr(seed))) = (advertise.is_loopback(), beyond) {
        let what = format!("the seed {seed} is another host, which cannot reach {advertise}");
        ledger.report(key.problem(what, "write the address where others reach this node"));
    }
    Mesh { advertise, bind: bind.map_or(advertise, |keyed| keyed.value), gossip_port, quic_port, carriers, seeds }
}

fn reachable(raw: &Raw) -> Result<IpAddr, Wrong> {
    let ip = read::ip(raw)?;
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        return Err(wrong(
            format!("nobody can be reached at {ip}"),
            "write an address of this host; to listen on all of them set mesh.bind",
        ));
    }
    Ok(ip)
}

/// The seeds as text, each with its place.
fn seeds(raw: &Raw) -> Result<Vec<(Place, String)>, Wrong> {
    let texts = read::list(raw)?.into_iter().map(str::to_owned);
    let places: Vec<Place> = match &raw.value {
        Value::List(list) => list.iter().map(|element| element.place.clone()).collect(),
        _ => Vec::new(),
    };
    let place = |index: usize| places.get(index).unwrap_or(&raw.place).clone();
    Ok(texts.enumerate().map(|(index, text)| (place(index), text)).collect())
}

fn read_seeds(ledger: &Ledger, seeds: &Keyed<Vec<(Place, String)>>) -> Vec<Seed> {
    let read = |(index, (place, text)): (usize, &(Place, String))| match read::seed(text.trim()) {
        Ok(seed) => Some(seed),
        Err(Wrong { what, hint }) => {
            let key = Key { path: format!("{}[{index}]", seeds.key.path), place: place.clone() };
            ledger.report(key.problem(what, hint));
            None
        }
    };
    seeds.value.iter().enumerate().filter_map(read).collect()
}

/// An address of the node's own; `"off"` for none.
fn listen(section: &mut Section<'_>, key: &'static str, default: SocketAddr) -> Option<Listen> {
    match section.take(key, read::address_or_off) {
        Some(keyed) => keyed.value.map(|address| Listen { address, given: true }),
        None => Some(Listen { address: default, given: false }),
    }
}

fn admin(ledger: &Ledger, root: &mut Table) -> Admin {
    let mut section = Section::open(ledger, root, "admin");
    let admin = Admin {
        socket: section.or("socket", default::ADMIN_SOCKET.into(), |raw| {
            let path = read::path(raw)?;
            match path.as_os_str().len() {
                0..=107 => Ok(path),
                long => {
                    let what = format!("'{}' has {long} bytes, a socket's path at most 107", path.display());
                    Err(wrong(what, "choose a shorter path"))
                }
            }
        }),
        listen: listen(&mut section, "listen", default::ADMIN_LISTEN),
    };
    section.close();
    admin
}

fn dns(ledger: &Ledger, root: &mut Table) -> Dns {
    let mut section = Section::open(ledger, root, "dns");
    let dns = Dns {
        listen: listen(&mut section, "listen", default::DNS_LISTEN),
        suffix: section.or("suffix", default::DNS_SUFFIX.to_owned(), read::suffix),
        vip_range: section.or("vip_range", VipRange::default(), read::vip_range),
    };
    section.close();
    dns
}

fn defaults(ledger: &Ledger, root: &mut Table) -> Defaults {
    let mut section = Section::open(ledger, root, "defaults");
    let defaults = Defaults {
        timeout: section.or("timeout", default::TIMEOUT, read::duration),
        try_timeout: section.or("try_timeout", default::TRY_TIMEOUT, read::duration),
        connect_timeout: section.or("connect_timeout", default::CONNECT_TIMEOUT, read::duration),
        drain_timeout: section.or("drain_timeout", default::DRAIN_TIMEOUT, read::duration),
    };
    section.close();
    defaults
}

fn limits(ledger: &Ledger, root: &mut Table) -> Limits {
    let mut section = Section::open(ledger, root, "limits");
    let count = |most: usize| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        move |raw: &Raw| read::integer(raw, 1..=most).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
    };
    let usual = Limits::default();
    let limits = Limits {
        // What is carried over the hop has an end of its own.
        header_bytes: section.or("header_bytes", usual.header_bytes, count(default::HEADER_BYTES)),
        header_fields: section.or("header_fields", usual.header_fields, count(crate::outbound::MOST_FIELDS)),
        header_timeout: section.or("header_timeout", usual.header_timeout, read::duration),
        body_timeout: section.or("body_timeout", usual.body_timeout, read::duration),
        send_timeout: section.or("send_timeout", usual.send_timeout, read::duration),
        idle_timeout: section.or("idle_timeout", usual.idle_timeout, read::duration),
        streams: section.or("streams", usual.streams, |raw| {
            read::integer(raw, 1..=65_535).map(|streams| u32::try_from(streams).unwrap_or(u32::MAX))
        }),
        flows: section.or("flows", usual.flows, count(1 << 20)),
        flow_timeout: section.or("flow_timeout", usual.flow_timeout, read::duration),
    };
    section.close();
    limits
}

/// A name outside cannot be one of this node's own as well.
fn twice(config: &Config, ledger: &Ledger, keys: &[Key]) {
    for (index, egress) in config.egresses.iter().enumerate() {
        let taken = config.services.iter().any(|service| service.name == egress.name)
            || config.egresses[..index].iter().any(|other| other.name == egress.name);
        if taken {
            let what = format!("'{}' is offered already by this node", egress.name);
            ledger.report(keys[index].problem(what, "give it another name"));
        }
    }
}
