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
        ("members", counts(&report.members, wide)),
        ("services", format!("{} known, {} endpoints", report.services.known, report.services.endpoints)),
        ("offered", list(&report.services.offered)),
        ("shards", report.shards.to_string()),
        ("rejected", counts(&report.rejected, wide)),
    ];
    rows.extend(report.ways.iter().map(|way| ("way in", format!("{} {}: {}", way.name, way.address, way.state))));
    rows.push(("gossip", counts(&report.gossip, wide)));
    rows.push(("connections", counts(&report.hop.connections, wide)));
    if !report.hop.by_tcp.is_empty() {
        rows.push(("by TCP only", list(&report.hop.by_tcp)));
    }
    rows.push(("quic", counts(&report.quic, wide)));
    rows
}

/// Numbers by name; those that are nought only on request.
fn counts<N: Display + Copy + TryInto<u64>>(counts: &BTreeMap<String, N>, noughts: bool) -> String {
    let told = |number: N| noughts || !matches!(number.try_into(), Ok(0));
    let shown = counts.iter().filter(|(_, number)| told(**number));
    list(&shown.map(|(name, number)| format!("{number} {name}")).collect::<Vec<_>>())
}

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
