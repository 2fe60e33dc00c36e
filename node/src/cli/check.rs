use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::Global;
use super::failure::{Exit, Failure};
use super::output::{Format, document, plain, write_out};
use crate::admin::{CheckReport, CheckState, ClientError};

/// How often `--wait` looks again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Looks again until nothing fails, for as long as --timeout says
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let client = global.client();
    let end = Instant::now() + global.timeout;
    let reports = loop {
        let looked = client.check().await;
        let well = looked.as_ref().is_ok_and(|reports| failed(reports) == 0);
        let again = arguments.wait && !well && may_pass(&looked) && Instant::now() + LOOK_EVERY < end;
        if !again {
            break looked.map_err(|error| unanswered(error, arguments.wait))?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    match global.output {
        Format::Json | Format::Yaml => document(global.output, &reports)?,
        Format::Name => {
            let names = reports.iter().filter(|report| report.state != CheckState::Ok).map(|report| &report.check);
            write_out(&names.fold(String::new(), |text, name| text + name + "\n"))?;
        }
        Format::Table | Format::Wide => write_out(&lines(&reports))?,
    }
    match (failed(&reports), arguments.wait) {
        (0, _) => Ok(()),
        (count, false) => Err(Failure::new(Exit::Failed, checks_failed(count), "")),
        (count, true) => Err(Failure::new(Exit::TimedOut, checks_failed(count), "give it longer with --timeout")),
    }
}

/// Who waited in vain for an agent is told that the time is over.
fn unanswered(error: ClientError, waited: bool) -> Failure {
    match error {
        ClientError::Unreachable { .. } if waited => {
            Failure::new(Exit::TimedOut, error.to_string(), "start it, or give it longer with --timeout")
        }
        error => error.into(),
    }
}

fn checks_failed(count: usize) -> String {
    if count == 1 { "1 check failed".to_owned() } else { format!("{count} checks failed") }
}

fn failed(reports: &[CheckReport]) -> usize {
    reports.iter().filter(|report| report.state == CheckState::Failed).count()
}

/// An agent that does not run yet may do so soon; one that refuses will go on refusing.
const fn may_pass(looked: &Result<Vec<CheckReport>, ClientError>) -> bool {
    matches!(looked, Ok(_) | Err(ClientError::Unreachable { .. } | ClientError::Refused { .. }))
}

/// One line each, with its hint below it.
fn lines(reports: &[CheckReport]) -> String {
    let width = reports.iter().map(|report| report.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for report in reports {
        let state = match report.state {
            CheckState::Ok => "ok",
            CheckState::Warning => "warning",
            CheckState::Failed => "failed",
        };
        let _ = writeln!(text, "{state:7}  {:width$}  {}", plain(&report.check), plain(&report.found));
        if !report.hint.is_empty() {
            let _ = writeln!(text, "{:7}  {:width$}  hint: {}", "", "", plain(&report.hint));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_that_is_not_well_has_its_hint_below() {
        let report = |check: &str, state, found: &str, hint: &str| CheckReport {
            check: check.to_owned(),
            state,
            found: found.to_owned(),
            hint: hint.to_owned(),
        };
        let reports = [
            report("loop", CheckState::Ok, "turns", ""),
            report("clock", CheckState::Failed, "b is \u{1b}[2J ahead", "run ntp"),
        ];
        assert_eq!(
            lines(&reports),
            "ok       loop   turns\nfailed   clock  b is \u{fffd}[2J ahead\n                hint: run ntp\n"
        );
        assert_eq!(failed(&reports), 1);
    }
}
