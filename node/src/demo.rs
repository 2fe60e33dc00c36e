//! `starling demo`: a whole mesh on loopback, a load, and two deaths, told step by step.
//!
//! Every host is a real `starling agent` and real services in processes of their own. The demo claims nothing that it
//! has not observed: it ends with exit code 0 only if all of it came about.

mod load;
mod report;
mod service;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use load::{Load, Sample};
use report::{Figures, answered, time_to_route_around};
use stage::{Cast, Stage};

pub use service::Service;

/// Requests a second.
const RATE: u32 = 100;
/// A dead node is listed down within this time (gossip.md).
const DOWN_WITHIN: Duration = Duration::from_secs(7);
/// A node that returns is back in service within this time.
const BACK_WITHIN: Duration = Duration::from_secs(3);
/// A load of 100 requests a second may lose this many to a whole host's death.
const MAY_FAIL: usize = 3;
/// No request may take longer than this.
const MAY_TAKE: Duration = Duration::from_secs(1);

const CAST: [(&str, Cast); 3] = [
    ("a", &[("web", Some("orders"))]),
    ("b", &[("orders", Some("stock")), ("stock", None)]),
    ("c", &[("orders", Some("stock")), ("stock", None)]),
];

/// One row of the closing table.
struct Row {
    what: &'static str,
    figures: Figures,
    retried: u64,
    around: Option<Duration>,
}

/// Runs the demo; each phase under load lasts `phase`. Ends early when `stop` does, and gives what that gave. However it
/// ends, no process and no file of it is left.
///
/// # Errors
/// If anything did not come about that the demo claims.
pub async fn run<T>(phase: Duration, stop: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
    println!("Three hosts on loopback, each with its own starling node. No controller.\n");
    println!("  a: web     b: orders, stock     c: orders, stock");
    println!("  a request goes  web -> orders -> stock,  each step through the mesh over mutual TLS\n");
    let mut stage = Stage::try_new()?;
    let outcome = tokio::select! {
        biased;
        stopped = stop => Ok(Some(stopped)),
        outcome = play(&mut stage, phase) => outcome.map(|()| None),
    };
    if outcome.is_err() {
        for host in stage.hosts().filter(|host| host.is_up()) {
            eprintln!("host {} said last:\n{}\n", host.name, host.last_words());
        }
    }
    let ended = stage.end().await;
    let outcome = outcome?;
    ended?;
    Ok(outcome)
}

async fn play(stage: &mut Stage, phase: Duration) -> anyhow::Result<()> {
    stage.set(&CAST).await?;
    let ready = stage.wait_for(3, &[("orders", 2), ("stock", 2)]).await?;
    say(&format!("every node knows the other two and all services ({} ms after the start)", ready.as_millis()));
    let entry = stage.host("a").address_of("web");
    stage::wait_until("a first answer", async || {
        let probe = Load::start(entry, "web", 20);
        tokio::time::sleep(Duration::from_millis(200)).await;
        probe.samples().iter().any(|sample| sample.result.is_ok())
    })
    .await?;
    let load = Load::start(entry, "web", RATE);
    say(&format!("load: {RATE} requests a second, each sent at its time whatever became of those before"));
    let mut rows = vec![calm(stage, &load, phase).await?];
    rows.push(backend_killed(stage, &load, phase).await?);
    rows.push(node_killed(stage, &load, phase).await?);
    rows.push(node_returns(stage, &load, phase).await?);
    print_table(&rows);
    ensure!(rows.iter().any(|row| row.retried > 0), "no request was sent again, so nothing was shown");
    Ok(())
}

/// What a missed bound may mean besides a fault.
const BUSY: &str = "a busy machine can be the cause: try again when it has less to do";

/// Holds a time against its bound.
fn within(what: &str, took: Duration, bound: Duration) -> anyhow::Result<()> {
    let (took_s, bound_s) = (took.as_secs_f64(), bound.as_secs_f64());
    ensure!(took <= bound, "{what}: it took {took_s:.2} s, and the bound is {bound_s:.2} s; {BUSY}");
    Ok(())
}

/// Holds a number of failed requests against its bound.
fn few_failed(what: &str, failed: usize, bound: usize) -> anyhow::Result<()> {
    ensure!(failed <= bound, "{what}: requests that failed: {failed}, and the bound is {bound}; {BUSY}");
    Ok(())
}

fn say(what: &str) {
    println!("  * {what}");
}

/// Requests that the nodes of hosts a and b have sent again: those that live through it all, so that the sum only rises.
async fn retries(stage: &mut Stage) -> u64 {
    let mut sum = 0;
    for name in ["a", "b"] {
        let host = stage.host(name);
        if host.is_up() {
            sum += host.retries().await.unwrap_or(0);
        }
    }
    sum
}

/// Waits until `host` is the one that answers for `service`, so that a fault there is met.
async fn until_serves(load: &Load, service: &str, host: &str) -> anyhow::Result<()> {
    let latest = || load.samples().last().map(|sample| sample.result.clone());
    let serves = |chain: &[(String, String)]| chain.iter().any(|(s, h)| s == service && h == host);
    let what = format!("{service} on host {host} to be chosen");
    stage::wait_until(&what, async || matches!(latest(), Some(Ok(chain)) if serves(&chain))).await?;
    Ok(())
}

/// Waits until everything due before `until` has ended, and gives all samples.
async fn settled(load: &Load, until: Instant) -> anyhow::Result<Vec<Sample>> {
    stage::wait_until("the requests under way", async || load.samples().iter().any(|sample| sample.due >= until))
        .await?;
    // Requests do not end in the order they were sent: those just before `until` get the time that none may exceed.
    tokio::time::sleep(MAY_TAKE).await;
    Ok(load.samples())
}

async fn calm(stage: &mut Stage, load: &Load, phase: Duration) -> anyhow::Result<Row> {
    println!("\nAll is well");
    let (start, before) = (Instant::now(), retries(stage).await);
    tokio::time::sleep(phase).await;
    let end = Instant::now();
    let samples = settled(load, end).await?;
    let figures = Figures::of(&samples, start, end);
    ensure!(figures.requests > 0, "no request ended");
    few_failed("while nothing was wrong", figures.failed, 0)?;
    for host in ["b", "c"] {
        ensure!(answered(&samples, "stock", host, start, end), "stock on host {host} served nothing");
    }
    say("both instances of orders and of stock serve");
    Ok(Row { what: "all is well", figures, retried: retries(stage).await.saturating_sub(before), around: None })
}

async fn backend_killed(stage: &mut Stage, load: &Load, phase: Duration) -> anyhow::Result<Row> {
    println!("\nA backend dies: kill -9 of stock on host b");
    until_serves(load, "stock", "b").await?;
    let (start, before) = (Instant::now(), retries(stage).await);
    let fault = stage.host("b").kill_service("stock").await?;
    tokio::time::sleep(phase).await;
    let end = Instant::now();
    let samples = settled(load, end).await?;
    let settled_from = fault + Duration::from_secs(1);
    ensure!(!answered(&samples, "stock", "b", settled_from, end), "the dead stock on b is said to have answered");
    ensure!(answered(&samples, "stock", "c", settled_from, end), "stock on host c did not take over");
    let row = Row {
        what: "backend killed",
        figures: Figures::of(&samples, start, end),
        retried: retries(stage).await.saturating_sub(before),
        around: Some(time_to_route_around(&samples, fault, end)),
    };
    row.check()?;
    row.say_retried("its node answered \"not processed\", so each request was sent to stock on host c instead");
    stage.host("b").start_service("stock")?;
    let revived = Instant::now();
    let back = stage::wait_until("stock on host b to serve again", async || {
        answered(&load.samples(), "stock", "b", revived, Instant::now())
    })
    .await?;
    say(&format!("stock on b was started again, and serves again after {:.1} s", back.as_secs_f64()));
    Ok(row)
}

async fn node_killed(stage: &mut Stage, load: &Load, phase: Duration) -> anyhow::Result<Row> {
    println!("\nA whole host dies: kill -9 of the node c and its services");
    until_serves(load, "orders", "c").await?;
    let (start, before) = (Instant::now(), retries(stage).await);
    let fault = stage.host("c").kill().await?;
    stage::wait_until("node c to be listed down on a", async || {
        stage.host("a").state_of("c").await.is_ok_and(|state| state == "down")
    })
    .await?;
    let down = fault.elapsed();
    within("until node c was listed down", down, DOWN_WITHIN)?;
    say(&format!("gossip on a lists c as down after {:.1} s; routing did not wait for it", down.as_secs_f64()));
    tokio::time::sleep(phase.saturating_sub(down)).await;
    let end = Instant::now();
    let samples = settled(load, end).await?;
    ensure!(answered(&samples, "stock", "b", fault, end), "host b did not take over");
    let row = Row {
        what: "node killed",
        figures: Figures::of(&samples, start, end),
        retried: retries(stage).await.saturating_sub(before),
        around: Some(time_to_route_around(&samples, fault, end)),
    };
    row.check()?;
    row.say_retried("requests that were with c when it died were sent to b; the load went on");
    Ok(row)
}

async fn node_returns(stage: &mut Stage, load: &Load, phase: Duration) -> anyhow::Result<Row> {
    println!("\nHost c returns");
    let (start, before) = (Instant::now(), retries(stage).await);
    stage.host("c").revive()?;
    let revived = Instant::now();
    let back = stage::wait_until("host c to serve again", async || {
        answered(&load.samples(), "stock", "c", revived, Instant::now())
    })
    .await?;
    within("until host c was back in service", back, BACK_WITHIN)?;
    say(&format!("it is back in service after {:.1} s", back.as_secs_f64()));
    tokio::time::sleep(phase.saturating_sub(back)).await;
    let end = Instant::now();
    let samples = settled(load, end).await?;
    let figures = Figures::of(&samples, start, end);
    few_failed("while host c returned", figures.failed, 0)?;
    Ok(Row { what: "node returns", figures, retried: retries(stage).await.saturating_sub(before), around: None })
}

impl Row {
    /// What became of the requests that met the fault. There may have been none: the choice had just gone elsewhere.
    fn say_retried(&self, how: &str) {
        say(if self.retried > 0 { how } else { "no request was with it at that moment; the load went on" });
    }

    /// What the demo claims of every fault.
    fn check(&self) -> anyhow::Result<()> {
        let Figures { failed, max, .. } = self.figures;
        few_failed(self.what, failed, MAY_FAIL)?;
        within(&format!("{}: the slowest request", self.what), max, MAY_TAKE)?;
        let around = self.around.context("a fault has a time")?;
        within(&format!("{}: routing around", self.what), around, MAY_TAKE)
    }
}

fn print_table(rows: &[Row]) {
    println!("\nWhat callers saw");
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["", "requests", "failed", "retried", "p50 ms", "p99 ms", "max ms", "time to route around"]);
    let ms = |d: Duration| format!("{:.1}", d.as_secs_f64() * 1000.0);
    for Row { what, figures, retried, around } in rows {
        table.add_row([
            (*what).to_owned(),
            figures.requests.to_string(),
            figures.failed.to_string(),
            retried.to_string(),
            ms(figures.p50),
            ms(figures.p99),
            ms(figures.max),
            around.map_or_else(|| "-".to_owned(), |a| format!("{} ms", ms(a))),
        ]);
    }
    println!("{table}");
    println!(
        "time to route around: from the fault to the end of the last request that failed or took over {} ms; 0: none did",
        report::SLOW.as_millis()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_told_beside_the_figure() {
        let bound = Duration::from_secs(7);
        assert!(within("down", bound, bound).is_ok() && few_failed("calm", 3, 3).is_ok());
        let late = within("until node c was listed down", Duration::from_millis(7_250), bound).unwrap_err().to_string();
        let lost = few_failed("node killed", 4, 3).unwrap_err().to_string();
        assert!(late.starts_with("until node c was listed down: it took 7.25 s, and the bound is 7.00 s; "), "{late}");
        assert!(lost.starts_with("node killed: requests that failed: 4, and the bound is 3; "), "{lost}");
        assert!(late.ends_with(BUSY) && lost.ends_with(BUSY));
    }
}
