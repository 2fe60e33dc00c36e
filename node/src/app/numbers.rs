//! What the mesh side counts and holds, by name: for `starling status` and for metrics.

use std::collections::BTreeMap;

use metrics::{counter, gauge};
use starling_gossip::{Counters, Liveness, Rejection, Sizes};

use crate::mesh::Status;
use crate::watchdog::{Watchdog, WatchdogCounts};

/// Counts since the start.
pub(super) fn counted(status: &Status) -> BTreeMap<String, u64> {
    let counts = serde_json::to_value(&status.counts).unwrap_or_default();
    let fields = counts.as_object().into_iter().flatten();
    let driver = fields.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    driver.chain(engine(&status.engine).map(|(name, value)| (name.to_owned(), value))).collect()
}

fn engine(counters: &Counters) -> impl Iterator<Item = (&'static str, u64)> {
    let Counters {
        records_rejected,
        records_unknown,
        unsent,
        notices_dropped,
        swim_errors,
        liveness,
        key_exchanges,
        ..
    } = counters;
    let Liveness { probes, probes_failed, indirect_probes, stream_pings, suspicions, refutations, .. } = *liveness;
    let Liveness { downs, downs_withheld, downs_dismissed, revivals, holds, stalls, flaky, .. } = *liveness;
    [
        ("records_rejected", *records_rejected),
        ("records_unknown", *records_unknown),
        ("packets_unsent", *unsent),
        ("notices_dropped", *notices_dropped),
        ("swim_errors", *swim_errors),
        ("key_exchanges", *key_exchanges),
        ("probes", probes),
        ("probes_failed", probes_failed),
        ("indirect_probes", indirect_probes),
        ("stream_pings", stream_pings),
        ("suspicions", suspicions),
        ("refutations", refutations),
        ("downs", downs),
        ("downs_withheld", downs_withheld),
        ("downs_unfounded", downs_dismissed),
        ("revivals", revivals),
        ("holds", holds),
        ("late_timers", stalls),
        ("found_flaky", flaky),
    ]
    .into_iter()
}

/// What of peers was refused: `place/reason`. All reasons for which a datagram can be are there, most of them with 0, so
/// that the first one shows as a rise.
pub(super) fn rejected(status: &Status) -> BTreeMap<String, u64> {
    let known = Rejection::ALL.iter().map(|reason| (format!("datagram/{reason}"), 0));
    let places = status.counts.refused.iter();
    let counted = places
        .flat_map(|(place, reasons)| reasons.iter().map(move |(reason, count)| (format!("{place}/{reason}"), *count)));
    known.chain(counted).collect()
}

/// Publishes all of it with the current recorder.
#[allow(clippy::cast_precision_loss)]
pub(super) fn publish(status: &Status, watchdog: &Watchdog) {
    for (name, value) in counted(status) {
        counter!(format!("starling_gossip_{name}_total")).absolute(value);
    }
    for (reason, value) in rejected(status) {
        counter!("starling_gossip_rejected_total", "reason" => reason).absolute(value);
    }
    for (offence, value) in &status.offences {
        counter!("starling_gossip_offences_total", "offence" => *offence).absolute(*value);
    }
    let Sizes { members, flaky, notices, updates, contacts, hints, records, record_bytes } = status.sizes;
    let queues = [
        ("notices", notices),
        ("updates", updates),
        ("contacts", contacts),
        ("hints", hints),
        ("commands", status.jobs_queued),
    ];
    for (queue, length) in queues {
        gauge!("starling_gossip_queue_length", "queue" => queue).set(length as f64);
    }
    gauge!("starling_gossip_members_listed").set(members as f64);
    gauge!("starling_gossip_members_flaky").set(flaky as f64);
    gauge!("starling_gossip_catalog_records").set(records as f64);
    gauge!("starling_gossip_catalog_bytes").set(record_bytes as f64);
    gauge!("starling_gossip_local_health").set(f64::from(status.engine.liveness.health));
    gauge!("starling_gossip_key_revision").set(status.key_revision as f64);
    gauge!("starling_gossip_key_epoch").set(f64::from(status.key_epoch));
    counter!("starling_gossip_loop_turns_total").absolute(watchdog.turns());
    let WatchdogCounts { stalls, pauses, .. } = watchdog.counts();
    counter!("starling_gossip_stalls_total").absolute(stalls);
    counter!("starling_process_pauses_total").absolute(pauses);
    let stalled = watchdog.stalled();
    gauge!("starling_gossip_stalled").set(f64::from(u8::from(stalled.is_some())));
}

/// What there is to say of each, for whoever reads metrics. Counters of the driver explain themselves in the guide.
const HELP: &[(&str, &str)] = &[
    ("starling_gossip_queue_length", "What waits to be passed on or done, by queue."),
    ("starling_gossip_members_listed", "Members that are listed, whatever their state."),
    ("starling_gossip_catalog_records", "Records of all nodes in the catalog."),
    ("starling_gossip_catalog_bytes", "Bytes of the records in the catalog."),
    ("starling_gossip_local_health", "The local health multiplier: 0 is healthy, 8 is worst."),
    ("starling_gossip_key_revision", "The revision of the group keys; 0 if they were never changed."),
    ("starling_gossip_key_epoch", "The epoch of the group key that packets are sealed with."),
    ("starling_gossip_stalled", "1 while the gossip loop stands still."),
];

/// Describes them to the current recorder.
pub(super) fn describe() {
    for (name, help) in HELP {
        metrics::describe_gauge!(*name, *help);
    }
    metrics::describe_counter!(
        "starling_gossip_rejected_total",
        "What peers sent and was refused, by place and reason."
    );
    metrics::describe_counter!("starling_gossip_offences_total", "Rules that members broke, by rule.");
    metrics::describe_counter!("starling_gossip_loop_turns_total", "Turns of the gossip loop.");
    metrics::describe_counter!("starling_gossip_stalls_total", "Times that the gossip loop stood still for over 2 s.");
    metrics::describe_counter!("starling_process_pauses_total", "Times that the process did not run for over 1 s.");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use starling_proto::{Generation, NodeId};

    use super::*;
    use crate::config;
    use crate::mesh::{Counts, Heartbeat};
    use crate::telemetry::Telemetry;

    #[test]
    fn every_metric_of_gossip_stands_in_the_guide_and_starts_at_zero() {
        let status = Status {
            id: NodeId::from_bytes([1; 16]),
            generation: Generation(1),
            counts: Counts::default(),
            engine: Counters::default(),
            catalog_hash: 0,
            offences: [("record", 1)].into(),
            sizes: Sizes::default(),
            jobs_queued: 0,
            key_revision: 0,
            key_epoch: 1,
        };
        let now = Instant::now();
        let heartbeat = || Arc::new(Heartbeat::new(now));
        let watchdog = Watchdog::start(heartbeat(), heartbeat(), None).unwrap();
        let (telemetry, _) =
            Telemetry::try_new("web-1", None, &config::Telemetry { otlp: None, sampling: 0.0 }, now).unwrap();
        telemetry.with(|| {
            describe();
            publish(&status, &watchdog);
        });
        let text = telemetry.render();
        let guide = include_str!("../../../docs/metrics.md");
        let mut seen = 0;
        for line in
            text.lines().filter(|line| line.starts_with("starling_gossip_") || line.starts_with("starling_process_"))
        {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(
                guide.contains(&format!("`{name}`")) || guide.contains(&format!("`{name}{{")),
                "docs/metrics.md says nothing of {name}"
            );
            seen += 1;
        }
        assert!(seen > 60, "{text}");
        assert!(text.contains("starling_gossip_rejected_total{reason=\"datagram/replay\"} 0"), "{text}");
    }
}
