//! Whole nodes as processes, to be killed.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::hosts::{DEADLINE, Place, Plan, sum};

/// A node in a process of its own. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    place: Place,
}

impl Plan<'_> {
    /// Starts it as a process.
    pub(crate) fn spawn(self) -> Process {
        self.spawn_by(Command::new(env!("CARGO_BIN_EXE_starling")))
    }

    /// Starts it as a process that may have so many descriptors.
    pub(crate) fn spawn_with(self, descriptors: u32) -> Process {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={descriptors}")).arg(env!("CARGO_BIN_EXE_starling"));
        self.spawn_by(command)
    }

    fn spawn_by(self, mut command: Command) -> Process {
        let (place, _) = self.write();
        let log = std::fs::File::create(place.dir.join("agent.log")).unwrap();
        command.args(["agent", "-c"]).arg(place.dir.join("starling.toml"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Process { child, place }
    }
}

impl Process {
    /// The listener that leads to this service.
    pub(crate) fn way(&self, service: &str) -> SocketAddr {
        self.place.way(service)
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// The sum of a metric's series with this label; `None` while it does not answer.
    async fn metric(&self, name: &str, label: &str) -> Option<u64> {
        let mut stream = UnixStream::connect(self.place.dir.join("admin.sock")).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(sum(&text, name, &[label]))
    }

    /// Waits until a metric's series with this label have such a sum.
    pub(crate) async fn counts(&self, name: &str, label: &str, at_least: u64) {
        let mut last = None;
        let counting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while last.is_none_or(|count| count < at_least) {
                tick.tick().await;
                last = self.metric(name, label).await;
            }
        };
        let counted = tokio::time::timeout(DEADLINE, counting).await;
        assert!(counted.is_ok(), "{name} with {label} is {last:?}, and not {at_least}");
    }

    /// Waits until its requests may go to so many endpoints of the service.
    pub(crate) async fn finds(&self, service: &str, endpoints: u64) {
        self.counts("starling_endpoints", &format!("dst=\"{service}\""), endpoints).await;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while status.is_none() {
                tick.tick().await;
                status = self.child.try_wait().unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, ended).await.expect("the process ends");
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
