use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::output::{Format, document, write_out};

#[derive(Debug, Args)]
pub(super) struct CompletionArguments {
    /// Which shell
    shell: Shell,
}

pub(super) fn completion(arguments: &CompletionArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "starling", &mut script);
    Ok(write_out(&String::from_utf8_lossy(&script))?)
}

/// One page for the program, one section for each verb.
pub(super) fn man() -> Result<(), Failure> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let verb = clap_mangen::Man::new(verb.clone());
        verb.render_name_section(&mut page)?;
        verb.render_synopsis_section(&mut page)?;
        verb.render_options_section(&mut page)?;
    }
    Ok(write_out(&String::from_utf8_lossy(&page))?)
}

pub(super) fn version(format: Format) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match format {
        Format::Json | Format::Yaml => document(format, &json!({ "name": "starling", "version": version })),
        Format::Name => Ok(write_out(&format!("{version}\n"))?),
        Format::Table | Format::Wide => Ok(write_out(&format!("starling {version}\n"))?),
    }
}
