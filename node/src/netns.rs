//! Network namespaces of this host that the node listens in beside its own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::sched::{CloneFlags, setns};

type Job = Box<dyn FnOnce() + Send>;

/// A thread within a network namespace. Sockets that are made on it belong there for good, whichever thread uses them.
#[derive(Debug)]
pub(crate) struct Netns {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Netns {
    /// Goes into the namespace of this path (`/run/netns/NAME`, `/proc/PID/ns/net`). Takes `CAP_SYS_ADMIN`. It exists at
    /// least until this is dropped.
    ///
    /// # Errors
    /// If there is none, or it may not be entered.
    pub(crate) fn enter(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let (jobs, asked) = mpsc::channel::<Job>();
        let (entered, result) = mpsc::channel();
        std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
            let outcome = setns(&file, CloneFlags::CLONE_NEWNET);
            let within = outcome.is_ok();
            let _ = entered.send(outcome);
            if within {
                for job in &asked {
                    job();
                }
            }
        })?;
        result.recv().map_err(|_| gone())??;
        Ok(Self { path: path.to_owned(), jobs })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs something short within it and waits for the result.
    ///
    /// # Errors
    /// If the thread is gone, since an earlier job panicked.
    pub(crate) fn run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || drop(done.send(job())));
        self.jobs.send(job).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())
    }

    /// The same without holding up this thread.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub(crate) async fn have_run<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
        let (done, result) = tokio::sync::oneshot::channel();
        let job = Box::new(move || drop(done.send(job())));
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread within the namespace is gone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_namespace_is_refused() {
        assert_eq!(Netns::enter(Path::new("/nonexistent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Netns::enter(Path::new("/proc/self/status")).is_err());
    }
}
