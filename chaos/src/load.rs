//! Load that does not wait: an open loop, so that a stall shows as latency and not as fewer requests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::binary;
use crate::host::{Host, Process, Program};

mod client;
mod report;

use client::Client;
pub use report::{Failure, Report};
use report::{Outcome, Record};

/// A run of more requests is cut short: each leaves a record of some 60 bytes.
const MOST_REQUESTS: u64 = 2_000_000;

/// Requests under way at one time; one more is a failure of its own kind.
const MOST_UNDER_WAY: usize = 4096;

/// GET requests at a fixed rate, each sent when its time has come, whatever became of those before.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenLoop {
    /// `http://host[:port]/path`
    pub url: Uri,
    /// Requests a second, at least 1.
    pub rate: u32,
    /// For how long requests are sent.
    pub duration: Duration,
    /// How they reach the server.
    pub connections: Connections,
    /// A request that takes longer has failed.
    pub timeout: Duration,
}

/// How requests reach the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Connections {
    /// The name is resolved and a connection made for each request, as `curl` does.
    #[default]
    New,
    /// Idle connections are used again, as a service's client does.
    KeepAlive,
}

impl OpenLoop {
    /// Requests to this URL, each on a connection of its own, given up after 10 s. Panics on a text that is no URL.
    #[track_caller]
    pub fn new(url: &str, rate: u32, duration: Duration) -> Self {
        let url = url.parse().unwrap_or_else(|error| panic!("'{url}' is no URL: {error}"));
        Self { url, rate, duration, connections: Connections::New, timeout: Duration::from_secs(10) }
    }

    /// With connections that are kept and used again.
    #[must_use]
    pub fn keep_alive(mut self) -> Self {
        self.connections = Connections::KeepAlive;
        self
    }

    /// Starts it on a host, as a process of its own.
    #[track_caller]
    pub fn start_on(&self, host: &Host) -> RunningLoad {
        let records = host.next_file("load.json");
        let mut program = Program::new(binary::starling_chaos());
        program.args(["load", "--rate", &self.rate.to_string(), "--seconds", &self.duration.as_secs_f64().to_string()]);
        program.args(["--timeout", &self.timeout.as_secs_f64().to_string(), "--url", &self.url.to_string()]);
        if self.connections == Connections::KeepAlive {
            program.arg("--keep-alive");
        }
        program.arg("-o").arg("json").arg("--report").arg(&records);
        RunningLoad { process: host.spawn(&program), report: records, most: self.duration + self.timeout * 2 }
    }

    /// Runs it here and now.
    pub async fn run(&self) -> Report {
        let client = Arc::new(Client::new(self.url.clone(), self.connections));
        let slots = Arc::new(Semaphore::new(MOST_UNDER_WAY));
        let count = (u64::from(self.rate) * u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX) / 1000)
            .clamp(1, MOST_REQUESTS);
        let (started, start) = (SystemTime::now(), Instant::now());
        let (mut records, mut under_way) = (Vec::new(), JoinSet::new());
        for number in 0..count {
            let scheduled = start + Duration::from_secs(number) / self.rate;
            tokio::time::sleep_until(scheduled).await;
            while let Some(record) = under_way.try_join_next() {
                records.extend(record);
            }
            let at = scheduled - start;
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                records.push(Record {
                    at,
                    latency: Duration::ZERO,
                    outcome: Outcome::Failed("too many under way".into()),
                });
                continue;
            };
            let (client, timeout) = (Arc::clone(&client), self.timeout);
            under_way.spawn(async move {
                let outcome = match tokio::time::timeout_at(scheduled + timeout, client.request()).await {
                    Ok(outcome) => outcome,
                    Err(_) => Outcome::Failed("no answer in time".into()),
                };
                drop(slot);
                Record { at, latency: scheduled.elapsed(), outcome }
            });
        }
        records.extend(under_way.join_all().await);
        Report::of(started, records)
    }
}

/// A load on a host.
pub struct RunningLoad {
    process: Process,
    report: PathBuf,
    most: Duration,
}

impl RunningLoad {
    /// Waits for its end and reads its report; panics with what it wrote if there is none.
    #[track_caller]
    pub fn report(mut self) -> Report {
        let status = self.process.wait(self.most + Duration::from_secs(20));
        assert!(status.success(), "the load failed: {status}\n{}", self.process.log());
        let text = std::fs::read(&self.report).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("no report: {error}\n{}", self.process.log()))
    }
}
