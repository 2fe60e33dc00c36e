use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ChurnPlan;
use super::census::{Census, Held};
use super::ledger::{Ledger, Outcome};

/// An agent's memory may be so much larger after all requests than after half of them, in bytes. What grows for long and stops is
/// QUIC's state of streams (a thousand a connection), which is used again and keeps the room that it once needed.
const GROWTH: u64 = 8 << 20;
/// Of those that neither side wished to fail, so many may fail with a connection that they shared: one in so many.
const COLLATERAL: u64 = 20;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct ChurnReport {
    /// What all was drawn from.
    pub seed: u64,
    /// Requests that were begun.
    pub asked: u64,
    /// Those that the service answered whole, with the right nonce.
    pub answered: u64,
    /// Those that the mesh answered, and said why.
    pub refused: BTreeMap<String, u64>,
    /// Those whose connection or stream broke.
    pub broken: u64,
    /// Those that the caller cut.
    pub cut: u64,
    /// Of the refused and the broken: sound on both sides, met by what was done to a connection that they shared.
    pub collateral: u64,
    /// Requests that the services read whole, and those that broke off there.
    pub served: (u64, u64),
    /// What must never be; 0.
    pub violations: u64,
    /// The first of them, in words; and what is held at the end that was not held at the beginning.
    pub told: Vec<String>,
    /// What the caller's agent held at rest: at the beginning, after half of all requests, after all.
    pub caller: [Held; 3],
    /// The same of the services' agent.
    pub server: [Held; 3],
    /// How long it took.
    pub took: Duration,
}

impl ChurnReport {
    pub(super) fn new(plan: &ChurnPlan, ledger: &Ledger, at: &[Census; 3], ended: Vec<String>, took: Duration) -> Self {
        let (mut violations, mut told) = ledger.violations();
        let mut further: Vec<String> = ended;
        further.extend(at[2].leaks(&at[0]));
        let (caller, server) = (at.each_ref().map(|census| census.caller), at.each_ref().map(|census| census.server));
        for (name, held) in [("caller", caller), ("server", server)] {
            let growth = held[2].resident.saturating_sub(held[1].resident);
            if growth > GROWTH {
                further.push(format!("the {name}'s agent grew by {growth} bytes in the second half of all requests"));
            }
        }
        let counted = |outcome| ledger.counted(outcome);
        let (asked, collateral) = (counted(Outcome::Asked), counted(Outcome::Collateral));
        if collateral > asked / COLLATERAL {
            further.push(format!("{collateral} of {asked} requests failed that nobody wished to fail"));
        }
        violations += further.len() as u64;
        told.extend(further);
        Self {
            seed: plan.seed,
            asked,
            answered: counted(Outcome::Answered),
            refused: ledger.codes(),
            broken: counted(Outcome::Broken),
            cut: counted(Outcome::Cut),
            collateral,
            served: (counted(Outcome::Served), counted(Outcome::Unserved)),
            violations,
            told,
            caller,
            server,
            took,
        }
    }

    /// Was all as it must be?
    pub const fn is_good(&self) -> bool {
        self.violations == 0
    }
}

impl fmt::Display for ChurnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, asked, answered, broken, cut, collateral, served, violations, took, .. } = self;
        let refused: u64 = self.refused.values().sum();
        writeln!(f, "{asked} requests in {:.0} s, seed {seed}", took.as_secs_f64())?;
        writeln!(f, "answered {answered}, refused {refused}, broken {broken}, cut by the caller {cut}")?;
        writeln!(f, "failed though neither side wished it: {collateral}")?;
        writeln!(f, "read by the services: {} whole, {} broken off", served.0, served.1)?;
        for (code, count) in &self.refused {
            writeln!(f, "  {code}: {count}")?;
        }
        for (name, held) in [("caller", &self.caller), ("server", &self.server)] {
            for (when, held) in ["at the beginning", "after half", "after all"].iter().zip(held) {
                let Held { descriptors, tasks, connections, in_flight, open_tcp, resident } = held;
                let mib = *resident as f64 / f64::from(1 << 20);
                writeln!(
                    f,
                    "{name}'s agent {when}: {descriptors} descriptors, {tasks} tasks, {connections} connections, \
                     {in_flight} in flight, {open_tcp} of TCP, {mib:.1} MiB"
                )?;
            }
        }
        writeln!(f, "violations: {violations}")?;
        self.told.iter().try_for_each(|what| writeln!(f, "  {what}"))
    }
}
