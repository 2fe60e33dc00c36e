use std::net::Ipv4Addr;
use std::time::SystemTime;

use hickory_proto::rr::Name;
use ipnet::IpNet;
use starling_proto::ServiceName;

use super::Zone;

/// What stands at a name, and the zone that the name is in.
pub(super) struct Found {
    pub(super) zone: Name,
    pub(super) entry: Entry,
}

/// What stands at a name.
pub(super) enum Entry {
    /// A service.
    Service { vip: Ipv4Addr, ports: Vec<u16> },
    /// `_anything._tcp` below a service, `target` (RFC 2782).
    Transport { target: Name, vip: Ipv4Addr, ports: Vec<u16> },
    /// The address of the service of this name.
    Address(Name),
    /// The top of a zone.
    Top,
    /// Nothing, but there are names below it.
    Between,
    /// No such name.
    None,
}

impl Zone {
    /// `None` for a name that is not ours.
    pub(super) fn find(&self, name: &Name, now: SystemTime) -> Option<Found> {
        if self.suffix.zone_of(name) {
            return Some(Found { zone: self.suffix.clone(), entry: self.forward(name, now) });
        }
        self.reverse(name, now)
    }

    fn forward(&self, name: &Name, now: SystemTime) -> Entry {
        let depth = usize::from(name.num_labels().saturating_sub(self.suffix.num_labels()));
        let labels: Option<Vec<String>> =
            name.iter().take(depth).map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect();
        let Some(labels) = labels else { return Entry::None };
        let (underscored, service): (Vec<&String>, Vec<&String>) =
            labels.iter().partition(|label| label.starts_with('_'));
        let in_front = labels.iter().take(underscored.len()).all(|label| label.starts_with('_'));
        if !in_front || service.is_empty() {
            return if labels.is_empty() { Entry::Top } else { Entry::None };
        }
        let at = self.service(&service, now);
        match (&underscored[..], at) {
            ([], at) => at,
            ([transport], Entry::Service { .. }) if is_transport(transport) => Entry::Between,
            ([_, transport], Entry::Service { vip, ports }) if is_transport(transport) => {
                let mut target = name.base_name().base_name();
                target.set_fqdn(true);
                Entry::Transport { target, vip, ports }
            }
            _ => Entry::None,
        }
    }

    fn service(&self, labels: &[&String], now: SystemTime) -> Entry {
        let service = match labels {
            [name] => name.parse::<ServiceName>(),
            [name, namespace] => ServiceName::try_new(namespace, name),
            _ => return Entry::None,
        };
        let Ok(service) = service else { return Entry::None };
        if let Some(vip) = self.vips.resolve(&service, now) {
            return Entry::Service { vip, ports: self.vips.ports_of(&service) };
        }
        // `shop.mesh` exists as soon as `orders.shop.mesh` does; "no such name" would cut off all below it (RFC 8020).
        let below = labels.len() == 1 && self.vips.has_namespace(service.name(), now);
        if below { Entry::Between } else { Entry::None }
    }

    /// `4.3.77.127.in-addr.arpa`: what is known of the addresses of the range, and of no others.
    fn reverse(&self, name: &Name, now: SystemTime) -> Option<Found> {
        let range = self.vips.range().net();
        let Ok(IpNet::V4(asked)) = name.parse_arpa_name() else { return None };
        if !range.contains(&asked) {
            return None;
        }
        // The zone is cut at the dot before the range; the rest of it is nobody's but this host's either.
        let labels = usize::from(range.prefix_len() / 8) + 2;
        let zone = name.trim_to(labels);
        let entry = if name.num_labels() == zone.num_labels() {
            Entry::Top
        } else if asked.prefix_len() < 32 {
            Entry::Between
        } else {
            self.named(asked.addr(), now)
        };
        Some(Found { zone, entry })
    }

    fn named(&self, address: Ipv4Addr, now: SystemTime) -> Entry {
        let service = self.vips.service_of(address).filter(|service| self.vips.resolve(service, now).is_some());
        let name = service.and_then(|service| {
            let below = Name::from_ascii(service.to_string()).ok()?;
            below.append_domain(&self.suffix).ok()
        });
        name.map_or(Entry::None, Entry::Address)
    }
}

/// The mesh carries both, and which name an application gives its protocol is its own affair.
fn is_transport(label: &str) -> bool {
    matches!(label, "_tcp" | "_udp")
}
