use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::agent::Endings;
use super::failure::{Exit, Failure};
use crate::demo;

/// All is well; a backend killed; a host killed; the host back.
const PHASES: u32 = 4;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How long the load runs, all in all, 4 to 3600 s; starting and waiting for what was killed come on top
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u64).range(4..=3_600))]
    seconds: u64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (mut endings, mut hangup) = (Endings::listen()?, signal(SignalKind::hangup())?);
    let stop = async {
        tokio::select! {
            name = endings.next() => name,
            _ = hangup.recv() => "SIGHUP",
        }
    };
    let Some(name) = demo::run(Duration::from_secs(arguments.seconds) / PHASES, stop).await? else { return Ok(()) };
    let exit = match name {
        "SIGINT" => Exit::Interrupted,
        "SIGHUP" => Exit::HungUp,
        _ => Exit::Terminated,
    };
    Err(Failure::new(exit, format!("ended by {name}: all that the demo had started was ended too"), ""))
}

/// One of the small services of the demo: it runs in a process of its own, so that it can be killed.
#[derive(Debug, Args)]
pub(super) struct ServiceArguments {
    #[arg(long)]
    name: String,
    #[arg(long)]
    host: String,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, requires = "next_address")]
    next: Option<String>,
    #[arg(long, requires = "next")]
    next_address: Option<SocketAddr>,
}

pub(super) async fn serve(arguments: ServiceArguments) -> Result<(), Failure> {
    let ServiceArguments { name, host, listen, next, next_address } = arguments;
    let service = demo::Service { name, host, next: next.zip(next_address) };
    Ok(service.run(listen).await?)
}
