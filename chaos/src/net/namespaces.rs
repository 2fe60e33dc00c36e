use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::HostsError;

/// Says that it is there, waits for the end of its input, then ends all that shares its network namespace and removes
/// the directory `$2`, if there is one. `$1` is the namespace outside: that one is never touched.
///
/// It goes on when its group is orphaned while it stands still: the kernel hangs up then.
const HOLDER: &str = r#"
trap '' HUP
mine=$(readlink /proc/self/ns/net)
[ -n "$mine" ] && [ "$mine" != "$1" ] || exit 1
echo ready
read -r _
for round in 1 2 3 4 5; do
  left=
  for pid in $(find /proc/[0-9]*/ns/net -maxdepth 0 -printf '%l %p\n' 2>/dev/null |
    while IFS=' /' read -r net _ pid _; do [ "$net" != "$mine" ] || echo "$pid"; done); do
    [ "$pid" = $$ ] || ! kill -9 "$pid" 2>/dev/null || left=1
  done
  [ -n "$left" ] || break
done
case "$2" in */starling-*) for round in 1 2 3 4 5; do rm -rf "$2" && break; sleep 0.2; done;; esac
"#;

/// A network and a mount namespace, held by a process that waits for our end.
pub(crate) struct Namespaces {
    holder: Child,
    /// Inside a user namespace, where this user plays root; else we are root.
    rootless: bool,
}

impl Namespaces {
    /// Ones of their own: as root, or else within a new user namespace. Their holder removes the directory at its end,
    /// for a process that was killed can't.
    pub(super) fn first(directory: &Path) -> Result<Self, HostsError> {
        let unshare = |flags: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(flags);
            command
        };
        let as_root = || Self::hold(unshare(&[]), false, directory);
        let as_user = || Self::hold(unshare(&["--user", "--map-root-user"]), true, directory);
        if geteuid().is_root() { as_root().or_else(|refused| as_user().map_err(|_| refused)) } else { as_user() }
    }

    /// Others beside these, in the same user namespace.
    pub(super) fn another(&self) -> Result<Self, HostsError> {
        Self::hold(self.command("unshare"), self.rootless, Path::new(""))
    }

    fn hold(mut unshare: Command, rootless: bool, directory: &Path) -> Result<Self, HostsError> {
        let refused = |reason: String| HostsError::NoNamespaces(reason);
        let outside = fs::read_link("/proc/self/ns/net").map_err(|error| refused(error.to_string()))?;
        unshare
            .args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", HOLDER, "holder"])
            .arg(outside)
            .arg(directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut holder = spawn(&mut unshare, "unshare", "util-linux")?;
        let mut line = String::new();
        let said = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        if line == "ready\n" {
            return Ok(Self { holder, rootless });
        }
        drop(said);
        let output = holder.wait_with_output().map_err(|error| refused(error.to_string()))?;
        Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }

    /// Lets the holder end, and does not wait for it.
    pub(crate) fn release(&mut self) {
        drop(self.holder.stdin.take());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Does root here lack the power of root outside?
    pub(crate) const fn is_rootless(&self) -> bool {
        self.rootless
    }

    /// A command that runs inside; it replaces its helper, so that the child's id is its own.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--net", "--mount"]);
        if self.rootless {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Runs lines of ip(8) inside.
    pub(crate) fn batch(&self, lines: &str) -> Result<(), HostsError> {
        self.feed("ip", &["-batch", "-"], lines)
    }

    /// Runs a program inside with this input.
    pub(crate) fn feed(&self, program: &'static str, arguments: &[&str], input: &str) -> Result<(), HostsError> {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn(&mut command, "nsenter", "util-linux")?;
        // That it hung up early shows in its exit code.
        let _sent = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        let step = || format!("{program} {}\n{input}", arguments.join(" "));
        let failed = |reason: String| HostsError::Step { step: step(), reason };
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.success() {
            true => Ok(()),
            false if said.contains("No such file or directory") && said.contains("failed to execute") => {
                Err(HostsError::Missing { program, package: if program == "nft" { "nftables" } else { "iproute2" } })
            }
            false => Err(failed(said)),
        }
    }

    /// Every process inside but the holder.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let namespace = |pid: &str| fs::read_link(PathBuf::from("/proc").join(pid).join("ns/net")).ok();
        let Some(ours) = namespace(&self.pid().to_string()) else { return Vec::new() };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && namespace(pid).as_ref() == Some(&ours))
            .filter_map(|pid| pid.parse::<i32>().ok())
            .filter(|pid| pid.cast_unsigned() != self.pid())
            .map(Pid::from_raw)
            .collect()
    }

    /// Ends every process inside but the holder, with SIGKILL.
    pub(crate) fn kill_all(&self) {
        for _round in 0..5 {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for process in processes {
                // One that ended by itself meanwhile is as good.
                let _gone = kill(process, Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.release();
        if let Err(error) = self.holder.wait() {
            eprintln!("namespaces were not given back: {error}");
        }
    }
}

fn spawn(command: &mut Command, program: &'static str, package: &'static str) -> Result<Child, HostsError> {
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => HostsError::Missing { program, package },
        _ => HostsError::Step { step: program.to_owned(), reason: error.to_string() },
    })
}
