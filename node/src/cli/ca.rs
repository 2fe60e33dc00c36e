use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use jiff::{Timestamp, Unit};
use serde_json::json;
use starling_proto::{ServicePattern, TrustDomain};
use starling_transport::ca::{self, IssueRequest};

use super::failure::{Exit, Failure};
use super::format::ahead;
use super::output::deed;
use super::{Global, duration};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Makes the root of a new mesh: certificate, key, group key, an administrator's key. Keep the directory offline
    Init {
        /// Where it goes
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The mesh's name, such as demo.example
        #[arg(long, value_name = "DOMAIN")]
        trust_domain: TrustDomain,
    },
    /// Makes what one node needs: a certificate that names it and its services, keys, and the mesh's root
    Issue {
        /// The directory that `ca init` made
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The node's name, unique in the mesh
        #[arg(long)]
        name: String,
        /// A service it may run, such as web, orders.shop or 'shop/*'; may be given again
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<ServicePattern>,
        /// How long the certificate lasts; issue again, with --force, before it ends
        #[arg(long, value_parser = duration, default_value = "365d")]
        ttl: Duration,
        /// Where it goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Replaces a certificate that is there; the gossip key, and with it the node's id, stays
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(global: &Global, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Init { dir, trust_domain } => {
            ca::init(&dir, &trust_domain).map_err(|error| failed(&error))?;
            let shown = dir.display().to_string();
            deed(
                global.output,
                &shown,
                &json!({ "dir": shown, "trust_domain": trust_domain }),
                &[("mesh", trust_domain.to_string()), ("wrote", shown.clone())],
            )
        }
        Verb::Issue { dir, name, services, ttl, out, force } => {
            let request = IssueRequest { dir, name, services, ttl, out, force };
            let issued = ca::issue(&request).map_err(|error| failed(&error))?;
            let shown = request.out.display().to_string();
            let not_after = timestamp(issued.not_after)?;
            let spiffe = issued.spiffe.to_string();
            let value = json!({ "dir": shown, "spiffe": spiffe, "id": issued.node_id, "not_after": not_after });
            deed(
                global.output,
                &shown,
                &value,
                &[
                    ("node", spiffe),
                    ("id", issued.node_id.to_string()),
                    ("until", ahead(not_after)),
                    ("wrote", shown.clone()),
                ],
            )
        }
    }
}

fn failed(error: &ca::CaError) -> Failure {
    Failure::new(Exit::Failed, error.to_string(), "")
}

fn timestamp(time: SystemTime) -> Result<Timestamp, Failure> {
    let exact = Timestamp::try_from(time).and_then(|time| time.round(Unit::Second));
    exact.map_err(|error| Failure::new(Exit::Failed, error.to_string(), "give a shorter --ttl"))
}
