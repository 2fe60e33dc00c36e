use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::net::{HostsError, Namespaces, Switch, hardware_address};

mod process;
mod program;

pub use process::Process;
pub(crate) use program::NOBODY;
pub use program::{Output, Program};

/// How long [`Host::run`] lets a command take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// One host: an address on the bridge, a loopback, an `/etc/resolv.conf` and programs of its own. Files and process
/// ids are those of the machine.
pub struct Host {
    number: usize,
    address: Ipv4Addr,
    namespaces: Namespaces,
    switch: Arc<Switch>,
    directory: PathBuf,
    files: AtomicUsize,
}

impl Host {
    pub(crate) fn try_new(
        number: usize,
        address: Ipv4Addr,
        namespaces: Namespaces,
        switch: Arc<Switch>,
        directory: PathBuf,
    ) -> Result<Self, HostsError> {
        let step =
            |reason: std::io::Error| HostsError::Step { step: "files of a host".into(), reason: reason.to_string() };
        fs::create_dir(&directory).map_err(step)?;
        let host = Self { number, address, namespaces, switch, directory, files: AtomicUsize::new(0) };
        fs::write(host.resolv_conf(), "# this host has no resolver\n").map_err(step)?;
        let system = fs::canonicalize("/etc/resolv.conf").map_err(step)?;
        let script = format!("mount --bind {} {}\n", host.resolv_conf().display(), system.display());
        host.namespaces.feed("sh", &["-e"], &script)?;
        Ok(host)
    }

    /// Tells it where the others are, for good: it need not ask them by broadcast.
    pub(crate) fn learn_neighbours(&self, hosts: &[Self]) -> Result<(), HostsError> {
        let others = hosts.iter().filter(|other| other.number != self.number).map(|other| {
            let (address, hardware) = (other.address, hardware_address(other.address));
            format!("neigh replace {address} lladdr {hardware} dev eth0 nud permanent\n")
        });
        self.namespaces.batch(&others.collect::<String>())
    }

    /// Tells its holder to end it, and does not wait.
    pub(crate) fn begin_end(&mut self) {
        self.namespaces.release();
    }

    /// Its number in its net, from 0.
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Its address on the bridge.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A directory for its files, gone with the net.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the host's programs see as `/etc/resolv.conf`; write it in place.
    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.join("resolv.conf")
    }

    /// Is root on this host an ordinary user of the machine?
    pub const fn is_rootless(&self) -> bool {
        self.namespaces.is_rootless()
    }

    /// Runs a command as root of this host, for at most 30 s, and gives back what it said.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Output {
        self.run_program(Program::new(program).args(arguments))
    }

    /// As [`Host::run`], with environment and user of the program's own.
    #[track_caller]
    pub fn run_program(&self, program: &Program) -> Output {
        let mut command = self.namespaces.command("timeout");
        command.args(["--foreground", "--kill-after=1", &COMMAND_DEADLINE.as_secs().to_string()]);
        program.append_to(&mut command, self.is_rootless());
        let output = command.stdin(std::process::Stdio::null()).output();
        output.map_or_else(|error| panic!("{program} did not run on {self}: {error}"), Output::from)
    }

    /// Starts a program as root of this host, or without privilege if it says so.
    #[track_caller]
    pub fn spawn(&self, program: &Program) -> Process {
        let log = self.next_file(&format!("{}.log", program.name()));
        let mut command = self.namespaces.command("env");
        program.append_to(&mut command, self.is_rootless());
        Process::start(command, program.name(), &log)
            .unwrap_or_else(|error| panic!("{program} did not start on {self}: {error}"))
    }

    /// A file of its directory that nobody else was given.
    pub(crate) fn next_file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{}-{name}", self.files.fetch_add(1, Ordering::Relaxed)))
    }

    /// Ends every process of this host at once, with SIGKILL, as a power cut does. The host itself stays.
    pub fn kill9(&self) {
        self.namespaces.kill_all();
    }

    /// How many processes run here.
    pub fn process_count(&self) -> usize {
        self.namespaces.processes().len()
    }

    /// Pulls its cable: nothing comes in or goes out, and no program is told.
    #[track_caller]
    pub fn link_down(&self) {
        self.switch.set_link(self.number, false).unwrap_or_else(|error| panic!("{self}: {error}"));
    }

    /// Plugs its cable in again.
    #[track_caller]
    pub fn link_up(&self) {
        self.switch.set_link(self.number, true).unwrap_or_else(|error| panic!("{self}: {error}"));
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host {} ({})", self.number, self.address)
    }
}
