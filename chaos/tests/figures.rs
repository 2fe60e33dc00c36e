//! The figures that the guide tells of and the scenarios that measure them: each has the other, and each is held.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use starling_chaos::sim::Scenario;

fn guide() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gossip.md")).unwrap()
}

/// Those in the folder, by name.
fn scenarios() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{name}.toml"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Scenario::try_new(&text, None).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The scenarios in the last cell of a row, whatever else a command says: `S crash-ten --nodes 500`. Between two commands that
/// have `...` between them stand those whose names differ in the number alone, as the measure tells: 1, 2, 4.
fn of_row(row: &str) -> Vec<String> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [measure, .., commands] = &cells[..] else { return Vec::new() };
    let named = commands.split('`').filter_map(|code| code.strip_prefix("S "));
    let named: Vec<&str> = named.filter_map(|command| command.split_whitespace().next()).collect();
    match &named[..] {
        [first, _last] if commands.contains("...") => {
            let stem = first.trim_end_matches(|digit: char| digit.is_ascii_digit());
            let counts = measure.split(" at ").nth(1).and_then(|counts| counts.split(" of ").next()).unwrap();
            counts.split(", ").map(|count| format!("{stem}{count}")).collect()
        }
        named => named.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Those that the tables tell of.
fn told() -> BTreeSet<String> {
    guide().lines().filter(|line| line.starts_with("| ")).flat_map(of_row).collect()
}

#[test]
fn what_stands_in_a_row_is_read() {
    assert_eq!(of_row("| a | b | `S crash-ten --nodes 500` |"), ["crash-ten"]);
    assert_eq!(of_row("| a | `S idle`, `S weather` |"), ["idle", "weather"]);
    let many = "| the CPU starved at 1, 2, 16 of 100 |  | 0 | `S starved-1` ... `S starved-16` |";
    assert_eq!(of_row(many), ["starved-1", "starved-2", "starved-16"]);
    assert!(of_row("| catalog | `cargo test -p starling-chaos` |").is_empty());
}

#[test]
fn each_scenario_stands_in_a_table_of_the_guide_and_each_that_stands_there_is_one() {
    let (told, scenarios) = (told(), scenarios());
    assert!(told.len() > 20, "{told:?}");
    assert_eq!(told, scenarios);
}

#[test]
fn each_scenario_of_the_guide_has_a_bound() {
    for name in told() {
        assert!(!scenario(&name).bounds.is_empty(), "{name} holds nothing");
    }
}

/// A figure and what it is held to.
type Held = (&'static str, f64);

const DETECTION: [Held; 3] = [("crash.first_s.p50", 3.5), ("crash.first_s.p99", 7.0), ("crash.spread_s.p99", 2.0)];
const LARGE: [Held; 3] = [("crash.first_s.p50", 3.5), ("crash.first_s.p99", 7.0), ("crash.spread_s.p99", 2.2)];
const FEWER: [Held; 2] = [("wrong.downs.times_fewer", 100.0), ("baseline.wrong.downs", 1000.0)];
const HEALTHY: [Held; 1] = [("wrong.evicted", 0.0)];
const NOBODY: [Held; 1] = [("wrong.downs", 0.0)];
const OUT: [Held; 1] = [("faulty.out_s", 30.0)];
const SETTLED: [Held; 1] = [("settle_s", 10.0)];
const PEAK: [Held; 1] = [("peak.bytes.gossip", 12_000.0)];
const IDLE: [Held; 1] = [("idle.bytes.gossip", 1_000.0)];
/// With 1,000 of gossip and 740 of the catalog these are 3,000.
const CONTROL: [Held; 1] = [("idle.bytes.control", 1_260.0)];
const CPU: [Held; 1] = [("cost.cpu_percent_of_a_core", 1.0)];
const MEMORY: [Held; 1] = [("cost.mib_a_node", 12.0)];
const LISTED: [Held; 1] = [("crash.unlisted", 0.0)];

/// The bounds that the tables of the guide state.
const STATED: [(&str, &[&[Held]]); 27] = [
    ("detect", &[&DETECTION]),
    ("crash-ten", &[&DETECTION, &PEAK, &HEALTHY, &LISTED]),
    ("idle", &[&IDLE, &CONTROL, &CPU, &MEMORY]),
    ("stalled-4", &[&FEWER]),
    ("stalled-16", &[&FEWER]),
    ("stalled-32", &[&FEWER]),
    ("starved-1", &[&NOBODY]),
    ("starved-2", &[&NOBODY]),
    ("starved-4", &[&NOBODY]),
    ("starved-8", &[&NOBODY]),
    ("starved-16", &[&NOBODY]),
    ("starved-32", &[&NOBODY]),
    ("ingress-loss", &[&HEALTHY, &OUT]),
    ("flip-flop", &[&HEALTHY, &OUT]),
    ("one-way", &[&HEALTHY]),
    ("bootstrap", &[&[("join_s", 5.0)]]),
    ("bootstrap-500", &[&[("join_s", 8.0)], &MEMORY]),
    ("split-1", &[&SETTLED]),
    ("split-5", &[&SETTLED]),
    ("split-60", &[&SETTLED]),
    ("swim-1000", &[&LARGE, &IDLE, &PEAK, &MEMORY]),
    ("blocked-port", &[&NOBODY]),
    ("suspended", &[&LISTED, &NOBODY, &SETTLED]),
    ("clocks", &[&SETTLED]),
    ("lost-seeds", &[&SETTLED]),
    ("islands", &[&SETTLED]),
    ("weather", &[&HEALTHY, &[("crash.all_s.max", 12.0)]]),
];

#[test]
fn the_bounds_that_the_guide_states_are_those_of_the_scenarios() {
    let stated: BTreeSet<String> = STATED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stated, told());
    for (name, figures) in STATED {
        let scenario = scenario(name);
        for (figure, value) in figures.iter().copied().flatten() {
            let mut bounds = scenario.bounds.iter().filter(|bound| bound.figure == *figure);
            let held = bounds.any(|bound| bound.most.or(bound.least) == Some(*value));
            assert!(held, "{name}: {figure} is not held to {value}");
        }
    }
}
