//! What is fuzzed. Each target answers an input with a number; answers that differ show that it went another way.

mod chitchat;
mod envelope;
mod member;
mod notice;
mod people;
mod record;
mod swim;

/// Runs one input and gives the answer's number. Panics where something that should hold does not.
pub(crate) type Run = Box<dyn FnMut(&[u8]) -> u64>;

/// One thing that is fuzzed.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The most memory that one input may take while it is looked at, in bytes.
    pub(crate) memory: usize,
    /// A short run that finds fewer different answers tries nothing.
    #[cfg_attr(not(test), allow(dead_code, reason = "a bound of tests"))]
    pub(crate) least_answers: usize,
    /// Good inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    pub(crate) start: fn() -> Run,
}

pub(crate) fn all() -> Vec<Target> {
    vec![envelope::target(), swim::target(), notice::target(), record::target(), chitchat::target(), member::target()]
}
