use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Key, Place, Problem};
use super::raw::{Raw, Table, Value};
use super::read::Wrong;
use super::schema;

/// Collects what is wrong and where each key stands, while a configuration is read.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where a key stands that nobody wrote: its default is meant.
    fallback: Place,
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeMap<String, Key>>,
}

impl Ledger {
    pub(super) fn new(fallback: Place) -> Self {
        Self { fallback, problems: RefCell::default(), keys: RefCell::default() }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The key of a section that stands once, written or not.
    pub(super) fn key(&self, path: &str) -> Key {
        let known = self.keys.borrow().get(path).cloned();
        known.unwrap_or_else(|| Key { path: path.to_owned(), place: self.fallback.clone() })
    }

    /// The problems in the order of the sources, and the keys that were written.
    pub(super) fn close(self) -> (Vec<Problem>, BTreeMap<String, Key>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        problems.dedup();
        (problems, self.keys.into_inner())
    }
}

/// One section while it is read: what is taken is known, what is left at the end is an error.
pub(super) struct Section<'a> {
    ledger: &'a Ledger,
    schema: &'static schema::Section,
    path: String,
    place: Place,
    table: Table,
}

/// A value with its key.
pub(super) struct Keyed<T> {
    pub(super) key: Key,
    pub(super) value: T,
}

impl<'a> Section<'a> {
    /// The section `[name]`; empty if nobody wrote it.
    pub(super) fn open(ledger: &'a Ledger, root: &mut Table, name: &'static str) -> Self {
        let section = |place, table| Self { ledger, schema: known(name), path: name.to_owned(), place, table };
        match root.remove(name) {
            None => section(ledger.fallback.clone(), Table::new()),
            Some(Raw { place, value: Value::Table(table), .. }) => section(place, table),
            Some(raw) => {
                let what = format!("expected a section, found {}", raw.value.kind());
                let key = Key { path: name.to_owned(), place: raw.place };
                ledger.report(key.problem(what, format!("write [{name}] and its keys in the lines below it")));
                section(key.place, Table::new())
            }
        }
    }

    /// All sections `[[name]]`, in the order of the files.
    pub(super) fn open_all(ledger: &'a Ledger, root: &mut Table, name: &'static str) -> Vec<Self> {
        let hint = || format!("write [[{name}]] and its keys in the lines below it");
        let not_a_list = |raw: Raw| {
            let key = Key { path: name.to_owned(), place: raw.place };
            ledger.report(key.problem(format!("expected [[{name}]], found {}", raw.value.kind()), hint()));
            Vec::new()
        };
        let word = name.rsplit('.').next().unwrap_or(name);
        let list = match root.remove(word) {
            None => Vec::new(),
            Some(Raw { value: Value::List(list), .. }) => list,
            Some(raw) => not_a_list(raw),
        };
        let section = |raw: Raw| {
            let path = format!("{name}[{}]", raw.index);
            match raw.value {
                Value::Table(table) => Some(Self { ledger, schema: known(name), path, place: raw.place, table }),
                other => {
                    let key = Key { path, place: raw.place };
                    ledger.report(key.problem(format!("expected a section, found {}", other.kind()), hint()));
                    None
                }
            }
        };
        list.into_iter().filter_map(section).collect()
    }

    /// All sections `[[outer.name]]` of this one, `outer` being its own name.
    pub(super) fn open_within(&mut self, name: &'static str) -> Vec<Self> {
        Self::open_all(self.ledger, &mut self.table, name)
    }

    /// Where problems are told.
    pub(super) const fn ledger(&self) -> &'a Ledger {
        self.ledger
    }

    /// Takes a key; `None` if nobody wrote it or if it is wrong (which is then reported).
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Raw) -> Result<T, Wrong>,
    ) -> Option<Keyed<T>> {
        debug_assert!(self.schema.keys.contains(&key), "{key} stands in no schema");
        let raw = self.table.remove(key)?;
        let key = Key { path: format!("{}.{key}", self.path), place: raw.place.clone() };
        self.ledger.keys.borrow_mut().insert(key.path.clone(), key.clone());
        match read(&raw) {
            Ok(value) => Some(Keyed { key, value }),
            Err(Wrong { what, hint }) => {
                self.ledger.report(key.problem(what, hint));
                None
            }
        }
    }

    /// Takes a key or its default.
    pub(super) fn or<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(&Raw) -> Result<T, Wrong>) -> T {
        self.take(key, read).map_or(default, |keyed| keyed.value)
    }

    /// Takes a key that must be there; `None` if it is absent or wrong (which is then reported).
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        read: impl FnOnce(&Raw) -> Result<T, Wrong>,
    ) -> Option<Keyed<T>> {
        if !self.table.contains_key(key) {
            // What nearly bears the name is reported as unknown, with the right name: once is enough.
            let meant = self.table.keys().any(|word| schema::nearest(word, [key]).is_some());
            if !meant {
                self.ledger.report(self.key(key).problem("is missing", hint));
            }
        }
        self.take(key, read)
    }

    /// The tables of a key, whose names and keys stand in the schema under `schema`.
    pub(super) fn take_all(&mut self, key: &'static str, schema: &'static str) -> Vec<Self> {
        let path = format!("{}.{key}", self.path);
        let Some(raw) = self.table.remove(key) else { return Vec::new() };
        let wrong = |place: Place, path: String, found: &Value| {
            let what = format!("expected a list of tables, found {}", found.kind());
            let hint = format!("write [[{schema}]], or {key} = [{{ {} = … }}]", known(schema).keys.join(" = …, "));
            self.ledger.report(Key { path, place }.problem(what, hint));
        };
        let Value::List(list) = raw.value else {
            wrong(raw.place, path, &raw.value);
            return Vec::new();
        };
        let section = |raw: Raw| {
            let path = format!("{path}[{}]", raw.index);
            let Value::Table(table) = raw.value else {
                wrong(raw.place, path, &raw.value);
                return None;
            };
            Some(Self { ledger: self.ledger, schema: known(schema), path, place: raw.place, table })
        };
        list.into_iter().filter_map(section).collect()
    }

    /// A key of this section, at the section's place.
    pub(super) fn key(&self, key: &str) -> Key {
        Key { path: format!("{}.{key}", self.path), place: self.place.clone() }
    }

    /// Reports what nobody took.
    pub(super) fn close(self) {
        for (word, raw) in &self.table {
            let key = Key { path: format!("{}.{word}", self.path), place: raw.place.clone() };
            if self.schema.later.contains(&word.as_str()) {
                self.ledger.report(key.problem("is not supported yet by this version", "leave it out"));
            } else {
                let hint = self.hint(word);
                self.ledger.report(key.problem("unknown key", hint));
            }
        }
    }

    fn hint(&self, word: &str) -> String {
        let free: BTreeSet<&str> = self.schema.keys.iter().copied().collect();
        if let Some(meant) = schema::nearest(word, free) {
            return format!("did you mean '{meant}'?");
        }
        let elsewhere = schema::SECTIONS.iter().find(|section| section.keys.contains(&word));
        match elsewhere {
            Some(schema::Section { name, repeated: false, .. }) => format!("did you mean {name}.{word}?"),
            _ => format!("known here: {}", self.schema.keys.join(", ")),
        }
    }
}

fn known(name: &'static str) -> &'static schema::Section {
    schema::section(name).unwrap_or(const { &schema::Section { name: "", repeated: false, keys: &[], later: &[] } })
}

/// Reports the sections that nobody opened.
pub(super) fn close_root(ledger: &Ledger, root: &Table) {
    for (word, raw) in root {
        let names = schema::SECTIONS.iter().map(|section| section.name).filter(|name| !name.contains('.'));
        let hint = if let Some(meant) = schema::nearest(word, names.clone()) {
            let repeated = schema::section(meant).is_some_and(|section| section.repeated);
            if repeated { format!("did you mean [[{meant}]]?") } else { format!("did you mean [{meant}]?") }
        } else if let Some(home) = schema::SECTIONS.iter().find(|section| section.keys.contains(&word.as_str())) {
            format!("did you mean {}.{word}?", home.name)
        } else {
            format!("known here: {}", names.collect::<Vec<_>>().join(", "))
        };
        let what = if matches!(raw.value, Value::Table(_)) { "unknown section" } else { "unknown key" };
        ledger.report(Key { path: word.clone(), place: raw.place.clone() }.problem(what, hint));
    }
}
