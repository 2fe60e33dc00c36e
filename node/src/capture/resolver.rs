use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::resolv_conf::{ResolvConf, with_our_lines, without_our_lines};

/// Who resolves names for the programs of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolverKind {
    /// systemd-resolved: asked to send our one domain to us.
    SystemdResolved,
    /// `resolv.conf`: we stand first in it and pass on what is not ours.
    ResolvConf,
}

/// Where the resolver's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverPaths {
    /// `/etc/resolv.conf`; may be a bind mount or a link.
    pub resolv_conf: PathBuf,
    /// There while systemd-resolved runs: `/run/systemd/resolve`.
    pub resolved_runtime: PathBuf,
    /// `/etc/systemd/resolved.conf.d`
    pub resolved_drop_ins: PathBuf,
    /// `/etc/dnssec-trust-anchors.d`
    pub trust_anchors: PathBuf,
    /// What makes systemd-resolved read its configuration again: a program and its arguments.
    pub reload: Vec<String>,
}

/// Why the resolver entry was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// A file can't be read or written.
    #[error("{}: {source}{}", path.display(), hint(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd-resolved did not take its new configuration.
    #[error("'{command}' failed: {reason}; run it yourself, then `starling capture install` again")]
    Reload {
        /// What was run.
        command: String,
        /// What came of it.
        reason: String,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run this as root",
        io::ErrorKind::ReadOnlyFilesystem => "; it is mounted read-only: add the resolver entry where it is made",
        _ => "",
    }
}

const DROP_IN: &str = "starling.conf";
const TRUST_ANCHOR: &str = "starling.negative";

/// A `resolv.conf` that holds no more than our lines did not exist before us.
const MADE_BY_US: &str = "# starling made this file\n";

impl Default for ResolverPaths {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            resolved_runtime: "/run/systemd/resolve".into(),
            resolved_drop_ins: "/etc/systemd/resolved.conf.d".into(),
            trust_anchors: "/etc/dnssec-trust-anchors.d".into(),
            reload: ["systemctl", "try-restart", "systemd-resolved"].map(str::to_owned).into(),
        }
    }
}

impl ResolverPaths {
    /// Which of the two resolves for this host: systemd-resolved only if programs really ask it.
    pub fn kind(&self) -> Result<ResolverKind, ResolverError> {
        let text = read(&self.resolv_conf)?.unwrap_or_default();
        let parsed = ResolvConf::parse(&without_our_lines(&text));
        let resolved = self.resolved_runtime.is_dir() && parsed.is_resolved_stub();
        Ok(if resolved { ResolverKind::SystemdResolved } else { ResolverKind::ResolvConf })
    }

    /// Makes the entry: names below `suffix` are asked for at `nameserver`. The same again changes nothing.
    pub(super) fn install(&self, suffix: &str, nameserver: Ipv4Addr) -> Result<ResolverKind, ResolverError> {
        let kind = self.kind()?;
        match kind {
            ResolverKind::SystemdResolved => self.install_drop_in(suffix, nameserver)?,
            ResolverKind::ResolvConf => self.install_lines(nameserver)?,
        }
        Ok(kind)
    }

    /// Removes the entry wherever it stands.
    pub(super) fn uninstall(&self) -> Result<(), ResolverError> {
        if let Some(text) = read(&self.resolv_conf)? {
            let rest = without_our_lines(&text);
            if rest == MADE_BY_US {
                remove(&self.resolv_conf)?;
            } else if rest != text {
                write_in_place(&self.resolv_conf, &rest)?;
            }
        }
        let removed = [self.drop_in(), self.trust_anchor()].map(|path| remove(&path));
        for result in removed {
            if result? {
                return self.reload();
            }
        }
        Ok(())
    }

    /// Does our entry stand there?
    pub(super) fn is_installed(&self) -> Result<bool, ResolverError> {
        match self.kind()? {
            ResolverKind::SystemdResolved => Ok(self.drop_in().exists()),
            ResolverKind::ResolvConf => {
                Ok(read(&self.resolv_conf)?.is_some_and(|text| ResolvConf::parse(&text).has_our_lines))
            }
        }
    }

    fn drop_in(&self) -> PathBuf {
        self.resolved_drop_ins.join(DROP_IN)
    }

    fn trust_anchor(&self) -> PathBuf {
        self.trust_anchors.join(TRUST_ANCHOR)
    }

    fn install_lines(&self, nameserver: Ipv4Addr) -> Result<(), ResolverError> {
        let before = read(&self.resolv_conf)?;
        let text = with_our_lines(before.as_deref().unwrap_or(MADE_BY_US), nameserver);
        if before.as_deref() == Some(&text) { Ok(()) } else { write_in_place(&self.resolv_conf, &text) }
    }

    fn install_drop_in(&self, suffix: &str, nameserver: Ipv4Addr) -> Result<(), ResolverError> {
        let drop_in =
            format!("# Made by `starling capture install`.\n[Resolve]\nDNS={nameserver}\nDomains=~{suffix}\n");
        // The root zone proves that no such domain exists: a validating resolver must not ask it.
        let wanted = [(self.drop_in(), drop_in), (self.trust_anchor(), format!("{suffix}\n"))];
        let mut changed = false;
        for (path, text) in wanted {
            if read(&path)?.as_deref() != Some(&text) {
                path.parent().map_or(Ok(()), fs::create_dir_all).map_err(|source| failed(&path, source))?;
                write_in_place(&path, &text)?;
                changed = true;
            }
        }
        if changed { self.reload() } else { Ok(()) }
    }

    fn reload(&self) -> Result<(), ResolverError> {
        let Some((program, arguments)) = self.reload.split_first() else { return Ok(()) };
        let reason = match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(ResolverError::Reload { command: self.reload.join(" "), reason })
    }
}

fn failed(path: &Path, source: io::Error) -> ResolverError {
    ResolverError::File { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Option<String>, ResolverError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

fn remove(path: &Path) -> Result<bool, ResolverError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, error)),
    }
}

/// Over the old text and only then cut: a bind mount can't be renamed over, and a reader never finds an empty file.
fn write_in_place(path: &Path, text: &str) -> Result<(), ResolverError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    };
    write().map_err(|source| failed(path, source))
}

#[cfg(test)]
mod tests;
