use std::io::{self, IsTerminal};

use sd_notify::NotifyState;
use starling_transport::Identity;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use super::failure::{Exit, Failure};
use super::validate;
use crate::app::{Node, StartError, Unfinished};
use crate::config::{Loaded, Log};
use crate::descriptors;

pub(super) fn run(mut loaded: Loaded) -> Result<(), Failure> {
    // Nothing of the node exists before this: a bad file never starts half of one.
    let identity = validate::identity(&mut loaded)?;
    start_log(&loaded.config.log);
    descriptors::raise();
    super::block_on(serve(&loaded, identity))
}

/// Runs the node until a signal ends it; a second one ends it at once.
async fn serve(loaded: &Loaded, identity: Identity) -> Result<(), Failure> {
    let mut signals = Endings::listen()?;
    let mut reopen = signal(SignalKind::hangup())?;
    let node = Node::start(loaded, identity).await?;
    let mut ready = false;
    loop {
        tokio::select! {
            () = node.ready(), if !ready => {
                ready = true;
                notify(&[NotifyState::Ready]);
                tracing::info!(node = loaded.config.node.name, "ready");
                if node.is_alone() {
                    tracing::warn!("no seed has answered: this node is alone until one does; starling check says more");
                }
            }
            _ = reopen.recv() => node.reopen_logs(),
            name = signals.next() => {
                tracing::info!(signal = name, "stopping: no new requests, those under way may finish");
                break;
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tokio::select! {
        stopped = node.stop() => {
            tracing::info!(whole = stopped.is_ok(), "stopped");
            Ok(stopped?)
        }
        name = signals.next() => {
            Err(Failure::new(Exit::Failed, format!("ended at once by a second signal ({name}): requests were cut"), ""))
        }
    }
}

/// Tells systemd, if it is there to be told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// The signals that end a program.
pub(super) struct Endings {
    terminate: Signal,
    interrupt: Signal,
}

impl Endings {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one, and names it.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            other => Self::new(Exit::Failed, other.to_string(), ""),
        }
    }
}

impl From<Unfinished> for Failure {
    fn from(error: Unfinished) -> Self {
        Self::new(Exit::Failed, error.to_string(), "")
    }
}

/// Diagnostics go to stderr; libraries speak up from `warn` on.
fn start_log(log: &Log) {
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let levels = Targets::new().with_default(log.level.min(LevelFilter::WARN)).with_target("starling", log.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
}
