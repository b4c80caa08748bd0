//! Files of key sets, authorities and tokens. They may be replaced at any time, so each use reads the file.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::{
    domain::{NotUtf8, remove_byte_order_marks, without_byte_order_mark},
    ports::{JwksError, JwksSource, explain_read_error},
};

/// The maximum file size. A key set has a few kilobytes, a bundle of all public CAs a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A key set in a file.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// Creates the source for `jwks_file`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

#[async_trait]
impl JwksSource for KeyFile {
    async fn fetch(&self) -> Result<Vec<u8>, JwksError> {
        let mut bytes = read("jwks_file", &self.0).await?;
        Ok(std::mem::take(&mut *bytes))
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// Reads a file that the configuration names by `key`.
pub(super) async fn read(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, JwksError> {
    let file = path.to_owned();
    // The directory may be on a network file system.
    let read = tokio::task::spawn_blocking(move || read_bounded(&file)).await;
    let read = read.unwrap_or(Err("cannot be read"));
    read.map_err(|what| JwksError(format!("{key}: {}: {what}", path.display())))
}

fn read_bounded(path: &Path) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| explain_read_error(&error))?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes);
    match read {
        Err(error) => Err(explain_read_error(&error)),
        Ok(length) if u64::try_from(length).is_ok_and(|length| length <= MAX_FILE_BYTES) => {
            // A byte order mark is not part of JSON, PEM or tokens.
            without_byte_order_mark(&bytes).map_err(NotUtf8::text)?;
            // Concatenated files have byte order marks in the middle, too.
            remove_byte_order_marks(&mut bytes);
            Ok(bytes)
        }
        Ok(_) => Err("is larger than 1 MiB"),
    }
}
