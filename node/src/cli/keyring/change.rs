use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use starling_proto::mesh::v1::{KeyringState, SignedKeyring};
use starling_transport::ca::Administrator;
use tokio::time::Instant;

use super::super::Global;
use super::super::failure::{Exit, Failure};
use super::super::output::deed;
use super::{Office, Wait, behind, known_to};
use crate::admin::KeyringReport;
use crate::hex;
use crate::keyring::{Standing, Step, StepError};

/// How often the agent is asked who knows of a change.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One step of a rotation.
pub(super) async fn step(global: &Global, office: &Office, step: Step, force: bool) -> Result<(), Failure> {
    let administrator = open(office)?;
    if let Some(out) = &office.out {
        return write(global, &administrator, step, out);
    }
    let (report, epoch) = take(global, &administrator, step, force, office.wait).await?;
    told(global, &report, Some(format!("epoch {epoch} {}", done(step))))
}

/// All that is left of a rotation.
pub(super) async fn rotate(global: &Global, office: &Office) -> Result<(), Failure> {
    let administrator = open(office)?;
    if office.out.is_some() {
        let hint = "write the steps one by one, and apply each once the one before is known to all";
        return Err(Failure::new(Exit::Failed, "a whole rotation needs an agent", hint));
    }
    let standing = standing(global, &administrator, office.wait).await?.0;
    let keys = &standing.statement.keys;
    let newest = keys.last().map(|key| key.epoch);
    let steps: &[Step] = match keys.len() {
        1 => &[Step::Install, Step::Use(None), Step::Remove(None)],
        _ if newest == Some(standing.statement.in_use) => &[Step::Remove(None)],
        _ => &[Step::Use(None), Step::Remove(None)],
    };
    let mut report = None;
    for step in steps {
        let (after, epoch) = take(global, &administrator, *step, false, office.wait).await?;
        eprintln!("epoch {epoch} {}: revision {}, known to {}", done(*step), after.revision, known_to(&after));
        report = Some(after);
    }
    report.map_or(Ok(()), |report| told(global, &report, None))
}

/// Brings a file to the mesh that `--out` wrote.
pub(super) async fn apply(global: &Global, file: &Path, wait: Wait) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(Exit::Failed, format!("{}: {reason}", file.display()), "");
    let bytes = fs::read(file).map_err(|error| failed(error.to_string()))?;
    let state = KeyringState::decode(&*bytes).ok().filter(|state| state.signed.is_some());
    let state = state.ok_or_else(|| failed("no change of group keys".to_owned()))?;
    let report = bring(global, &state, wait).await?;
    told(global, &report, None)
}

fn open(office: &Office) -> Result<Administrator, Failure> {
    Ok(Administrator::open(&office.dir).map_err(StepError::from)?)
}

/// What counts in the mesh now. What the directory has and the mesh does not is brought to it first.
async fn standing(
    global: &Global,
    administrator: &Administrator,
    wait: Wait,
) -> Result<(Standing, KeyringReport), Failure> {
    let mut report = global.client().keyring().await?;
    let domain = administrator.trust_domain().as_str();
    if report.mesh != domain {
        let message = format!("the agent is of mesh {}, the directory of {domain}", report.mesh);
        return Err(Failure::new(
            Exit::Failed,
            message,
            "name the mesh's agent with --admin, or its authority with --dir",
        ));
    }
    let signed = report.signed.as_deref().and_then(hex::decode).and_then(|signed| SignedKeyring::decode(&*signed).ok());
    let standing = Standing::find(administrator, signed.as_ref())?;
    if standing.statement.revision > report.revision {
        report = bring(global, &standing.state(administrator)?, wait).await?;
    }
    Ok((standing, report))
}

/// Makes a step and brings it to the mesh. Gives the epoch that it was about, too.
async fn take(
    global: &Global,
    administrator: &Administrator,
    step: Step,
    force: bool,
    wait: Wait,
) -> Result<(KeyringReport, u32), Failure> {
    let (standing, report) = standing(global, administrator, wait).await?;
    let epoch = standing.epoch_of(step)?;
    if step != Step::Install && !force {
        ready(&report, step, epoch)?;
    }
    if matches!(step, Step::Use(_)) && standing.statement.in_use == epoch {
        return Ok((report, epoch));
    }
    let next = standing.step(administrator, step)?;
    let report = bring(global, &next.state(administrator)?, wait).await;
    // Also if not all know of it in time: it counts.
    if report.is_ok() || report.as_ref().is_err_and(|failure| failure.exit() == Exit::TimedOut) {
        next.keep(administrator)?;
    }
    report.map(|report| (report, epoch))
}

/// Is every member that is up ready for it?
fn ready(report: &KeyringReport, step: Step, epoch: u32) -> Result<(), Failure> {
    let behind = behind(report);
    let missing = report.keys.iter().find(|key| key.epoch == epoch).map(|key| &key.missing[..]).unwrap_or_default();
    let (lacking, what): (Vec<&str>, _) = match step {
        Step::Use(_) => (missing.iter().map(String::as_str).collect(), "not known to accept that key"),
        _ => (behind, "not known to use another key"),
    };
    if lacking.is_empty() {
        return Ok(());
    }
    let hint = "look at `starling keyring list` again in a moment; --force does it all the same";
    Err(Failure::new(Exit::Failed, format!("members are {what}: {}", lacking.join(", ")), hint))
}

/// Gives it to the agent, and waits until all that are up know of it.
async fn bring(global: &Global, state: &KeyringState, wait: Wait) -> Result<KeyringReport, Failure> {
    let client = global.client();
    let end = Instant::now() + wait.wait;
    let mut report = client.change_keyring(state.encode_to_vec().into()).await?;
    while !behind(&report).is_empty() {
        if Instant::now() + LOOK_EVERY > end {
            let hint = "it counts all the same, and they learn of it as they meet others; see `starling keyring list`";
            let message = format!("revision {} is known to {}", report.revision, known_to(&report));
            return Err(Failure::new(Exit::TimedOut, message, hint));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        report = client.keyring().await?;
    }
    Ok(report)
}

/// Signs a step on what the directory knows, for an agent elsewhere.
fn write(global: &Global, administrator: &Administrator, step: Step, out: &Path) -> Result<(), Failure> {
    let standing = Standing::find(administrator, None)?;
    let next = standing.step(administrator, step)?;
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out)?;
        file.write_all(&next.state(administrator).map_err(std::io::Error::other)?.encode_to_vec())?;
        file.sync_all()
    };
    written().map_err(|error: std::io::Error| {
        Failure::new(Exit::Failed, format!("{}: {error}", out.display()), "choose another file")
    })?;
    next.keep(administrator)?;
    let shown = out.display().to_string();
    let revision = next.statement.revision;
    let value = json!({ "file": shown, "revision": revision, "in_use": next.statement.in_use });
    let then = format!("bring it to any node, a secret: starling keyring apply {shown}");
    deed(global.output, &shown, &value, &[("revision", revision.to_string()), ("wrote", shown.clone()), ("next", then)])
}

const fn done(step: Step) -> &'static str {
    match step {
        Step::Install => "installed",
        Step::Use(_) => "is in use",
        Step::Remove(_) => "removed",
    }
}

fn told(global: &Global, report: &KeyringReport, done: Option<String>) -> Result<(), Failure> {
    let accepted = report.keys.iter().filter(|key| key.state != "removed").map(|key| key.epoch.to_string());
    let accepted: Vec<String> = accepted.collect();
    let value = json!({ "revision": report.revision, "in_use": report.in_use, "members": report.members.len() });
    let mut rows = vec![
        ("revision", report.revision.to_string()),
        ("in use", format!("epoch {}", report.in_use)),
        ("accepted", accepted.join(", ")),
        ("known to", known_to(report)),
    ];
    rows.splice(..0, done.map(|done| ("done", done)));
    deed(global.output, &report.revision.to_string(), &value, &rows)
}
