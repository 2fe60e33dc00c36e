use std::net::SocketAddr;
use std::time::Duration;

use super::{list, path, report, well};
use crate::admin::{CheckReport, CheckState};
use crate::mesh::{Counts, Survey, Trouble, TroubleKind};
use crate::watchdog::WatchdogCounts;

/// A certificate is to be renewed this long before its end.
const RENEW: Duration = Duration::from_hours(7 * 24);

/// What to do about two nodes with one key.
const OWN_KEY: &str =
    "issue each node an identity of its own, `starling ca issue --name NAME`, and stop the one that has the copy";

/// All that is judged.
pub(super) struct Facts {
    pub(super) live: Result<(), String>,
    pub(super) ready: Result<(), String>,
    pub(super) watchdog: WatchdogCounts,
    /// How long the certificate lasts yet.
    pub(super) certificate_ends: Duration,
    pub(super) standing: Standing,
    pub(super) troubles: Vec<Trouble>,
    /// It has seeds beside itself, and no other member is up.
    pub(super) alone: bool,
    pub(super) counts: Counts,
    /// How many instances of services this node offers.
    pub(super) offered: usize,
    /// Those of them whose program takes no connection.
    pub(super) refusing: Vec<String>,
    /// How often a redirect brought the node's own connections back to it.
    pub(super) looped: u64,
    /// Where this node's gossip should arrive.
    pub(super) gossip: SocketAddr,
    /// Names of the members that are reached over TCP only.
    pub(super) by_tcp: Vec<String>,
    pub(super) survey: Survey,
}

/// How the members stand.
pub(super) struct Standing {
    pub(super) listed: usize,
    /// Others that are up by now; the survey may have begun before.
    pub(super) up: usize,
    pub(super) down: Vec<String>,
}

/// One line or more for each thing that was looked at.
pub(super) fn judge(facts: &Facts) -> Vec<CheckReport> {
    let mut reports = vec![gossip_loop(facts), ready(facts), certificate(facts), disk(facts), queues(facts)];
    reports.extend(troubles(facts));
    reports.extend(alone(facts));
    reports.push(members(facts));
    reports.push(services(facts));
    reports.extend(capture(facts));
    reports.extend(carrier(facts));
    reports.extend(path::judge(&facts.survey, facts.gossip, facts.standing.up));
    reports
}

fn gossip_loop(facts: &Facts) -> CheckReport {
    let WatchdogCounts { stalls, stalled_ms, pauses } = facts.watchdog;
    let hint = "something blocks the thread of the mesh, or the host is overloaded: see the agent's log";
    match &facts.live {
        Err(why) => report("loop", CheckState::Failed, why, hint),
        Ok(()) if stalls > 0 => {
            let seconds = Duration::from_millis(stalled_ms).as_secs_f64();
            let found = format!("turns; it stood still {stalls} times since the start, {seconds:.1} s in all");
            report("loop", CheckState::Warning, found, hint)
        }
        Ok(()) if pauses > 0 => {
            let found = format!("turns; the process did not run {pauses} times for over a second");
            report(
                "loop",
                CheckState::Warning,
                found,
                "the host was suspended, or gives the agent too little processor time",
            )
        }
        Ok(()) => well("loop", "turns"),
    }
}

fn ready(facts: &Facts) -> CheckReport {
    match &facts.ready {
        Ok(()) => well("ready", "yes"),
        Err(why) => report("ready", CheckState::Failed, why, "`starling status` says more"),
    }
}

fn certificate(facts: &Facts) -> CheckReport {
    let hint = "renew it with `starling ca issue --force`, then restart the agent";
    let (left, days) = (facts.certificate_ends, facts.certificate_ends.as_secs() / 86_400);
    if left.is_zero() {
        report("certificate", CheckState::Failed, "has ended: no other node talks to this one", hint)
    } else if left < RENEW {
        report("certificate", CheckState::Warning, format!("ends in {} hours", left.as_secs() / 3_600), hint)
    } else {
        well("certificate", format!("lasts {days} days"))
    }
}

fn disk(facts: &Facts) -> CheckReport {
    match facts.counts.unwritten {
        0 => well("disk", "node.data_dir takes what is written"),
        count => {
            let found = format!("{count} writes to node.data_dir failed");
            report("disk", CheckState::Failed, found, "is it full, or read-only? the agent's log names the file")
        }
    }
}

fn queues(facts: &Facts) -> CheckReport {
    let lost = [
        ("commands", facts.counts.inputs_dropped),
        ("dials", facts.counts.dials_dropped),
        ("datagrams", facts.counts.datagrams_unsent),
    ];
    let lost: Vec<String> =
        lost.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
    if lost.is_empty() {
        return well("queues", "nothing was lost");
    }
    let found = format!("lost since the start for want of room: {}", lost.join(", "));
    report(
        "queues",
        CheckState::Warning,
        found,
        "the host is overloaded, or was; watch starling_gossip_*_dropped_total",
    )
}

fn troubles(facts: &Facts) -> Vec<CheckReport> {
    let of_names = |kind| matches!(kind, TroubleKind::NameTaken | TroubleKind::KeyInUse);
    let twin = path::twin(&facts.survey);
    // What was seen just now says more than what was seen lately.
    let lately = facts.troubles.iter().filter(|trouble| twin.is_none() || trouble.kind != TroubleKind::KeyInUse);
    let mut reports: Vec<CheckReport> = lately.map(trouble).collect();
    if let Some(found) = twin {
        reports.insert(0, report("names", CheckState::Failed, found, OWN_KEY));
    } else if !facts.troubles.iter().any(|trouble| of_names(trouble.kind)) {
        reports.insert(0, well("names", "no two nodes with one name or one key were seen"));
    }
    reports
}

fn trouble(trouble: &Trouble) -> CheckReport {
    let (check, state, hint) = match trouble.kind {
        TroubleKind::NameTaken => {
            ("names", CheckState::Failed, "issue each node a name of its own: `starling ca issue --name NAME`")
        }
        TroubleKind::KeyInUse => ("names", CheckState::Failed, OWN_KEY),
        TroubleKind::MemberLimit => ("members", CheckState::Failed, "start no more nodes, or make a second mesh"),
        TroubleKind::Seed => (
            "seeds",
            CheckState::Failed,
            "were both identities made by the same `starling ca init`? is mesh.seeds right?",
        ),
        TroubleKind::Generation => (
            "clock",
            CheckState::Warning,
            "was the clock set back, or node.data_dir lost? run a time service such as chrony",
        ),
        TroubleKind::Offender => (
            "members",
            CheckState::Failed,
            "stop that node and look at it: its key, or its host, may be in other hands",
        ),
        TroubleKind::Join => ("joins", CheckState::Warning, "look at the node that is named"),
    };
    let found = match trouble.count {
        1 => trouble.text.clone(),
        count => format!("{} ({count} times)", trouble.text),
    };
    report(check, state, found, hint)
}

/// A node that never reached anybody looks like one that needs nobody.
fn alone(facts: &Facts) -> Option<CheckReport> {
    let refused = facts.troubles.iter().any(|trouble| trouble.kind == TroubleKind::Seed);
    let found = "no seed answers and no other member is up: this node is alone";
    let hint = "is one of mesh.seeds right and running, and are both UDP ports open both ways? The first node of a mesh is alone until the next one starts";
    (facts.alone && !refused).then(|| report("seeds", CheckState::Failed, found, hint))
}

fn members(facts: &Facts) -> CheckReport {
    let Standing { listed, down, .. } = &facts.standing;
    if down.is_empty() {
        return well("members", format!("{listed} listed, none down"));
    }
    let found = format!("{} of {listed} down: {}", down.len(), list(down));
    let hint = "start their agents; `starling force-leave NAME` for one that will not come back";
    report("members", CheckState::Warning, found, hint)
}

fn services(facts: &Facts) -> CheckReport {
    let Facts { offered, refusing, .. } = facts;
    if *offered == 0 {
        return well("services", "this node offers none");
    }
    if refusing.is_empty() {
        return well("services", format!("{offered} of {offered} offered here take connections"));
    }
    let found = format!("{} of {offered} offered here take no connections: {}", refusing.len(), list(refusing));
    report("services", CheckState::Warning, found, "start the program behind it, or mend service.address")
}

/// Nothing is said of a host where all is well: most capture nothing but VIPs.
fn capture(facts: &Facts) -> Option<CheckReport> {
    let found = format!("the redirect brought {} of this node's own connections back to it", facts.looped);
    let hint = "run `starling capture install` again with --agent-user USER, the user that the agent runs as, or give the agent CAP_NET_ADMIN";
    (facts.looped > 0).then(|| report("capture", CheckState::Failed, found, hint))
}

/// Nothing fails over TCP; it costs more, and gossip needs UDP anyway.
fn carrier(facts: &Facts) -> Option<CheckReport> {
    let Facts { by_tcp, .. } = facts;
    let found = format!("{} members are reached over TCP only: {}", by_tcp.len(), list(by_tcp));
    let hint = "allow UDP to their mesh.quic_port, on both hosts and between them; QUIC is tried again by itself";
    (!by_tcp.is_empty()).then(|| report("carrier", CheckState::Warning, found, hint))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn facts() -> Facts {
        Facts {
            live: Ok(()),
            ready: Ok(()),
            watchdog: WatchdogCounts::default(),
            certificate_ends: Duration::from_hours(90 * 24),
            standing: Standing { listed: 3, up: 0, down: Vec::new() },
            troubles: Vec::new(),
            alone: false,
            counts: Counts::default(),
            offered: 2,
            refusing: Vec::new(),
            looped: 0,
            gossip: SocketAddr::from(([10, 0, 0, 1], 7946)),
            by_tcp: Vec::new(),
            survey: Survey { own: path::tests::own(5, 7947), keys: Vec::new(), up: 0, looks: Vec::new() },
        }
    }

    #[test]
    fn a_node_without_a_fault_has_nothing_but_good_lines_and_no_hints() {
        let reports = judge(&facts());
        assert!(reports.iter().all(|report| report.state == CheckState::Ok && report.hint.is_empty()), "{reports:?}");
        for check in ["loop", "ready", "certificate", "disk", "queues", "names", "members", "gossip", "clock", "keys"] {
            assert!(reports.iter().any(|report| report.check == check), "{check}: {reports:?}");
        }
    }

    /// What breaks something.
    type Fault = fn(&mut Facts);

    #[test]
    fn each_fault_shows_in_its_line_with_a_hint() {
        let trouble = |kind, text: &str| Trouble { kind, text: text.to_owned(), count: 3, last: Instant::now() };
        let cases: [(&str, CheckState, &str, Fault); 14] = [
            ("seeds", CheckState::Failed, "this node is alone", |facts| facts.alone = true),
            ("capture", CheckState::Failed, "brought 3 of", |facts| facts.looped = 3),
            ("loop", CheckState::Failed, "stood still", |facts| facts.live = Err("it has stood still".to_owned())),
            ("loop", CheckState::Warning, "2 times since the start, 3.5 s", |facts| {
                facts.watchdog = WatchdogCounts { stalls: 2, stalled_ms: 3_500, pauses: 0 };
            }),
            ("loop", CheckState::Warning, "1 times", |facts| facts.watchdog.pauses = 1),
            ("ready", CheckState::Failed, "no seed", |facts| facts.ready = Err("no seed has answered".to_owned())),
            ("certificate", CheckState::Failed, "has ended", |facts| facts.certificate_ends = Duration::ZERO),
            ("certificate", CheckState::Warning, "26 hours", |facts| facts.certificate_ends = Duration::from_hours(26)),
            ("disk", CheckState::Failed, "4 writes", |facts| facts.counts.unwritten = 4),
            ("queues", CheckState::Warning, "5 commands", |facts| facts.counts.inputs_dropped = 5),
            ("quic", CheckState::Failed, "none of the 2 other members was asked", |facts| facts.standing.up = 2),
            ("services", CheckState::Warning, "1 of 2 offered here take no connections: web at", |facts| {
                facts.refusing.push("web at 127.0.0.1:8080".to_owned());
            }),
            ("carrier", CheckState::Warning, "1 members are reached over TCP only: web-3", |facts| {
                facts.by_tcp.push("web-3".to_owned());
            }),
            ("members", CheckState::Warning, "1 of 3 down: web-3", |facts| {
                facts.standing.down.push("web-3".to_owned());
            }),
        ];
        let see = |facts: &Facts, check: &str, state, words: &str| {
            let reports = judge(facts);
            let fits =
                |report: &&CheckReport| report.check == check && report.state == state && report.found.contains(words);
            let found = reports.iter().find(fits);
            assert!(found.is_some_and(|report| !report.hint.is_empty()), "{check} {words}: {reports:#?}");
        };
        for (check, state, words, break_it) in cases {
            let mut facts = facts();
            break_it(&mut facts);
            see(&facts, check, state, words);
        }
        for (kind, check, state) in [
            (TroubleKind::NameTaken, "names", CheckState::Failed),
            (TroubleKind::KeyInUse, "names", CheckState::Failed),
            (TroubleKind::MemberLimit, "members", CheckState::Failed),
            (TroubleKind::Seed, "seeds", CheckState::Failed),
            (TroubleKind::Generation, "clock", CheckState::Warning),
            (TroubleKind::Join, "joins", CheckState::Warning),
            (TroubleKind::Offender, "members", CheckState::Failed),
        ] {
            let facts = Facts { troubles: vec![trouble(kind, "it is so")], ..facts() };
            see(&facts, check, state, "it is so (3 times)");
        }
    }
}
