use std::fmt;
use std::process::ExitCode;

use crate::admin::ClientError;
use crate::config::ConfigError;

/// The exit codes; scripts hold on to them (`docs/cli.md`). 2 is for usage and comes from the parser of arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Failed = 1,
    Unreachable = 3,
    NotFound = 4,
    Denied = 5,
    TimedOut = 124,
    HungUp = 129,
    Interrupted = 130,
    Terminated = 143,
}

/// Why a verb did not do what it was asked for, as a user sees it.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
    hint: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: hint.into() }
    }

    /// The exit code that it ends with.
    pub(super) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells it on stderr.
    pub(super) fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(self.exit as u8)
    }

    /// `head | tail` has closed its end: nobody is left to tell.
    pub(super) fn is_broken_pipe(&self) -> bool {
        self.message == BROKEN_PIPE
    }
}

const BROKEN_PIPE: &str = "nobody reads the output any more";

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Self::new(
                Exit::Unreachable,
                message,
                "is the agent running? name its admin.socket with --admin PATH or STARLING_ADMIN",
            ),
            ClientError::Denied { .. } => {
                Self::new(Exit::Denied, message, "run this as the user that runs the agent, or as root")
            }
            ClientError::TimedOut(_) => Self::new(Exit::TimedOut, message, "give it longer with --timeout"),
            ClientError::NotFound(complaint) => Self::new(Exit::NotFound, message, complaint.hint),
            ClientError::Refused { status, complaint } => {
                let denied = matches!(status.as_u16(), 401 | 403 | 409);
                Self::new(if denied { Exit::Denied } else { Exit::Failed }, message, complaint.hint)
            }
            ClientError::Malformed { .. } => {
                Self::new(Exit::Failed, message, "are the agent and this program of the same version?")
            }
        }
    }
}

/// The configuration's own lines, with a count that heads them.
impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let count = error.problems().len();
        let errors = if count == 1 { "1 error".to_owned() } else { format!("{count} errors") };
        Self::new(Exit::Failed, format!("the configuration has {errors}\n{error}"), "")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let message = match error.kind() {
            std::io::ErrorKind::BrokenPipe => BROKEN_PIPE.to_owned(),
            _ => error.to_string(),
        };
        Self::new(Exit::Failed, message, "")
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, format!("{error:#}"), "")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::admin::Complaint;

    #[test]
    fn each_way_of_not_answering_has_its_exit_code() {
        let complaint = || Complaint { error: "no".to_owned(), hint: "try".to_owned() };
        let path = || "/run/admin.sock".into();
        for (error, exit) in [
            (ClientError::Unreachable { path: path(), reason: "gone".to_owned() }, Exit::Unreachable),
            (ClientError::Denied { path: path() }, Exit::Denied),
            (ClientError::TimedOut(Duration::from_secs(1)), Exit::TimedOut),
            (ClientError::NotFound(complaint()), Exit::NotFound),
            (ClientError::Refused { status: StatusCode::FORBIDDEN, complaint: complaint() }, Exit::Denied),
            (ClientError::Refused { status: StatusCode::CONFLICT, complaint: complaint() }, Exit::Denied),
            (ClientError::Refused { status: StatusCode::BAD_REQUEST, complaint: complaint() }, Exit::Failed),
            (ClientError::Malformed { path: path(), reason: "what".to_owned() }, Exit::Failed),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.to_string().contains("\n  hint: "), "{failure}");
        }
    }
}
