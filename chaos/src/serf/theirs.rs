use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::{Figures, Plan};
use crate::usage::{family, proportional_memory};

/// The program that measures serf.
const PROGRAM: &str = "serf_bench.py";

/// The directory with the program that measures serf: `$STARLING_PEERS`, or beside the repository.
pub fn find() -> anyhow::Result<PathBuf> {
    let named = env::var_os("STARLING_PEERS").filter(|path| !path.is_empty());
    let directory = named.map_or_else(|| PathBuf::from("../shared/peers"), PathBuf::from);
    ensure!(directory.join(PROGRAM).is_file(), "no {PROGRAM} in {}: set STARLING_PEERS", directory.display());
    Ok(directory)
}

/// Measures as many agents of serf. `peers` is the directory that [`find`] found; its set-up installs what is missing.
pub fn measure_serf(plan: &Plan, peers: &Path) -> anyhow::Result<Figures> {
    let set_up = Command::new(peers.join("setup.sh")).arg("serf").stdout(Stdio::null()).status();
    ensure!(set_up.context("setup.sh")?.success(), "serf could not be set up");
    let report = tempfile::NamedTempFile::new()?;
    // Should this process be killed, it ends in good order, with all its agents.
    let mut bench = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--", "python3"])
        .arg(peers.join(PROGRAM))
        .arg(plan.agents.to_string())
        .args(["--idle", &plan.idle.as_secs().to_string(), "--kills", &plan.kills.to_string()])
        .args(["--stagger", &plan.pace.as_secs_f64().to_string()])
        .arg("--json")
        .arg(report.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context(PROGRAM)?;
    let mut memory = None;
    for line in bench.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
        eprintln!("serf: {line}");
        // It tells of no memory but the resident. The first kill comes right after the time at rest.
        if line.contains("killed") && memory.is_none() {
            memory = proportional(bench.id());
        }
    }
    ensure!(bench.wait()?.success(), "{PROGRAM} failed; its words stand above");
    let text = fs::read_to_string(report.path())?;
    let mut figures: Figures = serde_json::from_str(&text).with_context(|| format!("what {PROGRAM} printed"))?;
    figures.idle.proportional_kb_per_agent = memory;
    Ok(figures)
}

/// The mean of the agents below a process, in KiB.
fn proportional(bench: u32) -> Option<f64> {
    let is_serf = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "serf");
    let agents = family(&[bench]).into_iter().filter(is_serf);
    let sizes: Vec<u64> = agents.map(proportional_memory).filter(|size| *size > 0).collect();
    (!sizes.is_empty()).then(|| sizes.iter().sum::<u64>() as f64 / 1_024.0 / sizes.len() as f64)
}
