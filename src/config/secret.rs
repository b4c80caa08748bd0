//! Secrets: the configuration names a file or an environment variable, and never contains a secret itself.

use std::{
    env::VarError,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::error::Problems;
use crate::domain::{NotUtf8, file_text, trimmed};

/// The maximum size of a secret, in bytes. Client secrets have tens of characters, RSA keys a few thousand.
const MAX_SECRET_BYTES: usize = 64 * 1024;
/// The length from which a file name without dot and slash, or with Base64 characters, is treated as a pasted secret.
const SUSPICIOUS_NAME_LENGTH: usize = 20;

/// The location of one secret, and the configuration key that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    key: String,
    place: Location,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Location {
    File(PathBuf),
    Environment(String),
}

/// Whether a secret must be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    Required,
    Optional,
}

/// The format of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretFormat {
    /// One line. White space and byte order marks around it are removed.
    Line,
    /// Any text, for a parser. Only a leading byte order mark is removed.
    Text,
}

impl SecretSource {
    /// Returns the configuration key that names the location, such as `applications[0].private_key_file`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the location, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.place {
            Location::File(file) => file.display().to_string(),
            Location::Environment(name) => format!("environment variable {name}"),
        }
    }

    /// Checks that exactly one of `{key}_file` and `{key}_env` is set, or neither if the secret is optional.
    pub(super) fn from_file_or_env(
        key: &str,
        given: (Option<PathBuf>, Option<String>),
        need: Requirement,
        folder: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        match given {
            (Some(_), Some(_)) => {
                let short = env_key.rsplit('.').next().unwrap_or_default();
                problems.add(file_key, format!("{short} is also set; remove one of the two"));
                None
            }
            (Some(file), None) if is_no_path(&file) => {
                problems.add(
                    file_key,
                    "must be the path of a file; this looks like the secret itself, which must not be in this \
                     file (if it is the name of a file, write ./ before it)",
                );
                None
            }
            (Some(file), None) => {
                Some(Self { key: file_key, place: Location::File(folder.join(file)) })
            }
            (None, Some(name)) if is_no_variable(&name) => {
                problems.add(
                    env_key,
                    "must be the name of an environment variable, of A-Z, 0-9 and _, such as CLIENT_SECRET; the \
                     secret itself must not be in this file",
                );
                None
            }
            (None, Some(name)) => Some(Self { key: env_key, place: Location::Environment(name) }),
            (None, None) => {
                if need == Requirement::Required {
                    let short = env_key.rsplit('.').next().unwrap_or_default();
                    problems.add(file_key, format!("is missing; set it or {short}"));
                }
                None
            }
        }
    }

    /// Reads the secret.
    pub(super) fn read(&self, form: SecretFormat, problems: &mut Problems) -> Option<SecretString> {
        let secret = match &self.place {
            Location::File(path) => {
                self.warn_of_readers(path, problems);
                read_file(path).map_err(|what| format!("{}: {what}", path.display()))
            }
            Location::Environment(name) => {
                read_environment(name).map_err(|what| format!("environment variable {name} {what}"))
            }
        };
        let checked = secret.and_then(|secret| match form {
            SecretFormat::Text => Ok(secret),
            SecretFormat::Line => one_line(&secret).ok_or_else(|| {
                "has more than one line or contains control characters; it must contain only the secret".to_owned()
            }),
        });
        checked.map_err(|message| problems.add(&self.key, message)).ok()
    }

    /// Warns if every user can read the file. It is not an error, because Kubernetes mounts secrets with mode 0644.
    fn warn_of_readers(&self, path: &Path, problems: &mut Problems) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if std::fs::metadata(path).is_ok_and(|data| data.mode() & 0o004 != 0) {
                let path = path.display();
                problems.warn(
                    &self.key,
                    format!("every user of this machine can read {path}; run `chmod o-r` on it"),
                );
            }
        }
    }
}

/// Reads an environment variable. All of the program's reads go through this function.
#[expect(
    clippy::disallowed_methods,
    reason = "configuration is where environment variables are read"
)]
pub(super) fn environment(name: &str) -> Result<String, VarError> {
    std::env::var(name)
}

fn read_environment(name: &str) -> Result<SecretString, String> {
    let text = environment(name).map_err(|error| match error {
        VarError::NotPresent => "is not set; set it, or use the key that ends in _file",
        VarError::NotUnicode(_) => "is not UTF-8 text",
    })?;
    // A shell that reads a file into a variable keeps the byte order mark.
    not_empty(Zeroizing::new(text).trim_start_matches('\u{feff}'))
}

fn read_file(path: &Path) -> Result<SecretString, String> {
    let bytes = read_bounded(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; relative paths begin at the folder of the configuration file"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "cannot be read; give the user of this process read permission".to_owned()
        }
        _ => format!("cannot be read ({})", error.kind()),
    })?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(format!(
            "is larger than {MAX_SECRET_BYTES} bytes, which is too large for a secret"
        ));
    }
    let text = file_text(&bytes).map_err(|error| match error {
        NotUtf8::Utf16 => error.to_string(),
        NotUtf8::Other => "is not UTF-8 text; keys are PEM or XML, not DER".to_owned(),
    })?;
    not_empty(text)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocated once, because a growing buffer would leave copies of the secret in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    let limit = u64::try_from(MAX_SECRET_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn not_empty(text: &str) -> Result<SecretString, String> {
    if trimmed(text).is_empty() {
        return Err("is empty; write the secret into it".to_owned());
    }
    Ok(SecretString::from(text.to_owned()))
}

fn one_line(secret: &SecretString) -> Option<SecretString> {
    let text = trimmed(secret.expose_secret());
    (!text.contains(char::is_control)).then(|| SecretString::from(text.to_owned()))
}

/// Returns whether the value is probably a pasted secret or key. Such a value is rejected, because messages show paths.
fn is_no_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let pasted_key =
        text.contains(['\n', '\r']) || text.contains("-----BEGIN") || text.contains('<');
    let base64 = text.contains(['+', '=']);
    let pasted_secret = text.len() >= SUSPICIOUS_NAME_LENGTH
        && (base64 || !text.contains(['.', '/']))
        && text.contains(|c: char| c.is_ascii_digit());
    text.is_empty() || pasted_key || pasted_secret
}

/// Returns whether the value is not the name of a variable. Lower case is rejected: a hexadecimal secret is lower case,
/// and messages show names.
fn is_no_variable(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !name.bytes().all(legal) || !name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
}

#[cfg(test)]
mod tests;
