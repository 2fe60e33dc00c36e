use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::wait_until;

/// A running program of a host, the leader of its process group. The group is killed when this is dropped; what leaves
/// the group ends with the host.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    pub(super) fn start(mut command: Command, name: String, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        Ok(Self { child: command.spawn()?, name, log: log.to_owned(), ended: None })
    }

    /// Its process id on the machine.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote so far, to standard output and error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where it writes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Does it still run (or stand still)?
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// How it ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for its end; panics with its log if it goes on.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let (name, mut ended) = (self.name.clone(), None);
        wait_until(deadline, &format!("the end of {name}"), || {
            ended = self.exit_status();
            ended.is_some()
        });
        ended.unwrap_or_else(|| panic!("{name} did not end:\n{}", self.log()))
    }

    /// Ends its group at once (SIGKILL).
    pub fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.ended.is_none() {
            self.ended = self.child.wait().ok();
        }
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
    }

    /// Stands it still, as a stalled machine would (SIGSTOP).
    pub fn stop(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn cont(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&mut self, signal: Signal) {
        // Once it is reaped, its number may belong to another.
        if self.exit_status().is_none()
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // It may have ended this very moment.
            let _gone = killpg(Pid::from_raw(group), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(4000);
            let tail = log.get(start..).unwrap_or(&log);
            eprintln!("--- the end of what {} wrote ---\n{tail}\n---", self.name);
        }
    }
}
