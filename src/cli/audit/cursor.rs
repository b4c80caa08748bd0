//! The cursor of an export: the position at which the next export continues.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    broker::{ExportCursor, InvalidCursor},
    cli::{CommandError, print_stderr},
    domain::file_text,
    ports::AuditSigner,
};

/// The maximum size of a cursor, which is enough for thousands of chains.
const MAX_CURSOR_BYTES: u64 = 4 * 1024 * 1024;

/// The location from which the cursor is read and to which it is written.
#[derive(Debug, Clone)]
pub(super) enum CursorLocation {
    /// The command line, if a cursor was given. The new cursor is printed to standard error at the end.
    Text(Option<String>),
    /// A file.
    File(PathBuf),
}

impl CursorLocation {
    /// Reads the cursor. A missing file means the beginning.
    pub(super) fn read(&self, signer: &dyn AuditSigner) -> Result<ExportCursor, CommandError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => match text_of(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let message =
                        format!("--cursor-file {}: cannot be read: {error}", path.display());
                    return Err(CommandError::Usage(message));
                }
            },
        };
        let Some(text) = text else { return Ok(ExportCursor::default()) };
        ExportCursor::decode(signer, &text).map_err(|refused| self.rejection(&refused))
    }

    /// Returns the error for a rejected cursor.
    pub(super) fn rejection(&self, refused: &InvalidCursor) -> CommandError {
        let which = match self {
            Self::Text(_) => "--cursor".to_owned(),
            Self::File(path) => format!("--cursor-file {}", path.display()),
        };
        let remedy = match refused {
            InvalidCursor::Unreadable => "give the whole text of an earlier export",
            _ => {
                "is this another store? If it is the same, it was restored from an older copy, or rewritten: compare it \
                 with the exported events"
            }
        };
        CommandError::Usage(format!(
            "{which}: {refused}; {remedy}; without a cursor all events are exported again"
        ))
    }

    /// Stores the cursor after the events before it were written.
    pub(super) fn advance(
        &self,
        signer: &dyn AuditSigner,
        cursor: &ExportCursor,
    ) -> Result<(), CommandError> {
        let Self::File(path) = self else { return Ok(()) };
        replace(path, &cursor.encode(signer)).map_err(|error| {
            CommandError::Failed(format!(
                "--cursor-file {}: cannot be written: {error}",
                path.display()
            ))
        })
    }

    /// Prints the cursor if there is no cursor file.
    pub(super) fn print(&self, signer: &dyn AuditSigner, cursor: &ExportCursor) {
        if let Self::Text(_) = self {
            print_stderr(&format!("to continue from here: --cursor {}", cursor.encode(signer)));
        }
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_CURSOR_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large for a cursor"));
    }
    let text = fs::read(path)?;
    let text =
        file_text(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(text.to_owned())
}

/// Replaces the file atomically, so that a crash leaves either the old or the new cursor.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, path)
}
