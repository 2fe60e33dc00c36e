//! The life of an agent's process: start, signals, stop.

use starling_transport::Identity;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Node, StartError, Unfinished};
use crate::config::Loaded;

/// How a node came to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It stopped, and cut requests.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// The system gave no runtime or no signals.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs a node until SIGTERM or SIGINT, on the calling thread: the mesh side lives here, the shards on their own.
///
/// # Errors
/// If it does not start, or if requests had to be cut when it stopped.
pub fn run(loaded: &Loaded, identity: Identity) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::new()?;
        let node = Node::start(loaded, identity).await?;
        let view = node.mesh().view().load_full();
        let generation = view.members.get(&view.this).map(|member| member.generation).unwrap_or_default();
        tracing::info!(node = loaded.config.node.name, %generation, "started");
        let by = signals.serve(&node).await;
        tracing::info!("{by}: requests under way may finish, then this node leaves");
        tell_manager(&[sd_notify::NotifyState::Stopping]);
        node.stop().await?;
        tracing::info!("left the mesh");
        Ok(())
    })
}

/// Under systemd, `Type=notify` waits for this; elsewhere nobody listens.
fn tell_manager(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Answers signals until one ends the node; says which.
    async fn serve(mut self, node: &Node) -> &'static str {
        let ready = node.ready();
        tokio::pin!(ready);
        let mut told = false;
        loop {
            tokio::select! {
                () = &mut ready, if !told => {
                    told = true;
                    tracing::info!("ready");
                    tell_manager(&[sd_notify::NotifyState::Ready]);
                }
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => node.reopen_logs(),
            }
        }
    }
}
