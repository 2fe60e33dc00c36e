use std::collections::BTreeMap;
use std::fmt::Display;

use super::Global;
use super::failure::Failure;
use super::format::{ahead, span};
use super::output::{Format, document, pairs, write_out};
use crate::admin::StatusReport;

pub(super) async fn run(global: &Global) -> Result<(), Failure> {
    let report = global.client().status().await?;
    match global.output {
        Format::Json | Format::Yaml => document(global.output, &report),
        Format::Name => Ok(write_out(&format!("{}\n", report.node.name))?),
        Format::Table | Format::Wide => pairs(&rows(&report, global.output == Format::Wide)),
    }
}

fn rows(report: &StatusReport, wide: bool) -> Vec<(&'static str, String)> {
    let node = &report.node;
    let mut rows = vec![
        ("node", format!("{} ({})", node.name, node.id)),
        ("mesh", report.mesh.clone()),
        ("ready", report.not_ready.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"))),
        ("address", format!("{} (QUIC), port {} (gossip)", node.address, node.gossip_port)),
        ("zone", if node.zone.is_empty() { "-".to_owned() } else { node.zone.clone() }),
        ("version", node.version.clone()),
        ("generation", report.generation.to_string()),
        ("uptime", span(report.uptime)),
        ("certificate", format!("until {}", ahead(report.certificate_expires))),
        ("members", counts(&report.members.iter().filter(|(_, count)| **count > 0).collect())),
        ("services", format!("{} known, {} endpoints", report.services.known, report.services.endpoints)),
        ("offered", list(&report.services.offered)),
        ("shards", report.shards.to_string()),
        ("rejected", counts(&nonzero(&report.rejected))),
    ];
    rows.extend(report.ways.iter().map(|way| ("way in", format!("{} {}: {}", way.name, way.address, way.state))));
    let counters = |all: &BTreeMap<String, u64>| counts(&if wide { all.clone() } else { nonzero(all) });
    rows.push(("gossip", counters(&report.gossip)));
    rows.push(("quic", counters(&report.quic)));
    rows
}

fn nonzero(counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (name.clone(), *count)).collect()
}

fn counts<N: Display>(counts: &BTreeMap<String, N>) -> String {
    list(&counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>())
}

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
