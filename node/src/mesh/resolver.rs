//! All addresses of a seed, asked anew each time.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

use super::seed::Seed;

/// The most addresses of one name that are dialed.
const MAX_ADDRESSES: usize = 64;

/// Asks for names of seeds.
pub(super) struct Resolver {
    dns: Option<TokioResolver>,
    /// Only addresses of this family can be dialed.
    family: IpAddr,
}

impl Resolver {
    /// `bind` tells which family of addresses can be dialed.
    pub(super) fn new(bind: IpAddr) -> Self {
        let dns = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.ip_strategy = if bind.is_ipv4() { LookupIpStrategy::Ipv4Only } else { LookupIpStrategy::Ipv6Only };
            // The seeds of a fleet change: what was true a minute ago may name nobody who lives.
            options.cache_size = 0;
            builder.build()
        });
        if let Err(error) = &dns {
            tracing::warn!(%error, "no DNS resolver on this host: seeds given as dns: are not found");
        }
        Self { dns: dns.ok(), family: bind }
    }

    /// Where a seed is; empty if it is not known now.
    pub(super) async fn addresses(&self, seed: &Seed) -> Vec<SocketAddr> {
        let (name, port) = match seed {
            Seed::Addr(address) => return vec![*address],
            Seed::Dns { name, port } => (name, *port),
        };
        let Some(dns) = &self.dns else { return Vec::new() };
        match dns.lookup_ip(name.as_str()).await {
            Ok(found) => {
                let usable = found.iter().filter(|ip| ip.is_ipv4() == self.family.is_ipv4());
                usable.map(|ip| SocketAddr::new(ip, port)).take(MAX_ADDRESSES).collect()
            }
            Err(error) => {
                tracing::debug!(%seed, %error, "seed not resolved");
                Vec::new()
            }
        }
    }
}
