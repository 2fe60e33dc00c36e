use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{ConfigError, Key, Place, Problem, Source};
use super::raw::{self, RawConfig, Table};
use super::{default, schema};

/// Larger than any sensible configuration, small enough to read at once.
const FILE_LIMIT: u64 = 1 << 20;
const PREFIX: &str = "STARLING_";
/// What the command line itself reads from the environment.
const COMMAND_LINE: [&str; 2] = ["ADMIN", "CONFIG"];

/// What a configuration is read from, in the order in which it counts: the later wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// The main file; [`default::FILE`] if none is named. `conf.d/*.toml` beside it follow in the order of their names.
    pub file: Option<PathBuf>,
    /// Variables `STARLING_<SECTION>_<KEY>`, such as `STARLING_NODE_DATA_DIR`; others are skipped.
    pub env: Vec<(String, String)>,
    /// `section.key=value`.
    pub set: Vec<String>,
}

impl Sources {
    /// What this process was given; a variable that is no Unicode is skipped.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, env: std::env::vars_os().filter_map(unicode).collect(), set }
    }

    fn main_file(&self) -> Arc<Path> {
        self.file.as_deref().unwrap_or(Path::new(default::FILE)).into()
    }

    /// The main file, where keys belong that nobody wrote.
    pub(super) fn main_place(&self) -> Place {
        Place { source: Source::File(self.main_file()), line: None }
    }

    /// Reads them all; gives the variables and flags that name no key, too.
    ///
    /// # Errors
    /// All files that cannot be read, all that is no TOML, and with them those variables and flags: what such a file
    /// sets is not known, so that nothing can be said of the rest.
    pub(super) fn read(&self) -> Result<(RawConfig, Vec<Problem>), ConfigError> {
        let mut raw = RawConfig::default();
        let mut problems = Vec::new();
        let main = self.main_file();
        let optional = self.file.is_none() && (self.names_a_key() || !self.set.is_empty());
        let files = std::iter::once((Arc::clone(&main), optional))
            .chain(fragments(&main, &mut problems).into_iter().map(|path| (path, false)));
        for (path, optional) in files {
            match read_file(&path, optional) {
                Ok(table) => raw.merge(table),
                Err(errors) => problems.extend(errors),
            }
        }
        let is_whole = problems.is_empty();
        for (name, value) in &self.env {
            match variable(name, value) {
                Ok(Some(key)) => raw.set(key, Source::Env(name.as_str().into()), value),
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        for text in &self.set {
            match flag(text) {
                Ok((key, value)) => raw.set(key, Source::Flag, value),
                Err(problem) => problems.push(problem),
            }
        }
        if is_whole {
            return Ok((raw, problems));
        }
        ConfigError::check(problems).map(|()| (raw, Vec::new()))
    }

    fn names_a_key(&self) -> bool {
        self.env.iter().any(|(name, value)| matches!(variable(name, value), Ok(Some(_))))
    }
}

/// `conf.d/*.toml` beside the main file.
fn fragments(main: &Path, problems: &mut Vec<Problem>) -> Vec<Arc<Path>> {
    let dir = main.with_file_name("conf.d");
    let listing = std::fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut paths: Vec<Arc<Path>> = match listing {
        Ok(entries) => entries.into_iter().map(|entry| entry.path().into()).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        Err(error) => {
            problems.push(unreadable(&dir.into(), &error));
            Vec::new()
        }
    };
    let hidden = |path: &Path| path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !hidden(path));
    paths.sort();
    paths
}

fn unreadable(path: &Arc<Path>, error: &std::io::Error) -> Problem {
    let hint = match error.kind() {
        ErrorKind::NotFound => "name the file with -c FILE; `starling demo` needs none",
        ErrorKind::PermissionDenied => "let the user that runs the agent read it",
        _ => "",
    };
    let place = Place { source: Source::File(Arc::clone(path)), line: None };
    Key { path: String::new(), place }.problem(format!("cannot be read: {error}"), hint)
}

fn read_file(path: &Arc<Path>, optional: bool) -> Result<Table, Vec<Problem>> {
    let text = std::fs::metadata(path).and_then(|metadata| {
        if metadata.len() > FILE_LIMIT {
            return Err(std::io::Error::other(format!("it has more than {FILE_LIMIT} bytes")));
        }
        std::fs::read_to_string(path)
    });
    match text {
        Ok(text) => raw::parse(path, &text),
        Err(error) if optional && error.kind() == ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(vec![unreadable(path, &error)]),
    }
}

/// The key that a variable sets; `None` for one that is not meant for the configuration.
fn variable(name: &str, value: &str) -> Result<Option<(&'static str, &'static str)>, Problem> {
    let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !COMMAND_LINE.contains(rest)) else {
        return Ok(None);
    };
    let lower = rest.to_ascii_lowercase();
    let (section, key) = lower.split_once('_').unwrap_or((&lower, ""));
    if schema::nearest(section, schema::SECTIONS.iter().map(|section| section.name)).is_none() {
        // `STARLING_BIN` of a test, `STARLING_…` of a neighbour: nobody meant a section by it.
        return Ok(None);
    }
    match known(section, key) {
        Ok(found) => Ok(Some(found)),
        Err(_) if is_service_link(name, value) => Ok(None),
        Err((what, hint)) => {
            let place = Place { source: Source::Env(name.into()), line: None };
            Err(Key { path: String::new(), place }.problem(what, hint))
        }
    }
}

/// Kubernetes sets such variables in every pod of a namespace with a service `starling` or `starling-…`.
fn is_service_link(name: &str, value: &str) -> bool {
    let numbered = name.split("_PORT_").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
        || numbered
}

fn flag(text: &str) -> Result<((&'static str, &'static str), &str), Problem> {
    let key = Key { path: String::new(), place: Place { source: Source::Flag, line: None } };
    let shape = || key.problem(format!("'{text}' is not KEY=VALUE"), "write --set node.zone=eu-1a");
    let (path, value) = text.split_once('=').ok_or_else(shape)?;
    let (section, word) = path.split_once('.').ok_or_else(shape)?;
    known(section, word).map(|found| (found, value)).map_err(|(what, hint)| key.problem(what, hint))
}

/// The key of a section that stands once, or what is wrong and a hint.
fn known(section: &str, word: &str) -> Result<(&'static str, &'static str), (String, String)> {
    let once = || schema::SECTIONS.iter().filter(|section| !section.repeated);
    let Some(found) = schema::section(section) else {
        let meant = schema::nearest(section, once().map(|section| section.name));
        let all = || format!("sections: {}", once().map(|section| section.name).collect::<Vec<_>>().join(", "));
        return Err((
            format!("no section is called '{section}'"),
            meant.map_or_else(all, |meant| format!("did you mean '{meant}'?")),
        ));
    };
    if found.repeated {
        let hint = "write it into a file, for example beside the main one in conf.d/";
        return Err((format!("a [[{section}]] cannot be set here"), hint.to_owned()));
    }
    if let Some(key) = found.keys.iter().find(|key| **key == word) {
        return Ok((found.name, key));
    }
    if found.later.contains(&word) {
        return Err((format!("{section}.{word} is not supported yet by this version"), "leave it out".to_owned()));
    }
    let meant = schema::nearest(word, found.keys.iter().copied());
    let all = || format!("keys of {section}: {}", found.keys.join(", "));
    Err((format!("{section} has no key '{word}'"), meant.map_or_else(all, |meant| format!("did you mean '{meant}'?"))))
}
