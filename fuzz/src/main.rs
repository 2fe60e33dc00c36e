//! Fuzzers of what peers send: no panic, no unbounded allocation, and whatever holds of each input holds.
//!
//! `starling-fuzz run all --seconds 60` mutates a kept corpus at random, but from a seed: one seed, one run. An input that
//! makes a target answer as none before it did is kept for further mutation; that stands in for coverage, which the stable
//! toolchain does not give. An input that breaks something is written down, and `starling-fuzz replay` runs it again.

mod corpus;
mod fingerprint;
mod mutator;
mod runner;
mod targets;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use peak_alloc::PeakAlloc;

use corpus::Corpus;
use runner::{Limits, Verdict};
use targets::Target;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Fuzzers of what peers send.
#[derive(Parser)]
struct Arguments {
    /// Where the corpora are, a directory for each target.
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))]
    corpus: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What can be fuzzed.
    List,
    /// Runs a target, or `all`.
    Run {
        target: String,
        /// How long, for each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// At most so many inputs of each.
        #[arg(long, default_value_t = u64::MAX)]
        runs: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Write what was new into the corpus.
        #[arg(long)]
        keep: bool,
    },
    /// Runs one input again and says what came of it.
    Replay { target: String, file: PathBuf },
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Command::List => {
            for target in targets::all() {
                println!("{:10} {}", target.name, target.about);
            }
        }
        Command::Run { target, seconds, runs, seed, keep } => {
            let limits = Limits { time: Duration::from_secs(seconds), runs, seed };
            for target in chosen(&target)? {
                let corpus = Corpus::load(&arguments.corpus.join(target.name), &(target.seeds)())?;
                if !run(&target, corpus, &limits, keep)? {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        Command::Replay { target, file } => {
            let input = fs::read(&file).with_context(|| file.display().to_string())?;
            for target in chosen(&target)? {
                let verdict = runner::run_one(&target, &mut (target.start)(), &input);
                println!("{}: {verdict:?}", target.name);
                if !matches!(verdict, Verdict::Well(_)) {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen(name: &str) -> anyhow::Result<Vec<Target>> {
    let mut all = targets::all();
    if name != "all" {
        all.retain(|target| target.name == name);
    }
    if all.is_empty() {
        bail!("there is no target '{name}'; see starling-fuzz list");
    }
    Ok(all)
}

/// True if nothing broke, and the inputs got anywhere.
fn run(target: &Target, mut corpus: Corpus, limits: &Limits, keep: bool) -> anyhow::Result<bool> {
    let report = runner::run(target, &mut corpus, limits);
    println!("{report}");
    if keep {
        corpus.save()?;
    }
    if let Some((input, verdict)) = &report.broken {
        let at = PathBuf::from(format!("{}-broken-{}", target.name, fingerprint::of(input)));
        fs::write(&at, input)?;
        println!("{}: {verdict:?}\n  starling-fuzz replay {} {}", target.name, target.name, at.display());
    }
    let gets_somewhere = report.answers >= target.least_answers;
    if !gets_somewhere {
        println!("{}: it hardly gets anywhere", target.name);
    }
    Ok(report.broken.is_none() && gets_somewhere)
}
