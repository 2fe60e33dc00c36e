mod choice;
mod keep;

use std::io::ErrorKind;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::output::{deed, write_out};
use super::{Configuration, Global};
use crate::capture::{self, CaptureConfig, CaptureError, NftError, ResolverError, ResolverKind};
use crate::config::{Config, Listen, Loaded, default};
use choice::Choice;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Sends names of the mesh, and the addresses behind them, to the agent of this host; needs root, once. On request also
    /// TCP to ports, of users, or of a whole namespace. What it did before is replaced
    Install {
        #[command(flatten)]
        configuration: Configuration,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        choice: Choice,
        /// Leaves the host's resolver alone
        #[arg(long)]
        no_resolver: bool,
        /// Changes nothing, and writes the rules as `nft -j -f -` would read them
        #[arg(long)]
        dry_run: bool,
    },
    /// Undoes that
    Uninstall {
        #[command(flatten)]
        place: Place,
    },
    /// What of it stands; needs root
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Holds the redirects of ports, users and namespaces in force while the agent answers: for an agent without privilege. Runs until
    /// it is ended; needs root
    Keep {
        #[command(flatten)]
        configuration: Configuration,
        #[command(flatten)]
        place: Place,
    },
}

/// Where it is done.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// A network namespace other than this one, such as /run/netns/web
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
}

pub(super) fn run(global: &Global, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Install { configuration, place, choice, no_resolver, dry_run } => {
            let (mut settings, mesh_ports) = settings(configuration)?;
            if no_resolver {
                settings.resolver = None;
            }
            settings.selection = choice.selection(place.netns.is_some(), mesh_ports)?;
            settings.netns = place.netns;
            if dry_run { Ok(write_out(&(capture::rules(&settings) + "\n"))?) } else { install(global, &settings) }
        }
        Verb::Uninstall { place } => {
            let settings = CaptureConfig { netns: place.netns, ..CaptureConfig::default() };
            capture::uninstall(&settings).map_err(|error| failed(&error))?;
            let range = settings.range.to_string();
            deed(
                global.output,
                &range,
                &json!({ "uninstalled": true }),
                &[("removed", "redirects, shut ports, resolver entry".to_owned())],
            )
        }
        Verb::Status { place } => status(global, &CaptureConfig { netns: place.netns, ..CaptureConfig::default() }),
        Verb::Keep { configuration, place } => {
            let (settings, _) = settings(configuration)?;
            keep::run(&CaptureConfig { netns: place.netns, ..settings })
        }
    }
}

fn install(global: &Global, settings: &CaptureConfig) -> Result<(), Failure> {
    let report = capture::install(settings).map_err(|error| failed(&error))?;
    let resolver = report.resolver.map(|kind| match kind {
        ResolverKind::SystemdResolved => "systemd-resolved",
        ResolverKind::ResolvConf => "/etc/resolv.conf",
    });
    let (range, listen) = (report.range.to_string(), settings.listen.to_string());
    let shut = &settings.selection.shut;
    let captured = choice::in_words(&settings.selection);
    let value = json!({
        "range": range, "listen": listen, "suffix": settings.suffix, "nameserver": report.nameserver,
        "resolver": resolver, "netns": settings.netns, "captured": captured, "shut": shut,
    });
    let mut lines = vec![
        ("redirect", format!("TCP to {range} goes to {listen}")),
        ("names", format!("*.{} are asked for at {}", settings.suffix, report.nameserver)),
        ("resolver", resolver.map_or_else(|| "left alone".to_owned(), |name| format!("{name} knows"))),
    ];
    lines.extend(captured.map(|what| ("captured", format!("{what}, while the agent runs"))));
    if !shut.is_empty() {
        lines.push(("shut", format!("to other hosts: TCP port {}", choice::listed(shut))));
    }
    deed(global.output, &range, &value, &lines)
}

fn status(global: &Global, settings: &CaptureConfig) -> Result<(), Failure> {
    let found = capture::status(settings);
    let redirect = found.redirect.map_err(|error| failed(&error.into()))?;
    let resolver = found.resolver.transpose().map_err(|error| failed(&error.into()))?;
    let standing = found.standing;
    let value = json!({
        "redirect": redirect, "resolver": resolver, "captures": standing.captures, "active": standing.active,
        "shut": standing.shut,
    });
    let said = |there: bool| if there { "installed" } else { "not installed" }.to_owned();
    let captured = match (standing.captures, standing.active) {
        (false, _) => "nothing but VIPs".to_owned(),
        (true, true) => "what was chosen".to_owned(),
        (true, false) => {
            "nothing now: no agent holds it in force (it needs CAP_NET_ADMIN, or `starling capture keep`)".to_owned()
        }
    };
    let shut = if standing.shut.is_empty() { "no port".to_owned() } else { choice::listed(&standing.shut) };
    let lines = [
        ("redirect", said(redirect)),
        ("resolver", resolver.map_or_else(|| "left alone".to_owned(), said)),
        ("captured", captured),
        ("shut", shut),
    ];
    deed(global.output, if redirect { "installed" } else { "not installed" }, &value, &lines)
}

/// What the agent of this host is configured to, and the ports of the mesh; where nothing is written, what it is by default.
fn settings(configuration: Configuration) -> Result<(CaptureConfig, [u16; 2]), Failure> {
    let nothing_written = configuration.config.is_none() && configuration.set.is_empty();
    if nothing_written && !Path::new(default::FILE).exists() {
        return Ok((CaptureConfig::default(), [default::GOSSIP_PORT, default::QUIC_PORT]));
    }
    let loaded = configuration.load()?;
    let Config { capture, dns, mesh, .. } = &loaded.config;
    let settings = CaptureConfig {
        range: dns.vip_range,
        listen: address(&loaded, "capture.listen", capture.listen)?,
        dns: address(&loaded, "dns.listen", dns.listen)?,
        suffix: dns.suffix.clone(),
        ..CaptureConfig::default()
    };
    Ok((settings, [mesh.gossip_port, mesh.quic_port]))
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
        CaptureError::Resolver(ResolverError::File { source, .. }) | CaptureError::Namespace { source, .. } => {
            source.kind() == ErrorKind::PermissionDenied
        }
        _ => false,
    };
    Failure::new(if denied { Exit::Denied } else { Exit::Failed }, error.to_string(), "")
}
