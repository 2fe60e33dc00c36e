//! `starling keyring`: the group keys of a mesh, as an administrator sees and changes them.

mod change;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::failure::{Exit, Failure};
use super::output::{Column, Format, Listing, document, write_out};
use super::{Global, duration};
use crate::admin::{KeyReportLine, KeyringReport};
use crate::keyring::{Step, StepError};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Which keys there are, and which members have them
    List,
    /// Makes a new key, which all accept from then on; nobody seals with it yet
    Install(Office),
    /// Has all seal with a key that all accept
    Use(Chosen),
    /// Has nobody accept a key that is not in use any more
    Remove(Chosen),
    /// Install, use, remove: a whole rotation, or the rest of one that was begun
    Rotate(Office),
    /// Brings to the mesh what `--out` wrote
    Apply {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        wait: Wait,
    },
}

/// Where an administrator works, and how.
#[derive(Debug, Args)]
pub(super) struct Office {
    /// The directory that `ca init` made: admin.key in it signs
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Asks no agent: writes the signed change to a file, a secret, for `keyring apply` on any node
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Which; by default the only one that it can be
    epoch: Option<u32>,
    /// Does it though some members are not ready for it: they are cut off until they meet a member over QUIC
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    office: Office,
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Wait {
    /// How long all members that are up may take to know of it
    #[arg(long, value_parser = duration, default_value = "30s")]
    wait: Duration,
}

pub(super) async fn run(global: &Global, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => list(global).await,
        Verb::Install(office) => change::step(global, &office, Step::Install, false).await,
        Verb::Use(Chosen { epoch, force, office }) => change::step(global, &office, Step::Use(epoch), force).await,
        Verb::Remove(Chosen { epoch, force, office }) => {
            change::step(global, &office, Step::Remove(epoch), force).await
        }
        Verb::Rotate(office) => change::rotate(global, &office).await,
        Verb::Apply { file, wait } => change::apply(global, &file, wait).await,
    }
}

const LISTING: Listing<KeyReportLine> = Listing {
    columns: &[
        Column { title: "EPOCH", wide: false, cell: |key| key.epoch.to_string() },
        Column { title: "STATE", wide: false, cell: |key| key.state.clone() },
        Column { title: "SINCE", wide: true, cell: |key| key.since.to_string() },
        Column { title: "MISSING", wide: false, cell: |key| key.missing.join(", ") },
        Column { title: "DIGEST", wide: true, cell: |key| key.digest.clone() },
    ],
    name: |key| key.epoch.to_string(),
    empty: "no keys",
};

async fn list(global: &Global) -> Result<(), Failure> {
    let report = global.client().keyring().await?;
    match global.output {
        Format::Json | Format::Yaml => document(global.output, &report),
        Format::Name => LISTING.print(global.output, &report.keys),
        Format::Table | Format::Wide => {
            let summary = format!("revision {}, known to {}\n", report.revision, known_to(&report));
            write_out(&(LISTING.table(global.output, &report.keys, true) + &summary)).map_err(Failure::from)
        }
    }
}

/// Names of members that are up and have another statement than the node asked.
fn behind(report: &KeyringReport) -> Vec<&str> {
    report.members.iter().filter(|member| !member.current).map(|member| member.name.as_str()).collect()
}

fn known_to(report: &KeyringReport) -> String {
    let behind = behind(report);
    let all = report.members.len();
    let count = format!("{} of {all} members", all - behind.len());
    if behind.is_empty() { count } else { format!("{count}, not to {}", behind.join(", ")) }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let hint = match &error {
            StepError::Directory(_) => "",
            StepError::Change(_) | StepError::Only(_) => "`starling keyring list` shows what there is",
            StepError::Unbelievable { .. } => {
                "is --dir the authority of this mesh? put other administrators in its admin.pub"
            }
        };
        Self::new(Exit::Failed, error.to_string(), hint)
    }
}
