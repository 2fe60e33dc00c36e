use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::fingerprint;

/// The most inputs that are mutated further.
const MOST: usize = 4_096;
/// The most that are kept in the repository, smallest first.
const KEPT: usize = 64;
/// None longer than this is kept there, in bytes.
const KEPT_LEN: usize = 4_096;

/// Inputs that each made a target answer as none before did.
pub(crate) struct Corpus {
    directory: PathBuf,
    inputs: Vec<Vec<u8>>,
    /// The shortest input of each answer.
    answers: BTreeMap<u64, usize>,
}

impl Corpus {
    /// What is kept in a directory, if there is one, and the seeds that the target makes itself.
    pub(crate) fn load(directory: &Path, seeds: &[Vec<u8>]) -> io::Result<Self> {
        let mut inputs = seeds.to_vec();
        match fs::read_dir(directory) {
            Ok(entries) => {
                let mut paths: Vec<_> =
                    entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
                paths.sort();
                for path in paths {
                    inputs.push(fs::read(path)?);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self { directory: directory.to_owned(), inputs, answers: BTreeMap::new() })
    }

    /// What it began with.
    pub(crate) fn inputs(&self) -> &[Vec<u8>] {
        &self.inputs
    }

    /// Some input.
    pub(crate) fn pick(&self, rng: &mut impl Rng) -> &[u8] {
        self.inputs.choose(rng).map_or(&[], |input| input)
    }

    /// Takes note of what came of an input. True if no other answered so.
    pub(crate) fn on_answer(&mut self, input: &[u8], answer: u64) -> bool {
        match self.answers.get(&answer) {
            Some(known) if self.inputs[*known].len() <= input.len() => false,
            Some(known) => {
                self.inputs[*known] = input.to_vec();
                false
            }
            None if self.inputs.len() < MOST => {
                self.answers.insert(answer, self.inputs.len());
                self.inputs.push(input.to_vec());
                true
            }
            None => false,
        }
    }

    /// How many different answers there were.
    pub(crate) fn answers(&self) -> usize {
        self.answers.len()
    }

    /// Writes the shortest inputs, one for each answer, in place of what was kept before.
    pub(crate) fn save(&self) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        for entry in fs::read_dir(&self.directory)? {
            fs::remove_file(entry?.path())?;
        }
        let mut kept: Vec<&Vec<u8>> = self.answers.values().map(|at| &self.inputs[*at]).collect();
        kept.retain(|input| input.len() <= KEPT_LEN);
        kept.sort_by_key(|input| input.len());
        for input in kept.into_iter().take(KEPT) {
            fs::write(self.directory.join(fingerprint::of(input)), input)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_answer_the_shortest_input_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut corpus = Corpus::load(directory.path(), &[]).unwrap();
        assert!(corpus.on_answer(b"long", 1));
        assert!(!corpus.on_answer(b"s", 1));
        assert!(corpus.on_answer(b"other", 2));
        corpus.save().unwrap();
        let again = Corpus::load(directory.path(), &[b"seed".to_vec()]).unwrap();
        let mut inputs = again.inputs().to_vec();
        inputs.sort();
        assert_eq!(inputs, [b"other".to_vec(), b"s".to_vec(), b"seed".to_vec()]);
    }
}
