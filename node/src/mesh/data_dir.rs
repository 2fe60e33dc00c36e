//! What a node keeps on disk: its lock, its generation, and whom it knew. All of it is a hint on the next start, but for
//! the lock and for the generation never being used twice.
//!
//! | file | holds | written |
//! | --- | --- | --- |
//! | `lock` | nothing: it is locked while the node runs | once |
//! | `generation` | one line: format, generation, reserved `rejoin` | anew, synced and renamed, before first use |
//! | `members` | one line a member, the last one of each counts | appended; made short at start |
//! | `records` | values of the catalog as their owners signed them | appended; made short when half of it is stale |
//! | `keyring` | the group keys, a secret; the last statement about them counts | appended; made anew without a key that was removed |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use starling_gossip::Remembered;
use starling_proto::Generation;
use starling_proto::mesh::v1::{KeyringState, SignedValue};

use super::keyring_file::KeyringFile;
use super::members_file::MembersFile;
use super::records_file::RecordsFile;

const LOCK: &str = "lock";
const GENERATION: &str = "generation";
const MEMBERS: &str = "members";
const RECORDS: &str = "records";
const KEYRING: &str = "keyring";
/// What the generation file's line starts with.
const FORMAT: &str = "1";

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another node runs on it.
    #[error("{path} is in use by another node; give each node a node.data_dir of its own, or stop the other one")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("{path}: {source}; node.data_dir must be a directory that this user may write to")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub(super) struct DataDir {
    generation: Arc<GenerationFile>,
    members: MembersFile,
    records: RecordsFile,
    keyring: KeyringFile,
}

/// The file that holds the generation. It only ever rises, whoever writes first.
#[derive(Debug)]
pub(super) struct GenerationFile {
    path: PathBuf,
    written: Mutex<(Generation, u16)>,
    /// Held: the lock goes with the process, however it ends.
    _lock: File,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The generation and `rejoin` used or reserved last.
    pub(super) generation: Option<(Generation, u16)>,
    /// Members, as hints whom to dial. A damaged line is left out.
    pub(super) members: Vec<starling_gossip::RememberedMember>,
    /// Values of the catalog that others signed.
    pub(super) records: Vec<SignedValue>,
    /// Statements about the group keys with their keys, the newest last.
    pub(super) keys: Vec<KeyringState>,
    /// What could not be read, for the log.
    pub(super) damage: Vec<String>,
}

impl DataDir {
    /// Makes the directory if there is none, locks it and reads what is there.
    pub(super) fn open(path: &Path) -> Result<(Self, Found), DataDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(at(path))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(at(&lock_path)(source)),
        }
        let mut found = Found::default();
        let generation_path = path.join(GENERATION);
        match fs::read_to_string(&generation_path) {
            Ok(text) => match read_generation(&text) {
                Some(known) => found.generation = Some(known),
                None => found.damage.push(format!("{}: not a generation", generation_path.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                found.damage.push(format!("{}: {error}", generation_path.display()));
            }
            Err(source) => return Err(at(&generation_path)(source)),
        }
        let members_path = path.join(MEMBERS);
        let (members, known) = MembersFile::open(&members_path).map_err(at(&members_path))?;
        found.members = known;
        let records_path = path.join(RECORDS);
        let (records, values) = RecordsFile::open(&records_path).map_err(at(&records_path))?;
        found.records = values;
        let keyring_path = path.join(KEYRING);
        let (keyring, keys) = KeyringFile::open(&keyring_path).map_err(at(&keyring_path))?;
        found.keys = keys;
        let written = Mutex::new(found.generation.unwrap_or_default());
        let generation = Arc::new(GenerationFile { path: generation_path, written, _lock: lock });
        Ok((Self { generation, members, records, keyring }, found))
    }

    /// The file of the generation, which is also written while this is busy.
    pub(super) fn generation(&self) -> Arc<GenerationFile> {
        Arc::clone(&self.generation)
    }

    /// Writes what the engine wants remembered.
    pub(super) fn remember(&mut self, remembered: &Remembered) -> io::Result<()> {
        self.generation.raise(remembered.generation, remembered.rejoin)?;
        self.members.update(&remembered.members)
    }

    /// Writes which values the catalog has now.
    pub(super) fn remember_records(&mut self, values: &[SignedValue]) -> io::Result<()> {
        self.records.update(values)
    }

    /// Writes the group keys that count now.
    pub(super) fn remember_keys(&mut self, keys: &KeyringState) -> io::Result<()> {
        self.keyring.write(keys)
    }
}

impl GenerationFile {
    /// Writes the generation and how far `rejoin` is reserved, so that they survive whatever comes after this returns.
    pub(super) fn raise(&self, generation: Generation, rejoin: u16) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written < (generation, rejoin) {
            replace(&self.path, format!("{FORMAT} {generation} {rejoin}\n").as_bytes())?;
            *written = (generation, rejoin);
        }
        Ok(())
    }
}

fn read_generation(text: &str) -> Option<(Generation, u16)> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let (Some(FORMAT), Some(generation), Some(rejoin), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    Some((Generation(generation.parse().ok()?), rejoin.parse().ok()?))
}

/// Replaces a file as a whole: a reader, or a start after a crash, sees the old one or the new one.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace_as(path, contents, 0o644)
}

/// As [`replace`], of a file that only this node's user may read.
pub(super) fn replace_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace_as(path, contents, 0o600)
}

fn replace_as(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // What a crash left behind would keep its own mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// What stands in a file: nothing if there is none, or if it is longer than `most` bytes and so none of ours.
pub(super) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    match fs::metadata(path) {
        Ok(about) if about.len() > most => Ok(Vec::new()),
        Ok(_) => fs::read(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod killed;

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> (DataDir, Found) {
        DataDir::open(path).unwrap()
    }

    #[test]
    fn a_generation_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let (data, found) = open(dir.path());
        assert_eq!(found.generation, None);
        data.generation().raise(Generation(7), 16).unwrap();
        data.generation().raise(Generation(6), 99).unwrap();
        drop(data);
        assert_eq!(open(dir.path()).1.generation, Some((Generation(7), 16)));
    }

    #[test]
    fn a_second_node_on_one_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = open(dir.path());
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(refused.to_string().contains("in use by another node"), "{refused}");
        drop(first);
        open(dir.path());
    }

    #[test]
    fn a_damaged_generation_is_named_and_does_not_stop_the_node() {
        for damage in ["", "1 7", "1 7 0", "2 7 0\n", "1 -7 0\n", "1 7 0 0\n", "\u{0}"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(GENERATION), damage).unwrap();
            let (_, found) = open(dir.path());
            assert_eq!((found.generation, found.damage.len()), (None, 1), "{damage:?}");
        }
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("below")).unwrap_err().to_string();
        assert!(error.contains("node.data_dir"), "{error}");
    }
}
