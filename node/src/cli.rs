//! The command line: what verbs there are, and what becomes of them. Data goes to stdout, diagnostics to stderr; exit
//! codes stand in `docs/cli.md`.

mod agent;
mod ca;
mod capture;
mod check;
mod demo;
mod endpoints;
mod failure;
mod force_leave;
mod format;
mod keyring;
mod members;
mod meta;
mod output;
mod services;
mod stat;
mod status;
mod validate;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::admin::Client;
use crate::config::{self, Host, Loaded, Sources, default};
use failure::Failure;
use output::Format;

#[derive(Debug, Parser)]
#[command(name = "starling", version, about = "A service mesh without a control plane", propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 agent unreachable, 4 not found, 5 denied, 124 timed out"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
struct Global {
    /// The agent's admin socket
    #[arg(long, global = true, env = "STARLING_ADMIN", value_name = "PATH", default_value = default::ADMIN_SOCKET)]
    admin: PathBuf,
    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// How long the agent may take to answer
    #[arg(long, global = true, value_parser = duration, default_value = "10s")]
    timeout: Duration,
}

impl Global {
    fn client(&self) -> Client {
        Client::new(&self.admin, self.timeout)
    }
}

/// Where a configuration comes from.
#[derive(Debug, Args)]
struct Configuration {
    /// The main file; conf.d/*.toml beside it and STARLING_* variables count too [default: /etc/starling/starling.toml]
    #[arg(short, long, env = "STARLING_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, over everything else, such as --set node.zone=eu-1a
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Configuration {
    fn load(self) -> Result<Loaded, Failure> {
        Ok(config::load(&Sources::of_process(self.config, self.set), &Host::detect())?)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs the node, until SIGTERM: then it drains and leaves
    Agent(Configuration),
    /// A whole mesh on loopback: sample services, a load, a backend and a node killed
    Demo(demo::Arguments),
    #[command(hide = true)]
    DemoService(demo::ServiceArguments),
    /// Checks a configuration; each error names the key, what is wrong and a hint
    Validate(validate::Arguments),
    /// Makes identities: the root of a mesh, and what each node needs
    #[command(subcommand)]
    Ca(ca::Verb),
    /// The mesh's group keys: which there are, and how to change them while the mesh runs
    #[command(subcommand)]
    Keyring(keyring::Verb),
    /// Getting traffic in without changing programs
    #[command(subcommand)]
    Capture(capture::Verb),
    /// This node and its mesh in short
    Status,
    /// Is this host, node and mesh healthy? Each line that is not says what to do
    Check(check::Arguments),
    /// Who is in the mesh
    Members(members::Arguments),
    /// Says to all that a member which is down will not come back
    ForceLeave(force_leave::Arguments),
    /// What the mesh offers
    Services,
    /// Where a service is offered, and where requests may go now
    Endpoints(endpoints::Arguments),
    /// What went through this node: requests, success, latency
    Stat,
    /// Writes a completion script for a shell
    Completion(meta::CompletionArguments),
    /// Writes the manual page
    Man,
    /// Says which version this is
    Version,
}

/// Reads the arguments of this process, does what they say, and tells how it went.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(Cli { global, verb }: Cli) -> Result<(), Failure> {
    match verb {
        Verb::Agent(configuration) => agent::run(configuration.load()?),
        Verb::Demo(arguments) => block_on(demo::run(&arguments)),
        Verb::DemoService(arguments) => block_on(demo::serve(arguments)),
        Verb::Validate(arguments) => validate::run(&global, arguments),
        Verb::Ca(verb) => ca::run(&global, verb),
        Verb::Keyring(verb) => block_on(keyring::run(&global, verb)),
        Verb::Capture(verb) => capture::run(&global, verb),
        Verb::Status => block_on(status::run(&global)),
        Verb::Check(arguments) => block_on(check::run(&global, &arguments)),
        Verb::ForceLeave(arguments) => block_on(force_leave::run(&global, &arguments)),
        Verb::Members(arguments) => block_on(members::run(&global, &arguments)),
        Verb::Services => block_on(services::run(&global)),
        Verb::Endpoints(arguments) => block_on(endpoints::run(&global, &arguments)),
        Verb::Stat => block_on(stat::run(&global)),
        Verb::Completion(arguments) => meta::completion(&arguments),
        Verb::Man => meta::man(),
        Verb::Version => meta::version(global.output),
    }
}

fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(task)
}

fn duration(text: &str) -> Result<Duration, String> {
    match config::duration_of(text) {
        Some(Duration::ZERO) => Err("it must be over 0".to_owned()),
        Some(duration) => Ok(duration),
        None => Err("write a number and a unit, such as 500ms, 10s or 90d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_stands_in_the_guide() {
        let guide = include_str!("../../docs/cli.md");
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(
                guide.contains(&format!("`{}", verb.get_name())),
                "docs/cli.md says nothing of {}",
                verb.get_name()
            );
        }
    }
}
