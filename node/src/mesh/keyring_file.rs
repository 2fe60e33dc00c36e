//! The group keys that an administrator's statements gave this node, as a log: each record is a whole statement with its
//! keys, and the last one counts. It holds secrets, so only this node's user may read it, and no key stays in it for long
//! that was removed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use prost::Message as _;
use starling_gossip::log;
use starling_proto::mesh::v1::KeyringState;
use zeroize::Zeroizing;

use super::data_dir::replace_secret;

/// A file longer than this is none of ours: a record has less than half a kilobyte.
const MAX_FILE: u64 = 1 << 20;

/// The open file.
#[derive(Debug)]
pub(super) struct KeyringFile {
    path: PathBuf,
    file: File,
    /// Of what was written last.
    epochs: Vec<u32>,
}

impl KeyringFile {
    /// Opens the file, made anew if there is none, and reads what it holds, the newest last. A torn end is cut off.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<KeyringState>)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let mut bytes = Zeroizing::new(Vec::new());
        if file.metadata()?.len() <= MAX_FILE {
            file.read_to_end(&mut bytes)?;
        }
        let found = log::read(&bytes);
        let states: Vec<KeyringState> =
            found.payloads.iter().filter_map(|payload| KeyringState::decode(*payload).ok()).collect();
        let mut this = Self { path: path.to_owned(), file, epochs: states.last().map(epochs).unwrap_or_default() };
        if states.len() > 1 || found.whole as u64 != this.file.metadata()?.len() {
            this.rewrite(states.last())?;
        }
        Ok((this, states))
    }

    /// Writes what counts now, so that it survives whatever comes after this returns.
    pub(super) fn write(&mut self, state: &KeyringState) -> io::Result<()> {
        let now = epochs(state);
        if self.epochs.iter().all(|epoch| now.contains(epoch)) {
            self.file.write_all(&record(state)?)?;
            self.file.sync_data()?;
        } else {
            // A key was removed: it is not to be found on this disk any more.
            self.rewrite(Some(state))?;
        }
        self.epochs = now;
        Ok(())
    }

    fn rewrite(&mut self, state: Option<&KeyringState>) -> io::Result<()> {
        let bytes = state.map(record).transpose()?.unwrap_or_default();
        replace_secret(&self.path, &bytes)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }
}

fn epochs(state: &KeyringState) -> Vec<u32> {
    state.keys.iter().map(|key| key.epoch).collect()
}

fn record(state: &KeyringState) -> io::Result<Zeroizing<Vec<u8>>> {
    let payload = Zeroizing::new(state.encode_to_vec());
    log::record(&payload).map(Zeroizing::new).ok_or_else(|| io::Error::other("a statement that is too long"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use starling_proto::mesh::v1::{GroupKey, SignedKeyring};

    use super::*;

    /// Of revision `n`, with these epochs.
    fn state(n: u8, epochs: &[u32]) -> KeyringState {
        let signed = SignedKeyring { statement: vec![n; 80].into(), ..SignedKeyring::default() };
        let key = |epoch: &u32| GroupKey { epoch: *epoch, key: vec![u8::try_from(*epoch).unwrap(); 32].into() };
        KeyringState { signed: Some(signed), keys: epochs.iter().map(key).collect() }
    }

    fn open(path: &Path) -> (KeyringFile, Option<KeyringState>) {
        let (file, mut found) = KeyringFile::open(path).unwrap();
        (file, found.pop())
    }

    #[test]
    fn the_last_statement_is_found_again_and_only_its_user_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let (mut file, found) = open(&path);
        assert_eq!(found, None);
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        for (n, epochs) in [(1, &[1, 2][..]), (2, &[1, 2]), (3, &[2])] {
            file.write(&state(n, epochs)).unwrap();
            assert_eq!(mode(), 0o600);
        }
        assert_eq!(open(&path).1, Some(state(3, &[2])));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        open(&path);
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_key_that_was_removed_is_not_on_the_disk_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let mut file = open(&path).0;
        let holds = |byte: u8| fs::read(&path).unwrap().windows(32).any(|window| window == [byte; 32]);
        file.write(&state(1, &[7, 9])).unwrap();
        file.write(&state(2, &[7, 9])).unwrap();
        assert!(holds(7) && holds(9));
        file.write(&state(3, &[9])).unwrap();
        assert!(!holds(7) && holds(9));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_cut_off_or_damaged_at_any_byte_is_readable_and_can_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyring");
        let mut file = open(&path).0;
        file.write(&state(1, &[1, 2])).unwrap();
        let first = fs::read(&path).unwrap().len();
        file.write(&state(2, &[1, 2])).unwrap();
        let whole = fs::read(&path).unwrap();
        let check = |at: usize, bytes: &[u8], expected: Option<u8>| {
            fs::write(&path, bytes).unwrap();
            let (mut file, found) = open(&path);
            assert_eq!(found, expected.map(|n| state(n, &[1, 2])), "byte {at}");
            file.write(&state(9, &[1, 2])).unwrap();
            assert_eq!(open(&path).1, Some(state(9, &[1, 2])), "byte {at}");
        };
        for cut in 0..=whole.len() {
            let expected = if cut == whole.len() { Some(2) } else { (cut >= first).then_some(1) };
            check(cut, &whole[..cut], expected);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            check(at, &damaged, (at >= first).then_some(1));
        }
    }
}
