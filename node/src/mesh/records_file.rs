//! The catalog's values of other nodes, as a log: each record is one value as its owner signed it, or the key of one that is
//! gone. They are hints: on the next start a value counts once its owner is there and still in the same boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use starling_gossip::log;
use starling_proto::NodeId;
use starling_proto::mesh::v1::SignedValue;

use super::data_dir::{read_at_most, replace};

/// A file longer than this is none of ours: 500 nodes with all that each may have are less than half of it.
const MAX_FILE: u64 = 80 << 20;
/// Bytes of stale records that are not worth a new file.
const SLACK: u64 = 64 << 10;

/// Of which value a record is.
type Name = (NodeId, String);

/// One record. Protobuf, so that a newer version may add to it.
#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(message, optional, tag = "1")]
    value: Option<SignedValue>,
    /// Set where there is no value: what is gone.
    #[prost(bytes = "bytes", tag = "2")]
    owner: Bytes,
    #[prost(string, tag = "3")]
    key: String,
}

/// The open file, and what stands in it.
#[derive(Debug)]
pub(super) struct RecordsFile {
    path: PathBuf,
    file: File,
    /// By its signature and length, which tell two values of one key apart.
    written: BTreeMap<Name, (Bytes, u64)>,
    length: u64,
}

impl RecordsFile {
    /// Opens the file, made anew if there is none, and reads the values in it. A torn end is cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<SignedValue>)> {
        let bytes = read_at_most(path, MAX_FILE)?;
        let found = log::read(&bytes);
        let mut values: BTreeMap<Name, SignedValue> = BTreeMap::new();
        for kept in found.payloads.iter().filter_map(|payload| Kept::decode(*payload).ok()) {
            match kept.value {
                Some(value) => drop(name_of(&value).map(|name| values.insert(name, value))),
                None => drop(NodeId::try_from(&kept.owner[..]).ok().map(|owner| values.remove(&(owner, kept.key)))),
            }
        }
        let values: Vec<SignedValue> = values.into_values().collect();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let length = file.metadata()?.len();
        let mut this = Self { path: path.to_owned(), file, written: BTreeMap::new(), length };
        this.note(&values);
        if found.whole as u64 != length || this.is_stale() {
            this.rewrite(&values)?;
        }
        Ok((this, values))
    }

    /// Appends what changed. Not synced: what a crash of the host loses is learnt again.
    pub(super) fn update(&mut self, values: &[SignedValue]) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut now = BTreeSet::new();
        for value in values {
            let Some(name) = name_of(value) else { continue };
            let same = self.written.get(&name).is_some_and(|(signature, _)| *signature == value.signature);
            if !same {
                lines.extend(record(value));
            }
            now.insert(name);
        }
        for (owner, key) in self.written.keys().filter(|name| !now.contains(*name)) {
            let gone = Kept { value: None, owner: owner.to_bytes(), key: key.clone() };
            lines.extend(log::record(&gone.encode_to_vec()).unwrap_or_default());
        }
        self.note(values);
        self.length += lines.len() as u64;
        if self.is_stale() {
            return self.rewrite(values);
        }
        if lines.is_empty() { Ok(()) } else { self.file.write_all(&lines) }
    }

    fn note(&mut self, values: &[SignedValue]) {
        // Copies of their own: a signature must not keep the whole message it came in alive.
        let noted = |value: &SignedValue| {
            let signature = Bytes::copy_from_slice(&value.signature);
            Some((name_of(value)?, (signature, record(value).len() as u64)))
        };
        self.written = values.iter().filter_map(noted).collect();
    }

    /// Is more of the file of no use than of use?
    fn is_stale(&self) -> bool {
        let live: u64 = self.written.values().map(|(_, length)| length).sum();
        self.length > 2 * live + SLACK
    }

    fn rewrite(&mut self, values: &[SignedValue]) -> io::Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(record).collect();
        replace(&self.path, &bytes)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.length = bytes.len() as u64;
        Ok(())
    }
}

fn name_of(value: &SignedValue) -> Option<Name> {
    Some((NodeId::try_from(&value.owner[..]).ok()?, value.key.clone()))
}

fn record(value: &SignedValue) -> Vec<u8> {
    let kept = Kept { value: Some(value.clone()), ..Kept::default() };
    log::record(&kept.encode_to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn value(owner: u8, key: &str, sequence: u64) -> SignedValue {
        SignedValue {
            owner: NodeId::from_bytes([owner; 16]).to_bytes(),
            generation: 1,
            key: key.to_owned(),
            version: sequence,
            sequence,
            withdrawn: false,
            body: vec![owner; 50].into(),
            signature: sequence.to_be_bytes().repeat(8).into(),
        }
    }

    fn open(path: &Path) -> (RecordsFile, Vec<SignedValue>) {
        RecordsFile::open(path).unwrap()
    }

    #[test]
    fn values_are_found_again_and_only_changes_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let length = || fs::metadata(&path).unwrap().len();
        let (mut file, found) = open(&path);
        assert_eq!(found, []);
        file.update(&[value(1, "a", 1), value(1, "b", 2), value(2, "a", 1)]).unwrap();
        let before = length();
        file.update(&[value(1, "a", 1), value(1, "b", 2), value(2, "a", 1)]).unwrap();
        assert_eq!(length(), before);
        file.update(&[value(1, "b", 3), value(2, "a", 1)]).unwrap();
        assert!(length() < before * 2);
        assert_eq!(open(&path).1, [value(1, "b", 3), value(2, "a", 1)]);
    }

    #[test]
    fn a_file_cut_off_at_any_byte_is_readable_and_can_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut file = open(&path).0;
        file.update(&[value(1, "a", 1)]).unwrap();
        let first = fs::read(&path).unwrap().len();
        file.update(&[value(1, "a", 2), value(2, "a", 1)]).unwrap();
        let second = first + record(&value(1, "a", 2)).len();
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut file, found) = open(&path);
            let expected = match cut {
                cut if cut < first => vec![],
                cut if cut < second => vec![value(1, "a", 1)],
                cut if cut < whole.len() => vec![value(1, "a", 2)],
                _ => vec![value(1, "a", 2), value(2, "a", 1)],
            };
            assert_eq!(found, expected, "cut at {cut}");
            file.update(&[value(3, "c", 1)]).unwrap();
            assert_eq!(open(&path).1, [value(3, "c", 1)], "cut at {cut}");
        }
    }

    #[test]
    fn a_file_of_mostly_stale_values_is_made_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let mut file = open(&path).0;
        for sequence in 0..2_000 {
            file.update(&[value(1, "a", sequence)]).unwrap();
            assert!(fs::metadata(&path).unwrap().len() < SLACK + 1_000);
        }
        assert_eq!(open(&path).1, [value(1, "a", 1_999)]);
    }

    #[test]
    fn what_is_no_record_of_ours_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let odd = Kept { value: Some(SignedValue { owner: vec![1, 2].into(), ..value(1, "a", 1) }), ..Kept::default() };
        let good = record(&value(1, "a", 1));
        let log = [log::record(&odd.encode_to_vec()).unwrap(), log::record(b"\xff").unwrap(), good].concat();
        fs::write(&path, [&log, &b"\xff\xff\xff\xff and more"[..]].concat()).unwrap();
        assert_eq!(open(&path).1, [value(1, "a", 1)]);
    }
}
