//! Where an export goes on, and where it says how far it came.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    broker::{CursorRefused, ExportCursor},
    cli::{Failed, say},
    domain::file_text,
    ports::AuditSigner,
};

/// The longest cursor: some thousands of chains.
const MAX_CURSOR_BYTES: u64 = 4 * 1024 * 1024;

/// Where the cursor comes from and goes to.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Nowhere, or the command line; it goes to standard error at the end.
    Text(Option<String>),
    /// A file.
    File(PathBuf),
}

impl Place {
    /// The cursor to go on from; a file that is not there is the beginning.
    pub(super) fn read(&self, signer: &dyn AuditSigner) -> Result<ExportCursor, Failed> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => match text_of(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    let message =
                        format!("--cursor-file {}: cannot be read: {error}", path.display());
                    return Err(Failed::Usage(message));
                }
            },
        };
        let Some(text) = text else { return Ok(ExportCursor::default()) };
        ExportCursor::decode(signer, &text).map_err(|refused| self.refused(&refused))
    }

    /// Why this cursor is not taken, and what to do.
    pub(super) fn refused(&self, refused: &CursorRefused) -> Failed {
        let which = match self {
            Self::Text(_) => "--cursor".to_owned(),
            Self::File(path) => format!("--cursor-file {}", path.display()),
        };
        let mend = match refused {
            CursorRefused::Unreadable => "give the whole text of an earlier export",
            _ => {
                "is this another store? If it is the same, it was put back to an older copy, or rewritten: compare it \
                 with what was exported"
            }
        };
        Failed::Usage(format!("{which}: {refused}; {mend}; without a cursor all is exported again"))
    }

    /// What comes before this cursor is out of our hands.
    pub(super) fn advance(
        &self,
        signer: &dyn AuditSigner,
        cursor: &ExportCursor,
    ) -> Result<(), Failed> {
        let Self::File(path) = self else { return Ok(()) };
        replace(path, &cursor.encode(signer)).map_err(|error| {
            Failed::Failed(format!("--cursor-file {}: cannot be written: {error}", path.display()))
        })
    }

    /// Tells where to go on, where no file does.
    pub(super) fn tell(&self, signer: &dyn AuditSigner, cursor: &ExportCursor) {
        if let Self::Text(_) = self {
            say(&format!("to go on from here: --cursor {}", cursor.encode(signer)));
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

/// All or nothing, also when the machine stops: a cursor that is half written would be no cursor.
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
