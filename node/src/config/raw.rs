use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Source};

/// A value as someone wrote it, with where it stands. Nothing is checked but the syntax.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) place: Place,
    /// The number among the elements of its array in its file; 0 for what is no element.
    pub(super) index: usize,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date,
    List(Vec<Raw>),
    Table(Table),
}

pub(super) type Table = BTreeMap<String, Raw>;

impl Value {
    /// What it is, for a sentence such as "expected text, found a number".
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// What the files, the environment and the flags say together, each value with where it stands: a later source wins,
/// `[[…]]` tables add up. [`Config`](super::Config) is built out of it or not at all.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    pub(super) table: Table,
}

impl RawConfig {
    /// Lays what `over` says over what is known.
    pub(super) fn merge(&mut self, over: Table) {
        merge(&mut self.table, over);
    }

    /// Sets one key; `keys` are its section and its name.
    pub(super) fn set(&mut self, (section, key): (&str, &str), source: Source, text: &str) {
        let place = Place { source, line: None };
        let value = Raw { place: place.clone(), index: 0, value: Value::Text(text.to_owned()) };
        let table = Value::Table(Table::from([(key.to_owned(), value)]));
        self.merge(Table::from([(section.to_owned(), Raw { place, index: 0, value: table })]));
    }
}

fn merge(under: &mut Table, over: Table) {
    for (key, raw) in over {
        match (under.get_mut(&key).map(|known| &mut known.value), raw) {
            (Some(Value::Table(known)), Raw { value: Value::Table(new), .. }) => merge(known, new),
            (Some(Value::List(known)), Raw { value: Value::List(new), .. }) if is_tables(known) && is_tables(&new) => {
                known.extend(new);
            }
            (_, raw) => {
                under.insert(key, raw);
            }
        }
    }
}

fn is_tables(list: &[Raw]) -> bool {
    list.iter().all(|raw| matches!(raw.value, Value::Table(_)))
}

/// Reads a TOML file's text.
///
/// # Errors
/// All places where it is no TOML.
pub(super) fn parse(path: &Arc<Path>, text: &str) -> Result<Table, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines { path, text };
    if errors.is_empty() {
        return Ok(lines.table(table.into_inner()));
    }
    let problem = |error: &toml::de::Error| Problem {
        place: lines.place(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        what: format!("not valid TOML: {}", error.message()),
        hint: if error.message().contains("duplicate key") {
            "a key stands once in a section, and a section once in a file; [[service]] and [[listener]] may stand often"
        } else {
            "text needs quotes, a list is [\"a\", \"b\"], a section is [name], a repeated one [[name]]"
        }
        .to_owned(),
    };
    Err(errors.iter().map(problem).collect())
}

struct Lines<'a> {
    path: &'a Arc<Path>,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.split(|byte| *byte == b'\n').skip(1).count();
        Place { source: Source::File(Arc::clone(self.path)), line: u32::try_from(line).ok() }
    }

    fn table(&self, table: DeTable<'_>) -> Table {
        let entries = table.into_iter().map(|(key, value)| {
            let place = self.place(key.span().start);
            (key.into_inner().into_owned(), Raw { place, index: 0, value: self.value(value.into_inner()) })
        });
        entries.collect()
    }

    fn value(&self, value: DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Text(number.to_string()), Value::Integer),
            DeValue::Float(number) => {
                number.as_str().parse().map_or_else(|_| Value::Text(number.to_string()), Value::Float)
            }
            DeValue::Boolean(value) => Value::Bool(value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => Value::List(
                list.into_iter()
                    .enumerate()
                    .map(|(index, element)| Raw {
                        place: self.place(element.span().start),
                        index,
                        value: self.value(element.into_inner()),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}
