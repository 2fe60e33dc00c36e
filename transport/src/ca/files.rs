//! Key files: written whole or not at all, readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {source}; {hint}", .path.display())]
pub struct FileError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
    hint: &'static str,
}

impl FileError {
    pub(super) fn new(verb: &'static str, path: &Path, source: io::Error) -> Self {
        let hint = match (source.kind(), verb) {
            (io::ErrorKind::NotFound, "read") => "is this the right directory? `starling ca issue --out DIR` fills one",
            (io::ErrorKind::PermissionDenied, _) => "run as the user it belongs to",
            (io::ErrorKind::AlreadyExists, _) => "remove it first, or choose another directory",
            _ => "check the path and the disk",
        };
        Self { verb, path: path.to_owned(), source, hint }
    }
}

/// May others read a file?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// Mode 0600.
    Yes,
    /// Mode 0644.
    No,
}

/// Makes a directory that only its owner enters, if it is not there.
pub(super) fn directory(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| FileError::new("make", path, error))
}

/// The most a file of keys or certificates may have, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads a text file of keys or certificates.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|error| FileError::new("read", path, error))?;
    Ok(text)
}

/// Writes a file, or replaces it: a crash leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str, secret: Secret) -> Result<(), FileError> {
    put(path, text, secret, |temporary| fs::rename(temporary, path))
}

/// Writes a file that must not be there: of several that try at once, one succeeds.
pub(super) fn create(path: &Path, text: &str, secret: Secret) -> Result<(), FileError> {
    // Unlike a rename, this fails if the name is taken.
    put(path, text, secret, |temporary| fs::hard_link(temporary, path).and_then(|()| fs::remove_file(temporary)))
}

/// Writes under a temporary name that nobody else uses, then lets `name` give it its own.
fn put(path: &Path, text: &str, secret: Secret, name: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), FileError> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let file = path.file_name().unwrap_or_default().display();
    let temporary = path.with_file_name(format!(".{file}.{}-{number}.new", std::process::id()));
    let mode = if secret == Secret::Yes { 0o600 } else { 0o644 };
    let written = || {
        // A leftover of a crash would keep its own mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        name(&temporary)
    };
    written().map_err(|error| {
        // What is left of it may hold a secret.
        let _ = fs::remove_file(&temporary);
        FileError::new("write", path, error)
    })
}
