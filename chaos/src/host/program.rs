use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// `nobody` on Debian and most others; the id needs no entry anywhere.
pub(crate) const NOBODY: u32 = 65_534;

/// A program to run on a host: its arguments, environment and user.
#[derive(Debug, Clone)]
pub struct Program {
    path: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    unprivileged: bool,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended; 124 if it took too long.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    /// A program by path, or by name along PATH.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        Self { path: path.as_ref().into(), arguments: Vec::new(), environment: Vec::new(), unprivileged: false }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(&mut self, arguments: impl IntoIterator<Item = A>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().into()));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.environment.push((key.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs it without any privilege: as user 65534, or where this user only plays root, without its capabilities.
    pub fn unprivileged(&mut self) -> &mut Self {
        self.unprivileged = true;
        self
    }

    pub(crate) fn name(&self) -> String {
        Path::new(&self.path).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Adds itself to a command that runs what stands after it.
    pub(super) fn append_to(&self, command: &mut Command, rootless: bool) {
        if self.unprivileged && rootless {
            command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        } else if self.unprivileged {
            let nobody = NOBODY.to_string();
            command.args(["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs"]);
        }
        command.arg(&self.path).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}", self.path.display())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.display()))?;
        f.write_str("'")
    }
}

impl Output {
    /// Its standard output; panics with all it said if it failed.
    #[track_caller]
    pub fn expect_success(&self, what: &str) -> &str {
        assert!(self.status.success(), "{what}: {}\n{}{}", self.status, self.stdout, self.stderr);
        &self.stdout
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
