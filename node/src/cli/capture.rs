use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::output::deed;
use super::{Configuration, Global};
use crate::capture::{self, CaptureConfig, CaptureError, NftError, ResolverError, ResolverKind};
use crate::config::{Config, Listen, Loaded, default};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Sends names of the mesh, and the addresses behind them, to the agent of this host; needs root, once
    Install {
        #[command(flatten)]
        configuration: Configuration,
        /// Leaves the host's resolver alone
        #[arg(long)]
        no_resolver: bool,
    },
    /// Undoes that
    Uninstall,
}

pub(super) fn run(global: &Global, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Install { configuration, no_resolver } => {
            let mut settings = settings(configuration)?;
            if no_resolver {
                settings.resolver = None;
            }
            let report = capture::install(&settings).map_err(|error| failed(&error))?;
            let resolver = report.resolver.map(|kind| match kind {
                ResolverKind::SystemdResolved => "systemd-resolved",
                ResolverKind::ResolvConf => "/etc/resolv.conf",
            });
            let (range, listen) = (report.range.to_string(), settings.listen.to_string());
            let value = json!({
                "range": range, "listen": listen, "suffix": settings.suffix, "nameserver": report.nameserver,
                "resolver": resolver,
            });
            deed(
                global.output,
                &range,
                &value,
                &[
                    ("redirect", format!("TCP to {range} goes to {listen}")),
                    ("names", format!("*.{} are asked for at {}", settings.suffix, report.nameserver)),
                    ("resolver", resolver.map_or_else(|| "left alone".to_owned(), |name| format!("{name} knows"))),
                ],
            )
        }
        Verb::Uninstall => {
            let settings = CaptureConfig::default();
            capture::uninstall(&settings).map_err(|error| failed(&error))?;
            let range = settings.range.to_string();
            deed(
                global.output,
                &range,
                &json!({ "uninstalled": true }),
                &[("removed", "redirect, resolver entry".to_owned())],
            )
        }
    }
}

/// What the agent of this host is configured to; where nothing is written, what it is by default.
fn settings(configuration: Configuration) -> Result<CaptureConfig, Failure> {
    let nothing_written = configuration.config.is_none() && configuration.set.is_empty();
    if nothing_written && !Path::new(default::FILE).exists() {
        return Ok(CaptureConfig::default());
    }
    let loaded = configuration.load()?;
    let Config { capture, dns, .. } = &loaded.config;
    Ok(CaptureConfig {
        range: dns.vip_range,
        listen: address(&loaded, "capture.listen", capture.listen)?,
        dns: address(&loaded, "dns.listen", dns.listen)?,
        suffix: dns.suffix.clone(),
        ..CaptureConfig::default()
    })
}

fn address(loaded: &Loaded, key: &str, listen: Option<Listen>) -> Result<SocketAddrV4, Failure> {
    let what = match listen.map(|listen| listen.address) {
        Some(SocketAddr::V4(address)) => return Ok(address),
        Some(SocketAddr::V6(address)) => format!("{address} cannot be redirected to"),
        None => "is off, and capture leads there".to_owned(),
    };
    let problem = loaded.key(key).problem(what, "write an IPv4 loopback address, such as \"127.0.0.1:PORT\"");
    Err(crate::config::ConfigError::from(problem).into())
}

fn failed(error: &CaptureError) -> Failure {
    let denied = match error {
        CaptureError::Redirect(NftError::NoPrivilege(_)) => true,
        CaptureError::Resolver(ResolverError::File { source, .. }) => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    Failure::new(if denied { Exit::Denied } else { Exit::Failed }, error.to_string(), "")
}
