//! The binary `starling-chaos`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use starling_chaos::churn::{self, ChurnPlan};
use starling_chaos::first_byte::{self, FirstBytePlan};
use starling_chaos::footprint;
use starling_chaos::reach::{self, Fault};
use starling_chaos::serf::{self, Comparison};
use starling_chaos::sim::{self, Scenario};
use starling_chaos::{Connections, Net, OpenLoop, Program};

/// Weather for a mesh: real hosts in network namespaces, faults and load.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Checks whether this machine can have hosts in network namespaces.
    Hosts {
        /// Keep two hosts until standard input ends, and print the ids of the processes there.
        #[arg(long)]
        hold: bool,
    },
    /// Plays what a mesh must reach on five hosts and holds each figure against its bound. Exits with 1 if one is missed.
    Reach {
        /// Only this part.
        #[arg(long, value_enum)]
        only: Option<Part>,
    },
    /// Measures real agents, a host each, beside as many of serf. Exits with 1 if either did not do its work.
    Serf(Serf),
    /// Sends requests through two agents on loopback, over connections that are opened, cut and half-closed at random. Exits with 1
    /// if one got another's answer, or if anything leaked.
    Churn(Churn),
    /// Measures how soon a service that speaks first is heard through two agents on loopback, with a long path between them. Exits
    /// with 1 if the mesh adds more than one round trip.
    FirstByte(FirstByte),
    /// Sends GET requests at a fixed rate that does not wait for answers. Exits with 1 if any failed.
    Load(Load),
    /// Plays a scenario on virtual time: the real engine on a simulated network. Exits with 1 if a bound is missed.
    Sim(Sim),
}

#[derive(clap::Args)]
struct Sim {
    /// A file, or the name of one in `chaos/scenarios`.
    scenario: String,
    /// One seed, one run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes, in place of what the scenario says.
    #[arg(long)]
    nodes: Option<usize>,
    /// Runs with a seed each, in place of what the scenario says.
    #[arg(long)]
    runs: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Churn {
    /// Requests, connections of opaque TCP among them.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    requests: u64,
    /// What happens is drawn from this.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections at a time.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u16).range(1..=400))]
    connections: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct FirstByte {
    /// The path's round trip, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(2..=2_000))]
    rtt: u64,
    /// Connections to each of two services, behind the first.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Serf {
    /// Agents of each.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(3..=200))]
    nodes: u8,
    /// How long they are watched at rest, in seconds.
    #[arg(long, default_value = "60", value_parser = seconds)]
    idle: Duration,
    /// Members to kill, one after another.
    #[arg(long, default_value_t = 5)]
    kills: usize,
    /// Between two starts, in seconds.
    #[arg(long, default_value = "0.02", value_parser = seconds)]
    pace: Duration,
    /// Without serf.
    #[arg(long)]
    alone: bool,
    /// Write all figures to this file, as JSON.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Load {
    /// Where to: `http://host[:port]/path`.
    #[arg(long)]
    url: http::Uri,
    /// Requests a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// When a request counts as failed, in seconds.
    #[arg(long, default_value = "10", value_parser = seconds)]
    timeout: Duration,
    /// Use connections again.
    #[arg(long)]
    keep_alive: bool,
    /// What to print.
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Write every request to this file, as JSON, and exit with 0 even if some failed.
    #[arg(long)]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("'{text}' is no number of seconds"))?;
    if (0.001..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("between 0.001 and 86400 seconds".to_owned())
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Hosts { hold: true } => hold(),
        Verb::Hosts { hold: false } => check(),
        Verb::Reach { only } => reach_all(only),
        Verb::Serf(serf) => beside_serf(&serf),
        Verb::Churn(churn) => churn_all(&churn),
        Verb::FirstByte(first) => first_bytes(&first),
        Verb::Load(load) => run(load),
        Verb::Sim(sim) => simulate(&sim),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("starling-chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> anyhow::Result<()> {
    let net = Net::try_new("hold", 2)?;
    let programs: Vec<_> = net.hosts().iter().map(|host| host.spawn(Program::new("sleep").arg("infinity"))).collect();
    for program in &programs {
        println!("{}", program.pid());
    }
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn check() -> anyhow::Result<()> {
    let net = Net::try_new("check", 2)?;
    let (one, other) = (net.host(0), net.host(1));
    println!("hosts: yes, {}", if one.is_rootless() { "in a user namespace" } else { "as root" });
    let _server = other.spawn(Program::new("python3").args(["-m", "http.server", "8000"]));
    let url = format!("http://{}:8000/", other.address());
    let fetch = |tries: &str| {
        let arguments = ["-s", "-o", "/dev/null", "--max-time", "1", "--retry", tries, "--retry-connrefused"];
        one.run("curl", arguments.into_iter().chain(["--retry-delay", "1", &url])).status.success()
    };
    ensure!(fetch("10"), "one host does not reach the other by TCP");
    println!("one reaches the other: yes");
    let cut = net.partition(&[0], &[1]);
    ensure!(!fetch("0"), "a partition does not part");
    drop(cut);
    ensure!(fetch("10"), "a partition does not heal");
    println!("partitions by nftables: yes");
    one.link_down();
    ensure!(!fetch("0"), "a pulled cable still carries");
    one.link_up();
    ensure!(fetch("10"), "a cable does not carry again");
    println!("cables: yes");
    Ok(())
}

/// One line of the table; false if the bound is missed.
fn line(what: &str, figure: &str, bound: &str, good: bool) -> bool {
    println!("{what:<48} {figure:>12}   {bound:<22} {}", if good { "ok" } else { "MISSED" });
    good
}

/// A part of what a mesh must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// An answer by name.
    Names,
    /// A host's link goes down.
    Cut,
    /// A host's processes are killed.
    Kill,
    /// What a node takes.
    Footprint,
}

fn reach_all(only: Option<Part>) -> anyhow::Result<()> {
    let plays = |part| only.is_none_or(|only| only == part);
    let ms = |d: Duration| format!("{:.0} ms", d.as_secs_f64() * 1000.0);
    let within = |what: &str, figure: Duration, bound: u64| {
        line(what, &ms(figure), &format!("at most {bound} ms"), figure <= Duration::from_millis(bound))
    };
    let mut good = true;
    for (captured, how) in [(true, "after capture install"), (false, "with none")] {
        if !plays(Part::Names) {
            break;
        }
        good &= within(&format!("answer by name, {how}"), reach::by_name(captured), 2_000);
    }
    for (fault, part) in [(Fault::Cut, Part::Cut), (Fault::Kill, Part::Kill)] {
        if !plays(part) {
            continue;
        }
        let met = reach::under_load(fault);
        println!("{fault}, under {} GETs", met.sent);
        good &= line("  failed", &met.failed.to_string(), "at most 3", met.failed <= 3);
        good &= within("  the longest", met.longest, 1_000);
        good &= within("  last failure after the fault", met.last_failure.unwrap_or_default(), 1_000);
        good &= within("  listed down", met.listed_down, 7_000);
        good &= within("  back in service after its return", met.back_in_service, 3_000);
        print!("{}", met.report);
    }
    good &= !plays(Part::Footprint) || footprint_all();
    ensure!(good, "a bound is missed");
    Ok(())
}

fn footprint_all() -> bool {
    const MIB: u64 = 1 << 20;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    let idle = footprint::idle();
    let mut good = line("an idle node, resident", &mib(idle.resident), "at most 20 MiB", idle.resident <= 20 * MIB);
    good &= line("an idle node, of a core", &format!("{:.2} %", idle.core * 100.0), "under 1 %", idle.core < 0.01);
    let bulk = footprint::bulk(1 << 30);
    good &= line("1 GiB each way at once, growth", &mib(bulk.growth), "at most 20 MiB", bulk.growth <= 20 * MIB);
    let written = bulk.written_to_slow_reader;
    good & line("written to a reader that took 1 MiB", &mib(written), "at most 32 MiB", written <= 32 * MIB)
}

fn beside_serf(options: &Serf) -> anyhow::Result<()> {
    let Serf { nodes, idle, kills, pace, alone, report } = options;
    let plan = serf::Plan { agents: usize::from(*nodes), pace: *pace, idle: *idle, kills: *kills };
    ensure!(plan.kills + 2 <= plan.agents, "--kills: two agents must stay");
    let serf = if *alone { None } else { Some(serf::measure_serf(&plan, &serf::find()?)?) };
    // Serf's side takes and gives back the lock by itself.
    let lock = serf::Lock::take()?;
    let starling = serf::measure(&plan);
    lock.give_back();
    let comparison = Comparison { serf, starling };
    if let Some(path) = report {
        std::fs::write(path, serde_json::to_vec_pretty(&comparison)?).with_context(|| path.display().to_string())?;
    }
    print!("{comparison}");
    ensure!(comparison.is_sound(), "one of them did not do its work");
    Ok(())
}

fn churn_all(churn: &Churn) -> anyhow::Result<()> {
    let Churn { requests, seed, connections, json } = *churn;
    let report = churn::play(&ChurnPlan { requests, seed, connections: connections.into() });
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.is_good(), "something is not as it must be");
    Ok(())
}

fn first_bytes(options: &FirstByte) -> anyhow::Result<()> {
    let FirstByte { rtt, connections, json } = *options;
    let plan = FirstBytePlan { round_trip: Duration::from_millis(rtt), connections: connections.into() };
    let report = first_byte::measure(&plan);
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.is_good(), "something is not as it must be");
    Ok(())
}

fn simulate(sim: &Sim) -> anyhow::Result<()> {
    let path = match Path::new(&sim.scenario) {
        path if path.extension().is_some() => path.to_owned(),
        name => Path::new("chaos/scenarios").join(name).with_extension("toml"),
    };
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut scenario = Scenario::try_new(&text, sim.nodes).with_context(|| path.display().to_string())?;
    scenario.runs = sim.runs.unwrap_or(scenario.runs);
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let report = sim::play(&name, &scenario, sim.seed);
    if sim.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.is_good(), "a bound is missed");
    Ok(())
}

fn run(load: Load) -> anyhow::Result<()> {
    ensure!(load.url.scheme_str() == Some("http") && load.url.host().is_some(), "--url: write http://host[:port]/path");
    let connections = if load.keep_alive { Connections::KeepAlive } else { Connections::New };
    let (rate, duration, timeout) = (load.rate, load.seconds, load.timeout);
    let open_loop = OpenLoop { url: load.url, rate, duration, connections, timeout };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = runtime.block_on(open_loop.run());
    let failed = report.failed;
    if let Some(path) = &load.report {
        std::fs::write(path, serde_json::to_vec(&report)?).with_context(|| path.display().to_string())?;
    }
    report.requests.clear();
    match load.output {
        Format::Table => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    ensure!(failed == 0 || load.report.is_some(), "{failed} requests failed");
    Ok(())
}
