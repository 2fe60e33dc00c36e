use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::ALLOCATOR;
use crate::corpus::Corpus;
use crate::mutator::mutate;
use crate::targets::{Run, Target};

/// When to end, and where from.
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) runs: u64,
    pub(crate) seed: u64,
}

/// What came of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was answered, this way.
    Well(u64),
    /// The target panicked: a bug, or something that should hold did not.
    Panic(String),
    /// It took more memory than it may, in bytes.
    Memory(usize),
}

/// How a run went.
pub(crate) struct Report {
    name: &'static str,
    seed: u64,
    runs: u64,
    took: Duration,
    /// The most that one input took, in bytes.
    memory: usize,
    /// Different answers.
    pub(crate) answers: usize,
    /// The input that broke something.
    pub(crate) broken: Option<(Vec<u8>, Verdict)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, seed, runs, took, memory, answers, broken } = self;
        let verdict = if broken.is_some() { "BROKEN" } else { "well" };
        let (seconds, kib) = (took.as_secs_f64(), memory >> 10);
        write!(
            f,
            "{name}: {verdict}, {runs} inputs in {seconds:.1} s, {answers} answers, {kib} KiB at most, seed {seed}"
        )
    }
}

/// Runs what the corpus holds, then mutations of it, to the first that breaks something.
pub(crate) fn run(target: &Target, corpus: &mut Corpus, limits: &Limits) -> Report {
    // What a panic says is in the report.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let report = run_quietly(target, corpus, limits);
    panic::set_hook(hook);
    report
}

fn run_quietly(target: &Target, corpus: &mut Corpus, limits: &Limits) -> Report {
    let start = Instant::now();
    let mut rng = StdRng::seed_from_u64(limits.seed);
    let mut run = (target.start)();
    let kept = corpus.inputs().to_vec();
    let mut report = Report {
        name: target.name,
        seed: limits.seed,
        runs: 0,
        took: Duration::ZERO,
        memory: 0,
        answers: 0,
        broken: None,
    };
    let mut kept = kept.into_iter();
    while report.runs < limits.runs && start.elapsed() < limits.time {
        let input = kept.next().unwrap_or_else(|| mutate(corpus.pick(&mut rng), corpus.pick(&mut rng), &mut rng));
        report.runs += 1;
        let (verdict, memory) = measured(target, &mut run, &input);
        report.memory = report.memory.max(memory);
        match verdict {
            Verdict::Well(answer) => drop(corpus.on_answer(&input, answer)),
            broken => {
                report.broken = Some((input, broken));
                break;
            }
        }
    }
    report.took = start.elapsed();
    report.answers = corpus.answers();
    report
}

/// Runs one input.
pub(crate) fn run_one(target: &Target, run: &mut Run, input: &[u8]) -> Verdict {
    measured(target, run, input).0
}

fn measured(target: &Target, run: &mut Run, input: &[u8]) -> (Verdict, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(input)));
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    let verdict = match outcome {
        Err(panic) => Verdict::Panic(words(&*panic)),
        Ok(_) if memory > target.memory => Verdict::Memory(memory),
        Ok(answer) => Verdict::Well(answer),
    };
    (verdict, memory)
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something".to_owned())
}
