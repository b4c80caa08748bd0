//! Printing results as text or JSON.

use std::io::{ErrorKind, Write as _};

use super::CommandError;

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A table or sentences.
    Text,
    /// One JSON value.
    Json,
}

/// The option for the output format.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct OutputOption {
    /// The output format.
    #[arg(long, value_enum, default_value = "text")]
    pub(super) output: Format,
}

/// Writes to standard output. A closed output is not an error.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    });
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes an indented JSON value.
pub(super) fn print_json(value: &serde_json::Value) -> Result<(), CommandError> {
    print(&serde_json::to_string_pretty(value).map_err(CommandError::other)?)
}

/// Formats a table whose columns are as wide as their widest cell.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let head = header.get(column).map_or(0, |cell| cell.chars().count());
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(head)
    };
    let line = |cells: Vec<&str>| {
        let padded =
            cells.iter().enumerate().map(|(i, cell)| format!("{cell:<width$}", width = width(i)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "x".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(table(&["N", "VALUE"], &rows), "N     VALUE\na     x\nlong");
    }
}
