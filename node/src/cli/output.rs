use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width, presets};
use serde::Serialize;

use super::failure::{Exit, Failure};

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, for reading.
    Table,
    /// More columns.
    Wide,
    /// JSON; its fields are stable.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// Blanks between two columns.
const GAP: u16 = 2;

/// One column of a table.
pub(super) struct Column<T> {
    pub(super) title: &'static str,
    /// Only with `-o wide`.
    pub(super) wide: bool,
    pub(super) cell: fn(&T) -> String,
}

/// How a list is shown.
pub(super) struct Listing<T: 'static> {
    pub(super) columns: &'static [Column<T>],
    pub(super) name: fn(&T) -> String,
    /// What is said, on stderr, where there is nothing to show.
    pub(super) empty: &'static str,
}

impl<T: Serialize> Listing<T> {
    /// Writes the whole list.
    pub(super) fn print(&self, format: Format, rows: &[T]) -> Result<(), Failure> {
        match format {
            Format::Table | Format::Wide if rows.is_empty() => eprintln!("{}", self.empty),
            Format::Table | Format::Wide => write_out(&self.table(format, rows, true))?,
            Format::Name => write_out(&rows.iter().map(|row| plain(&(self.name)(row)) + "\n").collect::<String>())?,
            Format::Json | Format::Yaml => document(format, rows)?,
        }
        Ok(())
    }

    /// The rows as text, with or without their titles.
    pub(super) fn table(&self, format: Format, rows: &[T], titles: bool) -> String {
        self.further(format, rows, titles, &mut Vec::new())
    }

    /// More rows of one table: at least as wide as those before, whose `widths` these are.
    pub(super) fn further(&self, format: Format, rows: &[T], titles: bool, widths: &mut Vec<u16>) -> String {
        let columns = || self.columns.iter().filter(|column| format == Format::Wide || !column.wide);
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if titles {
            table.set_header(columns().map(|column| column.title));
        }
        for row in rows {
            table.add_row(columns().map(|column| match plain(&(column.cell)(row)) {
                empty if empty.is_empty() => "-".to_owned(),
                text => text,
            }));
        }
        let now = table.column_max_content_widths();
        widths.resize(now.len(), 0);
        for ((column, width), now) in table.column_iter_mut().zip(widths).zip(now) {
            *width = now.max(*width);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
        }
        lines(&table)
    }
}

/// Names and values, one a line.
pub(super) fn pairs(rows: &[(&str, String)]) -> Result<(), Failure> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {}\n", plain(value));
    Ok(write_out(&rows.iter().map(line).collect::<String>())?)
}

/// One thing that was done: a document, its name, or rows to read.
pub(super) fn deed(
    format: Format,
    name: &str,
    value: &serde_json::Value,
    rows: &[(&str, String)],
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => document(format, value),
        Format::Name => Ok(write_out(&format!("{name}\n"))?),
        Format::Table | Format::Wide => pairs(rows),
    }
}

/// Anything as JSON or YAML.
pub(super) fn document<T: Serialize + ?Sized>(format: Format, value: &T) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("writing the output: {error}"), "");
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(&value).map_err(|error| failed(&error))?,
        _ => serde_json::to_string_pretty(value).map_err(|error| failed(&error))? + "\n",
    };
    Ok(write_out(&text)?)
}

/// Data goes to stdout, at once: what watches it must not wait for a buffer to fill.
pub(super) fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Names come from other nodes: no control character of theirs reaches the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing<&'static str> = Listing {
        columns: &[
            Column { title: "NAME", wide: false, cell: |name| (*name).to_owned() },
            Column { title: "LENGTH", wide: true, cell: |name| name.len().to_string() },
            Column { title: "SHOUT", wide: false, cell: |name| name.to_uppercase() },
        ],
        name: |name| (*name).to_owned(),
        empty: "nothing",
    };

    #[test]
    fn columns_stand_under_their_titles_and_what_is_empty_shows_as_a_dash() {
        let table = LISTING.table(Format::Table, &["a", "longer", ""], true);
        assert_eq!(table, "NAME    SHOUT\na       A\nlonger  LONGER\n-       -\n");
        assert_eq!(LISTING.table(Format::Wide, &["ab"], false), "ab  2  AB\n");
        let mut widths = Vec::new();
        let first = LISTING.further(Format::Table, &["longer"], true, &mut widths);
        let second = LISTING.further(Format::Table, &["a"], false, &mut widths);
        assert_eq!(first + &second, "NAME    SHOUT\nlonger  LONGER\na       A\n");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(LISTING.table(Format::Table, &["\u{1b}[2J"], false), "\u{fffd}[2J  \u{fffd}[2J\n");
    }
}
