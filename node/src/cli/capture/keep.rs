use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;

use super::super::agent::Endings;
use super::super::failure::{Exit, Failure};
use crate::capture::{self, CaptureConfig, Families, Flag};

/// How often it is looked whether the agent answers. The flag stands for five seconds by itself.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
pub(super) fn run(settings: &CaptureConfig) -> Result<(), Failure> {
    if let Some(path) = &settings.netns {
        let entered = File::open(path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        entered.map_err(|error| failed(&format!("'{}' cannot be entered", path.display()), &error))?;
    }
    let flag = Flag::open().map_err(|error| failed("this kernel has no nftables", &error))?;
    super::super::block_on(keep(settings, &flag))
}

async fn keep(settings: &CaptureConfig, flag: &Flag) -> Result<(), Failure> {
    let mut endings = Endings::listen()?;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = endings.next() => break,
            _ = ticks.tick() => {}
        }
        let done = if capture::redirect_works(settings.range).await {
            // As an agent listens there for IPv6, if it can.
            let ipv6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), settings.listen.port());
            flag.raise(Families { ipv4: true, ipv6: TcpStream::connect(ipv6).await.is_ok() })
        } else {
            flag.lower()
        };
        done.map_err(|error| failed("the redirects cannot be held in force", &error))?;
    }
    flag.lower().map(drop).map_err(|error| failed("the redirects were not ended", &error))
}

fn failed(what: &str, error: &io::Error) -> Failure {
    let denied = error.kind() == ErrorKind::PermissionDenied;
    let hint = if denied { "run this as root" } else { "" };
    Failure::new(if denied { Exit::Denied } else { Exit::Failed }, format!("{what}: {error}"), hint)
}
