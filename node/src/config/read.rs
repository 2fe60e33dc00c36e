//! Readers of single values. Each says what is wrong and what to write instead.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use starling_proto::{Protocol, ServiceName, SpiffeId, TrustDomain};
use starling_transport::Carriers;
use tracing::level_filters::LevelFilter;

use super::problem::Source;
use super::raw::{Raw, Value};
use super::{AccessLog, Seed, Unknown, User, schema};
use crate::dns::{VipRange, VipRangeError};

/// What is wrong with a value, and what to do about it.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) hint: String,
}

pub(super) fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), hint: hint.into() }
}

type Read<T> = Result<T, Wrong>;

/// The word that switches a way in off.
pub(super) const OFF: &str = "off";

pub(super) fn text(raw: &Raw) -> Read<&str> {
    match &raw.value {
        Value::Text(text) if text.trim().is_empty() => Err(wrong("is empty", "leave the key out to get the default")),
        Value::Text(text) => Ok(text),
        other => Err(wrong(format!("expected text, found {}", other.kind()), "put it in quotes")),
    }
}

/// A list of texts; from the environment, text with commas.
pub(super) fn list(raw: &Raw) -> Read<Vec<&str>> {
    match &raw.value {
        Value::List(list) => list.iter().map(text).collect(),
        Value::Text(text) if raw.place.is_text() => {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect())
        }
        other => Err(wrong(format!("expected a list, found {}", other.kind()), "write it as [\"…\", \"…\"]")),
    }
}

pub(super) fn integer(raw: &Raw, bounds: std::ops::RangeInclusive<i64>) -> Read<i64> {
    let number = match &raw.value {
        Value::Integer(number) => Some(*number),
        Value::Text(text) if raw.place.is_text() => text.trim().parse().ok(),
        _ => None,
    };
    let (low, high) = (bounds.start(), bounds.end());
    match number {
        Some(number) if bounds.contains(&number) => Ok(number),
        Some(number) => Err(wrong(format!("{number} is out of range"), format!("write a number from {low} to {high}"))),
        None => {
            let found = match &raw.value {
                Value::Text(text) => format!("'{text}' is not a whole number"),
                other => format!("expected a whole number, found {}", other.kind()),
            };
            Err(wrong(found, format!("write a number from {low} to {high}, without quotes")))
        }
    }
}

pub(super) fn boolean(raw: &Raw) -> Read<bool> {
    match &raw.value {
        Value::Bool(value) => Ok(*value),
        other => Err(wrong(format!("expected true or false, found {}", other.kind()), "write it without quotes")),
    }
}

pub(super) fn port(raw: &Raw) -> Read<u16> {
    integer(raw, 1..=65_535).and_then(|port| u16::try_from(port).map_err(|_| wrong("is no port", "")))
}

/// What connections between nodes run over.
pub(super) fn carrier(raw: &Raw) -> Read<Carriers> {
    match text(raw)? {
        "auto" => Ok(Carriers::Both),
        "quic" => Ok(Carriers::Quic),
        "tcp" => Ok(Carriers::Tcp),
        other => {
            let hint = "write \"auto\" (QUIC, and TCP where UDP does not pass), \"quic\" or \"tcp\"";
            Err(wrong(format!("'{other}' is no carrier"), hint))
        }
    }
}

pub(super) fn fraction(raw: &Raw) -> Read<f64> {
    #[allow(clippy::cast_precision_loss)] // only 0 and 1 pass
    let number = match &raw.value {
        Value::Float(number) => Some(*number),
        Value::Integer(number) => Some(*number as f64),
        Value::Text(text) if raw.place.is_text() => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (0.0..=1.0).contains(&number) => Ok(number),
        Some(number) => {
            Err(wrong(format!("{number:?} is out of range"), "write a number from 0.0 (none) to 1.0 (all)"))
        }
        None => {
            let found = match &raw.value {
                Value::Text(text) => format!("'{text}' is not a number"),
                other => format!("expected a number, found {}", other.kind()),
            };
            Err(wrong(found, "write a number from 0.0 (none) to 1.0 (all), without quotes"))
        }
    }
}

/// Where a socket is bound or dialed: never port 0, which nobody could find.
pub(super) fn address(raw: &Raw) -> Read<SocketAddr> {
    if let Value::Integer(port @ 1..=65_535) = raw.value {
        return Err(wrong(format!("{port} is not an address"), format!("did you mean \"127.0.0.1:{port}\"?")));
    }
    let text = text(raw)?.trim();
    match SocketAddr::from_str(text) {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err(wrong(format!("'{text}' has port 0"), "write the port to use")),
        Err(_) => {
            let what = format!("'{text}' is not an address");
            let digits = text.trim_start_matches(':');
            let hint = if digits.parse::<u16>().is_ok() {
                format!("did you mean \"127.0.0.1:{digits}\"?")
            } else if IpAddr::from_str(text.trim_matches(['[', ']'])).is_ok() {
                format!("the port is missing: \"{text}:PORT\"")
            } else if let Some(port) = text.strip_prefix("localhost:") {
                format!("names are not looked up here: did you mean \"127.0.0.1:{port}\"?")
            } else {
                "write IP:PORT, such as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned()
            };
            Err(wrong(what, hint))
        }
    }
}

/// An address, or none where it says "off".
pub(super) fn address_or_off(raw: &Raw) -> Read<Option<SocketAddr>> {
    match &raw.value {
        Value::Text(text) if text == OFF => Ok(None),
        _ => address(raw)
            .map(Some)
            .map_err(|wrong| Wrong { hint: format!("{} (\"off\" for none)", wrong.hint), ..wrong }),
    }
}

pub(super) fn ip(raw: &Raw) -> Read<IpAddr> {
    let text = text(raw)?.trim();
    text.parse().map_err(|_| {
        let hint = match SocketAddr::from_str(text) {
            Ok(address) => {
                format!("write the address alone, \"{}\"; ports are mesh.gossip_port and mesh.quic_port", address.ip())
            }
            Err(_) => "write an IP address, such as \"10.0.0.1\"; names are not looked up here".to_owned(),
        };
        wrong(format!("'{text}' is not an IP address"), hint)
    })
}

/// A path; a relative one starts at the directory of the file that says it.
pub(super) fn path(raw: &Raw) -> Read<PathBuf> {
    let path = Path::new(text(raw)?);
    match &raw.place.source {
        Source::File(file) => Ok(file.parent().map_or_else(|| path.to_owned(), |dir| dir.join(path))),
        _ => Ok(path.to_owned()),
    }
}

/// A number and a unit: `250ms`, `15s`, `2m`, `1h`, `90d`.
pub(crate) fn duration_of(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.saturating_mul(unit)))
}

/// From 1 ms to 24 h.
pub(super) fn duration(raw: &Raw) -> Read<Duration> {
    const RANGE: &str = "write a duration from \"1ms\" to \"24h\"";
    if let Value::Integer(number) = raw.value {
        if !(1..=86_400).contains(&number) {
            return Err(wrong(format!("{number} is not a duration"), RANGE));
        }
        return Err(wrong(format!("{number} has no unit"), format!("did you mean \"{number}s\"?")));
    }
    let text = text(raw)?.trim();
    match duration_of(text) {
        Some(duration) if (1..=86_400_000).contains(&duration.as_millis()) => Ok(duration),
        Some(_) => Err(wrong(format!("'{text}' is out of range"), RANGE)),
        None => Err(wrong(
            format!("'{text}' is not a duration"),
            "write a number and a unit, such as \"250ms\", \"15s\", \"2m\" or \"1h\"",
        )),
    }
}

fn parsed<T: FromStr<Err: Display>>(raw: &Raw, hint: &str) -> Read<T> {
    text(raw)?.parse().map_err(|error: T::Err| wrong(error.to_string(), hint))
}

pub(super) fn service(raw: &Raw) -> Read<ServiceName> {
    let wrong = match parsed(raw, "write \"orders\", or \"orders.shop\" for the service orders in the namespace shop") {
        Ok(name) => return Ok(name),
        Err(wrong) => wrong,
    };
    let lower = text(raw)?.to_ascii_lowercase().replace('_', "-");
    let hint = match lower.parse::<ServiceName>() {
        Ok(_) => format!("did you mean \"{lower}\"?"),
        Err(_) => wrong.hint,
    };
    Err(Wrong { what: wrong.what, hint })
}

pub(super) fn protocol(raw: &Raw) -> Read<Protocol> {
    let text = text(raw)?;
    text.parse().map_err(|_| {
        let known = Protocol::ALL.iter().map(|protocol| protocol.as_str());
        let hint = match schema::nearest(text, known.clone()) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("write one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        wrong(format!("'{text}' is not a protocol"), hint)
    })
}

/// A name that can stand in a certificate.
pub(super) fn node_name(name: &str) -> Read<String> {
    let any: TrustDomain = "a".parse().map_err(|_| wrong("", ""))?;
    match SpiffeId::try_new(any, name) {
        Ok(_) => Ok(name.to_owned()),
        Err(error) => Err(wrong(error.to_string(), "set node.name to the name that the certificate was issued for")),
    }
}

pub(super) fn seed(text: &str) -> Read<Seed> {
    const HINT: &str = "write \"10.0.0.2:7947\", \"[fd00::2]:7947\" or \"dns:NAME:7947\" (the QUIC port of a node)";
    if let Some(name) = text.strip_prefix("dns:") {
        let (host, port) = name.rsplit_once(':').ok_or_else(|| {
            wrong(format!("'{text}' has no port"), format!("did you mean \"{text}:{}\"?", super::default::QUIC_PORT))
        })?;
        let good = !host.is_empty() && host.len() <= 253 && !host.contains([':', '/', ' ']);
        return match port.parse::<u16>() {
            Ok(port) if port != 0 && good => Ok(Seed::Dns { name: host.to_owned(), port }),
            _ => Err(wrong(format!("'{text}' is not a seed"), HINT)),
        };
    }
    match SocketAddr::from_str(text) {
        Ok(address) if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() => {
            Err(wrong(format!("nobody can be reached at '{text}'"), HINT))
        }
        Ok(address) => Ok(Seed::Addr(address)),
        Err(_) => {
            let quic = super::default::QUIC_PORT;
            let hint = match text.rsplit_once(':') {
                _ if Ipv4Addr::from_str(text).is_ok() => format!("did you mean \"{text}:{quic}\"?"),
                Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => {
                    format!("a name is written with dns: in front: did you mean \"dns:{text}\"?")
                }
                _ => HINT.to_owned(),
            };
            Err(wrong(format!("'{text}' is not a seed"), hint))
        }
    }
}

/// A DNS domain in lower case, without dots at its ends.
pub(super) fn suffix(raw: &Raw) -> Read<String> {
    let text = text(raw)?;
    let label = |part: &str| ServiceName::try_new("a", part).is_ok();
    let hint = match text.trim_matches('.').to_ascii_lowercase() {
        same if same == text => "write a DNS domain, such as \"mesh\" or \"mesh.example\"".to_owned(),
        better => format!("did you mean \"{better}\"?"),
    };
    if text == "localhost" || text.len() > 120 || !text.split('.').all(label) {
        return Err(wrong(format!("'{text}' is not usable as a suffix"), hint));
    }
    Ok(text.to_owned())
}

pub(super) fn vip_range(raw: &Raw) -> Read<VipRange> {
    const HINT: &str = "write a part of 127.0.0.0/8 that no program uses, such as \"127.77.0.0/16\"";
    let text = text(raw)?;
    let net: Ipv4Net = text.parse().map_err(|_| wrong(format!("'{text}' is not an IPv4 range"), HINT))?;
    if net.trunc() != net {
        let meant = net.trunc();
        return Err(wrong(format!("'{text}' is no start of a range"), format!("did you mean \"{meant}\"?")));
    }
    VipRange::try_new(net).map_err(|error| {
        let what = match error {
            VipRangeError::NotLoopback(_) => "is not loopback: other hosts could own it",
            VipRangeError::HoldsLocalhost(_) => "takes in 127.0.0.0/24, which the host itself uses",
            VipRangeError::TooSmall(_) => "is too small: a prefix of at most /26 is needed",
        };
        wrong(format!("'{text}' {what}"), HINT)
    })
}

/// A user, by name or number.
pub(super) fn user(raw: &Raw) -> Read<User> {
    let number = match &raw.value {
        Value::Integer(number) => Some(*number),
        _ => text(raw)?.parse().ok(),
    };
    match number {
        // The highest means "no user" to the system.
        Some(id) => match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(User::Id(id)),
            _ => Err(wrong(format!("{id} is no user"), "write a user's name or number, such as \"web\" or 1000")),
        },
        None => Ok(User::Name(text(raw)?.to_owned())),
    }
}

/// A path within the hierarchy of control groups.
pub(super) fn cgroup(raw: &Raw) -> Read<PathBuf> {
    const HINT: &str = "write it as `systemctl show -p ControlGroup UNIT` does, such as \"/system.slice/web.service\"";
    let text = text(raw)?;
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if text.starts_with("/sys/fs/cgroup") {
        let within = text.trim_start_matches("/sys/fs/cgroup");
        return Err(wrong(format!("'{text}' is a path of files"), format!("did you mean \"{within}\"?")));
    }
    if !path.is_absolute() || !plain || path.components().count() < 2 {
        return Err(wrong(format!("'{text}' is no control group"), HINT));
    }
    Ok(path.components().collect())
}

/// What to do with what is not of the mesh.
pub(super) fn unknown(raw: &Raw) -> Read<Unknown> {
    match text(raw)? {
        "pass" => Ok(Unknown::Pass),
        "refuse" => Ok(Unknown::Refuse),
        other => Err(wrong(format!("'{other}' is neither of the two words"), "write \"pass\" or \"refuse\"")),
    }
}

pub(super) fn level(raw: &Raw) -> Read<LevelFilter> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let text = text(raw)?;
    if let Some(Ok(level)) = LEVELS.contains(&text).then(|| text.parse()) {
        return Ok(level);
    }
    let hint = schema::nearest(text, LEVELS)
        .map_or_else(|| format!("write one of {}", LEVELS.join(", ")), |word| format!("did you mean \"{word}\"?"));
    Err(wrong(format!("'{text}' is not a level"), hint))
}

pub(super) fn access(raw: &Raw) -> Read<Option<AccessLog>> {
    match text(raw)? {
        OFF => Ok(None),
        "stdout" => Ok(Some(AccessLog::Stdout)),
        _ => path(raw).map(|path| Some(AccessLog::File(path))),
    }
}

pub(super) fn url(raw: &Raw) -> Read<http::Uri> {
    const HINT: &str = "write the collector's address, such as \"http://127.0.0.1:4318\"";
    let text = text(raw)?;
    let uri: http::Uri = text.parse().map_err(|_| wrong(format!("'{text}' is not a URL"), HINT))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some() => Ok(uri),
        Some("https") => Err(wrong(format!("'{text}': https is not spoken yet by this version"), HINT)),
        _ => Err(wrong(format!("'{text}' is not an http URL"), HINT)),
    }
}
