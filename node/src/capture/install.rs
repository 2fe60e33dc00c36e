use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use super::resolver::{ResolverError, ResolverKind, ResolverPaths};
use super::ruleset::{self, NftError};
use super::selection::{Selection, Standing};
use crate::dns::VipRange;
use crate::netns::Netns;

/// What to capture, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureConfig {
    /// TCP to these addresses is redirected.
    pub range: VipRange,
    /// The node's port for captured connections, `127.0.0.1:4150`.
    pub listen: SocketAddrV4,
    /// The node's DNS port, `127.0.0.1:5391`.
    pub dns: SocketAddrV4,
    /// The mesh's domain, `mesh`.
    pub suffix: String,
    /// Where to make the resolver entry; none to leave the host's resolver alone.
    pub resolver: Option<ResolverPaths>,
    /// What is captured beside the VIPs.
    pub selection: Selection,
    /// The network namespace to do it in; none for this one. The resolver of another is left alone.
    pub netns: Option<PathBuf>,
    /// The program `nft`.
    pub nft: PathBuf,
}

/// What stands on the host after [`install`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// TCP to this range goes to the node.
    pub range: VipRange,
    /// Names are asked for here, port 53.
    pub nameserver: Ipv4Addr,
    /// Who was told of the nameserver; none if the resolver was left alone.
    pub resolver: Option<ResolverKind>,
}

/// What [`status`] found.
#[derive(Debug)]
pub struct Status {
    /// Is the redirect there? Seeing it takes privilege; [`super::redirect_works`] does not.
    pub redirect: Result<bool, NftError>,
    /// What else is captured or shut, where that can be seen.
    pub standing: Standing,
    /// Is the resolver entry there? None if the resolver is left alone.
    pub resolver: Option<Result<bool, ResolverError>>,
}

/// Why a host was not changed. Nothing half done stays behind.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A redirect of local traffic ends at 127.0.0.1, so the node must listen there.
    #[error("{key}: the redirect ends at 127.0.0.1, and {address} does not listen there")]
    Address {
        /// The key of the configuration.
        key: &'static str,
        /// Its value.
        address: SocketAddrV4,
    },
    /// The redirect.
    #[error(transparent)]
    Redirect(#[from] NftError),
    /// The resolver entry.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// The namespace.
    #[error("the namespace '{}' cannot be entered: {source}", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            range: VipRange::default(),
            listen: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4150),
            dns: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5391),
            suffix: "mesh".to_owned(),
            resolver: Some(ResolverPaths::default()),
            selection: Selection::default(),
            netns: None,
            nft: find_nft(),
        }
    }
}

const CAPTURE_KEY: &str = "capture.listen";
const DNS_KEY: &str = "dns.listen";

/// An ordinary user's PATH often lacks the directory.
fn find_nft() -> PathBuf {
    let usual = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].map(PathBuf::from);
    usual.into_iter().find(|path| path.exists()).unwrap_or_else(|| "nft".into())
}

/// Redirects the VIPs to the node and makes the resolver entry. Needs privilege, once: the node then needs none. The
/// same again changes nothing; other values replace the earlier ones. The redirect is gone after a reboot.
pub fn install(config: &CaptureConfig) -> Result<Report, CaptureError> {
    for (key, address) in [(CAPTURE_KEY, config.listen), (DNS_KEY, config.dns)] {
        if ![Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED].contains(address.ip()) || address.port() == 0 {
            return Err(CaptureError::Address { key, address });
        }
    }
    within(config, |config| ruleset::load(&config.nft, config))??;
    let nameserver = config.range.dns_address();
    match config.resolver().map(|resolver| resolver.install(&config.suffix, nameserver)).transpose() {
        Ok(resolver) => Ok(Report { range: config.range, nameserver, resolver }),
        Err(error) => {
            // The first error is the one to tell.
            let _undone = uninstall(config);
            Err(error.into())
        }
    }
}

/// Removes what [`install`] did, from whichever state the host is in; both parts are tried.
pub fn uninstall(config: &CaptureConfig) -> Result<(), CaptureError> {
    // The entry first: names must not be asked for where nobody answers.
    let resolver = config.resolver().map_or(Ok(()), ResolverPaths::uninstall);
    match within(config, |config| ruleset::unload(&config.nft)) {
        // With a namespace its rules are gone too.
        Err(CaptureError::Namespace { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        unloaded => unloaded??,
    }
    Ok(resolver?)
}

/// What of [`install`] stands on this host.
pub fn status(config: &CaptureConfig) -> Status {
    let found = within(config, |config| ruleset::standing(&config.nft));
    let found = found.map_err(|error| NftError::Failed(error.to_string())).and_then(|found| found);
    let (redirect, standing) = match found {
        Ok((redirect, standing)) => (Ok(redirect), standing),
        Err(error) => (Err(error), Standing::default()),
    };
    Status { redirect, standing, resolver: config.resolver().map(ResolverPaths::is_installed) }
}

/// The rules that [`install`] would load, as nft reads them (`nft -j -f -`). Nothing is changed.
pub fn rules(config: &CaptureConfig) -> String {
    ruleset::text(config)
}

impl CaptureConfig {
    fn resolver(&self) -> Option<&ResolverPaths> {
        self.resolver.as_ref().filter(|_| self.netns.is_none())
    }
}

/// Does something in the namespace that is meant.
fn within<R: Send + 'static>(
    config: &CaptureConfig,
    work: impl FnOnce(&CaptureConfig) -> R + Send + 'static,
) -> Result<R, CaptureError> {
    let Some(path) = &config.netns else { return Ok(work(config)) };
    let failed = |source| CaptureError::Namespace { path: path.clone(), source };
    let config = config.clone();
    Netns::enter(path).and_then(|netns| netns.run(move || work(&config))).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_the_redirect_can_not_reach_is_refused_before_anything_is_done() {
        for (listen, dns, key) in [
            ("10.0.0.1:4150", "127.0.0.1:5391", "capture.listen"),
            ("127.0.0.1:4150", "127.0.0.2:5391", "dns.listen"),
            ("127.0.0.1:0", "127.0.0.1:5391", "capture.listen"),
        ] {
            let config = CaptureConfig {
                listen: listen.parse().unwrap(),
                dns: dns.parse().unwrap(),
                resolver: None,
                nft: "/nonexistent/nft".into(),
                ..CaptureConfig::default()
            };
            let error = install(&config).unwrap_err();
            assert!(matches!(error, CaptureError::Address { key: found, .. } if found == key), "{error}");
        }
    }

    #[test]
    fn a_host_without_nft_is_told_so_and_its_resolver_stays_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 10.0.0.2\n").unwrap();
        let resolver = ResolverPaths { resolv_conf: resolv_conf.clone(), ..ResolverPaths::default() };
        let config =
            CaptureConfig { resolver: Some(resolver), nft: "/nonexistent/nft".into(), ..CaptureConfig::default() };
        let error = install(&config).unwrap_err().to_string();
        assert!(error.contains("nftables"), "{error}");
        assert_eq!(std::fs::read_to_string(&resolv_conf).unwrap(), "nameserver 10.0.0.2\n");
    }
}
