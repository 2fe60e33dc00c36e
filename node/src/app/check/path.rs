//! What a survey shows of the paths between this node and others.

use std::net::SocketAddr;
use std::time::Duration;

use starling_gossip::HeldKey;

use super::{list, report, well};
use crate::admin::{CheckReport, CheckState};
use crate::mesh::{Answer, Look, Skew, Survey};

/// Clocks that differ by this much are worth a look: times in logs and traces no longer fit together.
const SKEW_WARNING: i64 = 1_000;
/// And by this much something fails: a certificate that was just issued is not valid yet.
const SKEW_FAILED: i64 = 30_000;

/// `up`: how many others are up by now.
pub(super) fn judge(survey: &Survey, gossip_address: SocketAddr, up: usize) -> Vec<CheckReport> {
    let mut reports = vec![quic(survey, up)];
    if answers(survey).next().is_none() {
        reports.extend(["keys", "gossip", "clock"].map(|check| untold(check, survey.up.max(up))));
        return reports;
    }
    reports.extend(keys(survey));
    // The others speak with that one, so that none of this says anything of ports.
    if twin(survey).is_none() {
        reports.extend(gossip(survey, gossip_address));
    }
    reports.extend(clock(survey));
    reports
}

/// Those that answered over QUIC.
fn answers(survey: &Survey) -> impl Iterator<Item = (&Look, &Answer)> {
    survey.looks.iter().filter_map(|look| Some((look, look.answer.as_ref().ok()?)))
}

/// Where another node runs with this one's key, as others know it, and who says so.
pub(super) fn twin(survey: &Survey) -> Option<String> {
    let known = |answer: &Answer| answer.knows_us_as.filter(|known| survey.own.is_run_elsewhere(known));
    let told: Vec<(&str, SocketAddr)> = answers(survey)
        .filter_map(|(look, answer)| Some((look.name.as_str(), known(answer)?.address.quic())))
        .collect();
    let (_, at) = told.first()?;
    let by: Vec<String> = told.iter().map(|(name, _)| (*name).to_owned()).collect();
    Some(format!(
        "two nodes with one key: another node at {at} runs with this node's, and started later, say {}",
        list(&by)
    ))
}

/// Nobody answered: that says nothing of this.
fn untold(check: &str, up: usize) -> CheckReport {
    match up {
        0 => well(check, ALONE),
        _ => report(check, CheckState::Warning, "not known: no other member has answered", "mend what quic says first"),
    }
}

const ALONE: &str = "nobody was asked: no other member is up";

fn quic(survey: &Survey, up: usize) -> CheckReport {
    let asked = survey.looks.iter().filter(|look| look.state.is_up()).count();
    let silent: Vec<String> = survey
        .looks
        .iter()
        .filter(|look| look.state.is_up())
        .filter_map(|look| Some(format!("{} at {} ({})", look.name, look.address.quic(), look.answer.as_ref().err()?)))
        .collect();
    if asked == 0 && up == 0 {
        return well("quic", ALONE);
    }
    if asked == 0 {
        let found = format!("none of the {up} other members was asked: they came up a moment ago");
        return report("quic", CheckState::Failed, found, "look again: `starling check --wait` does so by itself");
    }
    let others = survey.up;
    if silent.is_empty() {
        return well("quic", format!("{asked} of {others} other members were asked, and answered"));
    }
    let found = format!("{} of {asked} members that gossip do not answer over QUIC: {}", silent.len(), list(&silent));
    report("quic", CheckState::Failed, found, "allow UDP to their mesh.quic_port, on both hosts and between them")
}

/// Can both read what the other seals?
fn lacks(survey: &Survey, answer: &Answer) -> (Option<u32>, Option<u32>) {
    let missing = |sealing: Option<&HeldKey>, held: &[HeldKey]| {
        sealing.filter(|key| !held.iter().any(|held| held.fits(key))).map(|key| key.epoch)
    };
    if answer.keys.is_empty() {
        return (None, None);
    }
    (missing(survey.keys.first(), &answer.keys), missing(answer.keys.first(), &survey.keys))
}

/// Of which epoch have both a key, and not the same?
fn differ(survey: &Survey, answer: &Answer) -> Option<u32> {
    let other = |own: &&HeldKey| answer.keys.iter().any(|key| key.rivals(own));
    survey.keys.iter().find(other).map(|key| key.epoch)
}

fn keys(survey: &Survey) -> Vec<CheckReport> {
    let hint = "`starling keyring list` says who holds which; it heals by itself once the two exchange states";
    let mut reports = Vec::new();
    for (look, answer) in answers(survey) {
        if let Some(epoch) = differ(survey, answer) {
            let found = format!("{} has another key of epoch {epoch} than this node", look.name);
            let hint = "were both identities made by the same `starling ca init`? copy group.keys from the one that fits the others";
            reports.push(report("keys", CheckState::Failed, found, hint));
            continue;
        }
        let (there, here) = lacks(survey, answer);
        if let Some(epoch) = there {
            let found = format!("{} lacks key epoch {epoch}, which this node seals with", look.name);
            reports.push(report("keys", CheckState::Failed, found, hint));
        }
        if let Some(epoch) = here {
            let found = format!("this node lacks key epoch {epoch}, which {} seals with", look.name);
            reports.push(report("keys", CheckState::Failed, found, hint));
        }
    }
    if reports.is_empty() {
        let epochs: Vec<String> = survey.keys.iter().map(|key| key.epoch.to_string()).collect();
        reports.push(well("keys", format!("epochs {} fit those of the others", epochs.join(", "))));
    }
    reports
}

fn gossip(survey: &Survey, own: SocketAddr) -> Vec<CheckReport> {
    // Who lacks a key can't read what arrives; an older version does not say what arrived.
    let told: Vec<(&Look, bool)> = answers(survey)
        .filter(|(_, answer)| lacks(survey, answer) == (None, None))
        .filter_map(|(look, answer)| Some((look, answer.hears?)))
        .collect();
    let name = |look: &Look| format!("{} ({})", look.name, look.address.gossip());
    let unheard: Vec<String> = told.iter().filter(|(look, _)| !look.heard).map(|(look, _)| name(look)).collect();
    let deaf: Vec<String> = told.iter().filter(|(_, hears)| !hears).map(|(look, _)| name(look)).collect();
    let mut reports = Vec::new();
    if !unheard.is_empty() {
        let found = if unheard.len() == told.len() {
            format!(
                "nothing arrives at this node's gossip port, UDP {own}, though {} members answer over QUIC",
                told.len()
            )
        } else {
            format!(
                "the gossip of these members does not arrive here, though they answer over QUIC: {}",
                list(&unheard)
            )
        };
        let hint = format!("allow UDP to {own} (mesh.gossip_port), on this host and on the way to it");
        reports.push(report("gossip", CheckState::Failed, found, hint));
    }
    if !deaf.is_empty() {
        let found = format!(
            "this node's gossip does not arrive at {} of {} members, though they answer over QUIC: {}",
            deaf.len(),
            told.len(),
            list(&deaf)
        );
        let hint =
            format!("allow UDP from {} to their mesh.gossip_port, on their hosts and on the way to them", own.ip());
        reports.push(report("gossip", CheckState::Failed, found, hint));
    }
    if reports.is_empty() {
        reports.push(well(
            "gossip",
            match told.len() {
                0 => "not known: none of the members asked could tell".to_owned(),
                asked => format!("passes both ways between this node and the {asked} members asked"),
            },
        ));
    }
    reports
}

fn clock(survey: &Survey) -> Vec<CheckReport> {
    let skews: Vec<(&Look, Skew)> = answers(survey).filter_map(|(look, answer)| Some((look, answer.skew?))).collect();
    let hint = "run a time service such as chrony on every host";
    let judged = |ahead: i64, give_or_take: i64| match ahead.saturating_abs().saturating_sub(give_or_take) {
        SKEW_FAILED.. => Some(CheckState::Failed),
        SKEW_WARNING.. => Some(CheckState::Warning),
        _ => None,
    };
    // Where most others agree that this node is wrong, it is.
    let common = if skews.len() > 1 { median(skews.iter().map(|(_, skew)| skew.ahead_ms)) } else { 0 };
    let worst = skews.iter().map(|(_, skew)| skew.give_or_take_ms).max().unwrap_or(0);
    let mut reports = Vec::new();
    let own = judged(common, worst);
    if let Some(state) = own {
        let found = format!("this node's clock is {} those of most members asked", apart(common.saturating_neg()));
        reports.push(report("clock", state, found, hint));
    }
    let base = if own.is_some() { common } else { 0 };
    for (look, skew) in &skews {
        let ahead = skew.ahead_ms.saturating_sub(base);
        if let Some(state) = judged(ahead, skew.give_or_take_ms) {
            let than = if own.is_some() { "those of most" } else { "this node's" };
            let found = format!("the clock of {} is {} {than}", look.name, apart(ahead));
            reports.push(report("clock", state, found, hint));
        }
    }
    if reports.is_empty() {
        let most = skews.iter().map(|(_, skew)| skew.ahead_ms.saturating_abs()).max().unwrap_or(0);
        reports.push(well(
            "clock",
            format!("within {} ms of the {} members asked", most.saturating_add(worst), skews.len()),
        ));
    }
    reports
}

/// "3.5 s ahead of".
fn apart(ahead_ms: i64) -> String {
    let seconds = Duration::from_millis(ahead_ms.unsigned_abs()).as_secs_f64();
    let way = if ahead_ms < 0 { "behind" } else { "ahead of" };
    format!("{seconds:.1} s {way}")
}

fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use starling_gossip::State;
    use starling_proto::{Generation, MemberIdentity, NodeAddress, NodeId};

    use super::*;

    /// What of a look is not as it should be.
    #[derive(Clone, Copy)]
    struct Seen {
        heard: bool,
        hears: Option<bool>,
        ahead_ms: i64,
        epochs: [u32; 2],
        /// The first key of those is another than that of this node.
        other_key: bool,
        /// The generation and the port of this node, as it is known there.
        known: (u32, u16),
    }

    const WELL: Seen =
        Seen { heard: true, hears: Some(true), ahead_ms: 0, epochs: [2, 1], other_key: false, known: (5, 7947) };

    /// This node.
    pub(in crate::app::check) fn own(generation: u32, quic_port: u16) -> MemberIdentity {
        MemberIdentity {
            node_id: NodeId::from_bytes([9; 16]),
            address: NodeAddress { ip: [10, 0, 0, 1].into(), gossip_port: 7946, quic_port },
            generation: Generation(generation),
            rejoin: 0,
            cell: 0,
        }
    }

    fn key(epoch: u32, other: bool) -> HeldKey {
        HeldKey { epoch, print: Some(epoch + if other { 100 } else { 0 }) }
    }

    fn survey(seen: &[Seen]) -> Survey {
        let look = |(n, seen): (usize, &Seen)| Look {
            id: NodeId::from_bytes([u8::try_from(n).unwrap(); 16]),
            name: format!("n{n}"),
            address: NodeAddress {
                ip: [10, 0, 0, u8::try_from(n + 10).unwrap()].into(),
                gossip_port: 7946,
                quic_port: 7947,
            },
            state: State::Alive,
            heard: seen.heard,
            answer: Ok(Answer {
                took: Duration::from_millis(2),
                skew: Some(Skew { ahead_ms: seen.ahead_ms, give_or_take_ms: 2 }),
                keys: vec![key(seen.epochs[0], seen.other_key), key(seen.epochs[1], false)],
                hears: seen.hears,
                knows_us_as: Some(own(seen.known.0, seen.known.1)),
            }),
        };
        Survey {
            own: own(5, 7947),
            keys: vec![key(2, false), key(1, false)],
            up: seen.len(),
            looks: seen.iter().enumerate().map(look).collect(),
        }
    }

    /// The lines of a check, as `state: what was found`.
    fn lines(check: &str, survey: &Survey) -> Vec<String> {
        let reports = judge(survey, SocketAddr::from(([10, 0, 0, 1], 7946)), survey.up);
        let line = |report: &CheckReport| format!("{:?}: {}", report.state, report.found);
        reports.iter().filter(|report| report.check == check).map(line).collect()
    }

    #[test]
    fn another_node_with_this_ones_key_is_told_of_and_no_port_is_blamed_for_it() {
        let other = Seen { heard: false, hears: Some(false), known: (6, 7957), ..WELL };
        let told = twin(&survey(&[WELL, other])).unwrap();
        assert!(told.contains("another node at 10.0.0.1:7957") && told.ends_with("say n1"), "{told}");
        assert_eq!(lines("gossip", &survey(&[WELL, other])), [""; 0]);
        // It was not told yet of this boot; or this one will be told of its last one when they exchange states.
        for known in [(4, 7957), (6, 7947)] {
            assert_eq!(twin(&survey(&[WELL, Seen { known, ..WELL }])), None);
        }
    }

    #[test]
    fn a_gossip_port_that_is_blocked_is_named_with_its_side() {
        let unheard = Seen { heard: false, ..WELL };
        let deaf = Seen { hears: Some(false), ..WELL };
        assert_eq!(
            lines("gossip", &survey(&[unheard, unheard])),
            [
                "Failed: nothing arrives at this node's gossip port, UDP 10.0.0.1:7946, though 2 members answer over QUIC"
            ]
        );
        assert_eq!(
            lines("gossip", &survey(&[WELL, unheard])),
            [
                "Failed: the gossip of these members does not arrive here, though they answer over QUIC: n1 (10.0.0.11:7946)"
            ]
        );
        assert_eq!(
            lines("gossip", &survey(&[deaf, WELL])),
            [
                "Failed: this node's gossip does not arrive at 1 of 2 members, though they answer over QUIC: n0 (10.0.0.10:7946)"
            ]
        );
        assert_eq!(lines("gossip", &survey(&[Seen { heard: false, hears: Some(false), ..WELL }])).len(), 2);
        assert!(lines("gossip", &survey(&[Seen { heard: false, hears: None, ..WELL }]))[0].starts_with("Ok: "));
    }

    #[test]
    fn a_key_that_one_side_lacks_is_named_and_not_taken_for_a_blocked_port() {
        let behind = Seen { epochs: [1, 0], heard: false, hears: Some(false), ..WELL };
        assert_eq!(
            lines("keys", &survey(&[WELL, behind])),
            ["Failed: n1 lacks key epoch 2, which this node seals with"]
        );
        assert!(lines("gossip", &survey(&[WELL, behind]))[0].starts_with("Ok: "));
        let other = Seen { other_key: true, heard: false, hears: Some(false), ..WELL };
        assert_eq!(lines("keys", &survey(&[WELL, other])), ["Failed: n1 has another key of epoch 2 than this node"]);
        assert!(lines("gossip", &survey(&[WELL, other]))[0].starts_with("Ok: "), "no port is blamed");
        let before = Seen { epochs: [3, 2], ..WELL };
        assert_eq!(lines("keys", &survey(&[before])), ["Failed: this node lacks key epoch 3, which n0 seals with"]);
    }

    #[test]
    fn the_clock_that_is_wrong_is_named_be_it_this_nodes() {
        let ahead = |ahead_ms| Seen { ahead_ms, ..WELL };
        assert_eq!(
            lines("clock", &survey(&[ahead(40_000), ahead(5), ahead(-3)])),
            ["Failed: the clock of n0 is 40.0 s ahead of this node's"]
        );
        assert_eq!(
            lines("clock", &survey(&[ahead(-5_000), ahead(-5_010), ahead(-4_990)])),
            ["Warning: this node's clock is 5.0 s ahead of those of most members asked"]
        );
        assert_eq!(
            lines("clock", &survey(&[ahead(35_000), ahead(35_010), ahead(0)])),
            [
                "Failed: this node's clock is 35.0 s behind those of most members asked",
                "Failed: the clock of n2 is 35.0 s behind those of most"
            ]
        );
        assert_eq!(lines("clock", &survey(&[ahead(-2_000)])), ["Warning: the clock of n0 is 2.0 s behind this node's"]);
        assert_eq!(lines("clock", &survey(&[ahead(i64::MAX)])).len(), 1);
        assert!(lines("clock", &survey(&[ahead(900)]))[0].starts_with("Ok: within 902 ms"));
    }

    #[test]
    fn a_check_that_asked_nobody_says_so_and_fails_while_others_are_up() {
        let nobody = survey(&[]);
        assert_eq!(lines("quic", &nobody), [format!("Ok: {ALONE}")]);
        assert_eq!(lines("gossip", &nobody), [format!("Ok: {ALONE}")]);
        let reports = judge(&nobody, SocketAddr::from(([10, 0, 0, 1], 7946)), 2);
        let state = |check: &str| reports.iter().find(|report| report.check == check).map(|report| report.state);
        assert_eq!(state("quic"), Some(CheckState::Failed), "--wait goes on");
        for check in ["keys", "gossip", "clock"] {
            assert_eq!(state(check), Some(CheckState::Warning), "{check}");
        }
    }

    #[test]
    fn a_member_that_gossips_and_does_not_answer_over_quic_is_named() {
        let mut survey = survey(&[WELL, WELL]);
        survey.looks[1].answer = Err("no answer within 1000 ms".to_owned());
        assert_eq!(
            lines("quic", &survey),
            [
                "Failed: 1 of 2 members that gossip do not answer over QUIC: n1 at 10.0.0.11:7947 (no answer within 1000 ms)"
            ]
        );
        survey.looks[1].state = State::Down;
        assert_eq!(lines("quic", &survey), ["Ok: 1 of 2 other members were asked, and answered"]);
    }
}
