use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::scenario::Bound;

/// What a scenario showed.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Of which scenario.
    pub scenario: String,
    /// Of how many nodes.
    pub nodes: usize,
    /// The seed of the first run.
    pub seed: u64,
    /// How many runs.
    pub runs: u64,
    /// A hash over all packets, views and events, of each run: one hash, one run.
    pub traces: Vec<String>,
    /// Figures by name. `null` is never: it did not come about.
    pub figures: BTreeMap<String, Option<f64>>,
    /// What it cost this machine, engines and simulator together. Not a function of the seed.
    pub cost: BTreeMap<String, f64>,
    /// The bounds, and whether they hold.
    pub bounds: Vec<Verdict>,
}

/// A bound, and whether it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The figure.
    pub figure: String,
    /// Its value.
    pub value: Option<f64>,
    /// In words.
    pub bound: String,
    /// Does it hold?
    pub good: bool,
}

impl Report {
    /// Do all bounds hold?
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bounds.iter().all(|verdict| verdict.good)
    }

    pub(super) fn judge(&mut self, bounds: &[Bound]) {
        self.bounds = bounds.iter().map(|bound| self.verdict(bound)).collect();
    }

    fn verdict(&self, bound: &Bound) -> Verdict {
        let cost = self.cost.get(&bound.figure).copied();
        let value = self.figures.get(&bound.figure).copied().flatten().or(cost);
        let most = bound.most.map(|most| (value.is_some_and(|value| value <= most), format!("at most {most}")));
        let least = bound.least.map(|least| (value.is_some_and(|value| value >= least), format!("at least {least}")));
        let parts: Vec<_> = most.into_iter().chain(least).collect();
        Verdict {
            figure: bound.figure.clone(),
            value,
            bound: parts.iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>().join(", "),
            good: parts.iter().all(|(good, _)| *good),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, nodes, seed, runs, traces, .. } = self;
        writeln!(f, "{scenario}: {nodes} nodes, seed {seed}, {runs} runs, trace {}", traces.join(" "))?;
        for (name, value) in &self.figures {
            writeln!(f, "  {name:<44} {:>12}", Figure(*value))?;
        }
        for (name, value) in &self.cost {
            writeln!(f, "  {name:<44} {:>12}", Figure(Some(*value)))?;
        }
        for Verdict { figure, value, bound, good } in &self.bounds {
            let verdict = if *good { "ok" } else { "MISSED" };
            writeln!(f, "{figure:<46} {:>12}   {bound:<22} {verdict}", Figure(*value))?;
        }
        Ok(())
    }
}

struct Figure(Option<f64>);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            None => "never".to_owned(),
            Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
            Some(value) => format!("{value:.3}"),
        };
        f.pad(&text)
    }
}

/// What was measured, put together over runs.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Told by their percentiles.
    spreads: BTreeMap<String, Vec<f64>>,
    /// Added up over the runs.
    sums: BTreeMap<String, f64>,
    /// The worst of the runs counts; `None` is worse than any.
    worst: BTreeMap<String, Option<f64>>,
}

impl Samples {
    pub(super) fn spread(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        self.spreads.entry(name.to_owned()).or_default().extend(values);
    }

    pub(super) fn sum(&mut self, name: &str, value: f64) {
        *self.sums.entry(name.to_owned()).or_default() += value;
    }

    pub(super) fn worst(&mut self, name: &str, value: Option<f64>) {
        let entry = self.worst.entry(name.to_owned()).or_insert(value);
        *entry = entry.zip(value).map(|(one, other)| one.max(other));
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, values) in other.spreads {
            self.spread(&name, values);
        }
        for (name, value) in other.sums {
            self.sum(&name, value);
        }
        for (name, value) in other.worst {
            self.worst(&name, value);
        }
    }

    pub(super) fn figures(&self) -> BTreeMap<String, Option<f64>> {
        let mut figures = self.worst.clone();
        figures.extend(self.sums.iter().map(|(name, value)| (name.clone(), Some(*value))));
        for (name, values) in &self.spreads {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            for (what, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
                figures.insert(format!("{name}.{what}"), percentile(&sorted, percent));
            }
            figures.insert(format!("{name}.count"), Some(sorted.len() as f64));
        }
        figures
    }
}

/// The smallest value that at least that share of all don't exceed (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied().filter(|value| value.is_finite())
}
