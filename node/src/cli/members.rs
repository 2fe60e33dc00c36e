use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use starling_proto::NodeId;

use super::Global;
use super::failure::Failure;
use super::format::{ago, yes};
use super::output::{Column, Format, Listing, write_out};
use crate::admin::MemberReport;

/// Times of a change that are nearer than this are one time.
const SAME_TIME: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Goes on and writes each member that changes
    #[arg(short, long)]
    watch: bool,
}

const LISTING: Listing<MemberReport> = Listing {
    columns: &[
        Column { title: "NAME", wide: false, cell: |member| member.name.clone() },
        Column { title: "STATE", wide: false, cell: state },
        Column { title: "ADDRESS", wide: false, cell: |member| member.address.to_string() },
        Column { title: "ZONE", wide: false, cell: |member| member.zone.clone() },
        Column { title: "SINCE", wide: false, cell: |member| ago(member.since) },
        Column { title: "ID", wide: true, cell: |member| member.id.to_string() },
        Column { title: "GENERATION", wide: true, cell: |member| member.generation.to_string() },
        Column { title: "VERSION", wide: true, cell: |member| member.version.clone() },
        Column { title: "LOAD", wide: true, cell: load },
        Column { title: "THIS", wide: true, cell: |member| yes(member.this) },
    ],
    name: |member| member.name.clone(),
    empty: "no members",
};

fn state(member: &MemberReport) -> String {
    if member.flaky { format!("{}, flaky", member.state) } else { member.state.clone() }
}

fn load(member: &MemberReport) -> String {
    let load = &member.load;
    let mut text = format!("{} requests, {}% cpu", load.in_flight, load.cpu_permille / 10);
    for (number, word) in [(load.overload, "overload"), (load.unhealthy, "unhealthy")] {
        if number > 0 {
            let _ = write!(text, ", {word} {number}");
        }
    }
    text
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<(), Failure> {
    let client = global.client();
    if !arguments.watch {
        return LISTING.print(global.output, &client.members().await?);
    }
    let (mut known, mut titles, mut version, mut widths) = (BTreeMap::new(), true, None, Vec::new());
    loop {
        let report = client.members_after(version).await?;
        version = Some(report.version);
        let changed = changes(&mut known, report.members);
        if !changed.is_empty() {
            show(global.output, &changed, titles, &mut widths)?;
            titles = false;
        }
    }
}

/// Who is new, who differs from before, and who is gone (as `forgotten`).
fn changes(known: &mut BTreeMap<NodeId, MemberReport>, members: Vec<MemberReport>) -> Vec<MemberReport> {
    let now: BTreeMap<NodeId, MemberReport> = members.into_iter().map(|member| (member.id, member)).collect();
    let mut changed: Vec<MemberReport> = now
        .values()
        .filter(|member| known.get(&member.id).is_none_or(|before| !same(before, member)))
        .cloned()
        .collect();
    let gone = known.values().filter(|member| !now.contains_key(&member.id));
    changed.extend(gone.map(|member| MemberReport { state: "forgotten".to_owned(), ..member.clone() }));
    *known = now;
    changed
}

/// Is all the same but the load, which changes all the time? The time of a change is told anew with each answer, and
/// differs a little.
fn same(before: &MemberReport, member: &MemberReport) -> bool {
    let apart = before.since.duration_since(member.since).abs();
    let since = if apart < SAME_TIME { member.since } else { before.since };
    MemberReport { load: member.load, since, ..before.clone() } == *member
}

fn show(format: Format, changed: &[MemberReport], titles: bool, widths: &mut Vec<u16>) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => Ok(write_out(&LISTING.further(format, changed, titles, widths))?),
        // One document a line: what reads it needs no end.
        Format::Json => {
            let line = |member| serde_json::to_string(member).map(|line| line + "\n").unwrap_or_default();
            Ok(write_out(&changed.iter().map(line).collect::<String>())?)
        }
        Format::Yaml => changed.iter().try_for_each(|member| {
            write_out("---\n")?;
            super::output::document(format, member)
        }),
        Format::Name => LISTING.print(format, changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u8, state: &str) -> MemberReport {
        MemberReport {
            name: format!("node-{id}"),
            id: NodeId::from_bytes([id; 16]),
            address: "10.0.0.1:7947".parse().unwrap(),
            zone: String::new(),
            state: state.to_owned(),
            generation: starling_proto::Generation(1),
            since: jiff::Timestamp::UNIX_EPOCH,
            version: String::new(),
            load: crate::admin::LoadReport::default(),
            flaky: false,
            this: false,
        }
    }

    #[test]
    fn watching_shows_who_came_changed_and_went() {
        let mut known = BTreeMap::new();
        let told = |changed: Vec<MemberReport>| {
            changed.into_iter().map(|member| format!("{} {}", member.name, member.state)).collect::<Vec<_>>()
        };
        let first = changes(&mut known, vec![member(1, "alive"), member(2, "alive")]);
        assert_eq!(told(first), ["node-1 alive", "node-2 alive"]);
        assert!(changes(&mut known, vec![member(1, "alive"), member(2, "alive")]).is_empty());
        let busy = crate::admin::LoadReport { in_flight: 7, ..Default::default() };
        let since = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_millis(900);
        let busier = MemberReport { load: busy, since, ..member(1, "alive") };
        assert!(changes(&mut known, vec![busier, member(2, "alive")]).is_empty());
        let second = changes(&mut known, vec![member(2, "down"), member(3, "alive")]);
        assert_eq!(told(second), ["node-2 down", "node-3 alive", "node-1 forgotten"]);
    }
}
