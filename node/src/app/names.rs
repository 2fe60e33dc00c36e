//! The DNS servers: for this host's programs, and for those of each namespace that is captured.

use std::path::Path;
use std::sync::Arc;

use super::StartError;
use super::bind::{BOUND, Bound, problem};
use crate::admin::WayReport;
use crate::config::{Listen, Loaded};
use crate::dns::{DnsServer, Upstreams, VipTable, Zone};

/// Where the host's own resolvers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

impl Bound {
    /// Binds the DNS servers, which need the table of addresses.
    pub(super) async fn dns(&mut self, loaded: &Loaded, vips: &Arc<VipTable>) -> Result<Vec<DnsServer>, StartError> {
        let Some(Listen { address, given }) = loaded.config.dns.listen else { return Ok(Vec::new()) };
        let key = loaded.key("dns.listen");
        let zone = Zone::try_new(&loaded.config.dns.suffix, Arc::clone(vips))
            .map_err(|error| problem(&loaded.key("dns.suffix"), error.to_string(), "leave it out for \"mesh\""))?;
        let mut servers = Vec::new();
        for outpost in &mut self.outposts {
            let Some((tcp, udp)) = outpost.dns.take() else { continue };
            let upstreams = Upstreams::of_host(Path::new(RESOLV_CONF), self.vip_range);
            let server = DnsServer::of_sockets(tcp, udp, zone.clone(), upstreams);
            let path = outpost.netns.path().display();
            servers.push(server.map_err(|error| problem(&key, format!("within '{path}': {error}"), ""))?);
        }
        let upstreams = Upstreams::system(Path::new(RESOLV_CONF), self.vip_range);
        let report = |state: String| WayReport { name: "dns.listen".to_owned(), address, state };
        match DnsServer::bind(address, zone, upstreams).await {
            Ok(server) => {
                self.ways.push(report(BOUND.to_owned()));
                servers.push(server);
            }
            Err(error) if given => {
                let what = format!("cannot listen on {address}: {error}");
                return Err(problem(&key, what, "choose another address, or stop the program that has it"));
            }
            Err(error) => {
                tracing::warn!(%address, %error, "dns.listen is done without: its default address is not to be had");
                self.ways.push(report(error.to_string()));
            }
        }
        Ok(servers)
    }
}
