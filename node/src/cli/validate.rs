use clap::Args;
use serde_json::json;
use starling_transport::Identity;

use super::failure::{Exit, Failure};
use super::output::{Format, document, write_out};
use super::{Configuration, Global};
use crate::config::{self, ConfigError, Host, Loaded, Problem, Sources};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Checks what is written only, not the identity's files: for a configuration that is meant for another host
    #[arg(long)]
    no_files: bool,
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let Configuration { config, set } = arguments.configuration;
    let loaded = config::load(&Sources::of_process(config, set), &Host::detect());
    let checked = loaded.and_then(|mut loaded| {
        if !arguments.no_files {
            identity(&mut loaded)?;
            crate::app::edge::check(&loaded)?;
        }
        Ok(loaded)
    });
    let documented = matches!(global.output, Format::Json | Format::Yaml);
    match checked {
        Ok(loaded) if documented => document(global.output, &summary(&loaded)),
        Ok(loaded) => {
            let config = loaded.config;
            let (services, listeners) = (config.services.len(), config.listeners.len());
            let (services, listeners) = (counted(services, "service"), counted(listeners, "listener"));
            Ok(write_out(&format!("ok: node {}, {services}, {listeners}\n", config.node.name))?)
        }
        Err(error) if documented => {
            document(global.output, &json!({ "valid": false, "problems": problems(&error) }))?;
            Err(Failure::new(Exit::Failed, counted(error.problems().len(), "problem"), ""))
        }
        Err(error) => Err(error.into()),
    }
}

/// "1 service", "2 services".
fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Loads the identity that the configuration names, and holds the two against each other.
pub(super) fn identity(loaded: &mut Loaded) -> Result<Identity, ConfigError> {
    let identity = Identity::load(&loaded.config.identity.dir).map_err(|error| {
        let hint = "set identity.dir to a directory that `starling ca issue --out DIR` wrote";
        ConfigError::from(loaded.key("identity.dir").problem(error.to_string(), hint))
    })?;
    loaded.attest(&identity)?;
    loaded.check_here()?;
    Ok(identity)
}

fn summary(loaded: &Loaded) -> serde_json::Value {
    let config = &loaded.config;
    json!({
        "valid": true,
        "problems": [],
        "node": config.node.name,
        "address": config.mesh.address().quic(),
        "services": config.services.iter().map(|service| &service.name).collect::<Vec<_>>(),
    })
}

fn problems(error: &ConfigError) -> Vec<serde_json::Value> {
    let problem = |problem: &Problem| {
        let Problem { place, key, what, hint } = problem;
        json!({ "place": place.to_string(), "key": key, "problem": what, "hint": hint })
    };
    error.problems().iter().map(problem).collect()
}
