//! Secrets stand in files or environment variables that the configuration names, never in the configuration.

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

/// Client secrets have tens of characters, RSA keys a few thousand; whatever is larger is another file.
const MAX_SECRET_BYTES: usize = 64 * 1024;
/// From this length on, a name without dot and slash, or with the marks of Base64, is more likely a pasted secret
/// than a file.
const SUSPICIOUS_NAME_LENGTH: usize = 20;

/// Where one secret is, and the key that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSource {
    key: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Environment(String),
}

/// Whether a secret must be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// What a secret looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One line; white space and byte order marks around it are the editor's.
    Line,
    /// Kept as it is, without a byte order mark before it; its parser decides.
    Text,
}

impl SecretSource {
    /// The key of the configuration that says where it is, such as `applications[0].private_key_file`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.place {
            Place::File(file) => file.display().to_string(),
            Place::Environment(name) => format!("environment variable {name}"),
        }
    }

    /// Exactly one of `{key}_file` and `{key}_env`, or neither if it is optional.
    pub(super) fn either(
        key: &str,
        given: (Option<PathBuf>, Option<String>),
        need: Need,
        folder: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        match given {
            (Some(_), Some(_)) => {
                let short = env_key.rsplit('.').next().unwrap_or_default();
                problems.add(file_key, format!("{short} is given too; keep one of the two"));
                None
            }
            (Some(file), None) if is_no_path(&file) => {
                problems.add(
                    file_key,
                    "must be the path of a file; this looks like the secret itself, which never stands in this \
                     file (if it is a file beside this one, write ./ before its name)",
                );
                None
            }
            (Some(file), None) => {
                Some(Self { key: file_key, place: Place::File(folder.join(file)) })
            }
            (None, Some(name)) if is_no_variable(&name) => {
                problems.add(
                    env_key,
                    "must be the name of an environment variable, of A-Z, 0-9 and _, such as CLIENT_SECRET; the \
                     secret itself never stands in this file",
                );
                None
            }
            (None, Some(name)) => Some(Self { key: env_key, place: Place::Environment(name) }),
            (None, None) => {
                if need == Need::Required {
                    let short = env_key.rsplit('.').next().unwrap_or_default();
                    problems.add(file_key, format!("is missing; give it or {short}"));
                }
                None
            }
        }
    }

    /// Reads the secret.
    pub(super) fn read(&self, form: Form, problems: &mut Problems) -> Option<SecretString> {
        let secret = match &self.place {
            Place::File(path) => {
                self.warn_of_readers(path, problems);
                read_file(path).map_err(|what| format!("{}: {what}", path.display()))
            }
            Place::Environment(name) => {
                read_environment(name).map_err(|what| format!("environment variable {name} {what}"))
            }
        };
        let checked = secret.and_then(|secret| match form {
            Form::Text => Ok(secret),
            Form::Line => one_line(&secret).ok_or_else(|| {
                "has more than one line or control characters in it; it must be the secret alone".to_owned()
            }),
        });
        checked.map_err(|message| problems.add(&self.key, message)).ok()
    }

    /// A warning only: Kubernetes mounts secrets with mode 0644.
    fn warn_of_readers(&self, path: &Path, problems: &mut Problems) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            if std::fs::metadata(path).is_ok_and(|data| data.mode() & 0o004 != 0) {
                let path = path.display();
                problems.warn(
                    &self.key,
                    format!("every user of this machine can read {path}; `chmod o-r` mends it"),
                );
            }
        }
    }
}

/// The one place that reads the environment.
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
    // A shell that reads a file into a variable keeps the mark.
    not_empty(Zeroizing::new(text).trim_start_matches('\u{feff}'))
}

fn read_file(path: &Path) -> Result<SecretString, String> {
    let bytes = read_bounded(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; relative paths begin at the folder of the configuration file"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "may not be read; give the user of this process read permission".to_owned()
        }
        _ => format!("cannot be read ({})", error.kind()),
    })?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(format!("is larger than {MAX_SECRET_BYTES} bytes; this is no secret"));
    }
    let text = file_text(&bytes).map_err(|error| match error {
        NotUtf8::Utf16 => error.to_string(),
        NotUtf8::Other => "is not UTF-8 text; keys are PEM or XML, not DER".to_owned(),
    })?;
    not_empty(text)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: a buffer that grows would leave copies behind.
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

/// Paths are shown in messages, so what may be a pasted secret or key is not taken for one.
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

/// Upper case only, because hexadecimal secrets are lower case, and names are shown in messages.
fn is_no_variable(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    !name.bytes().all(legal) || !name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
}

#[cfg(test)]
mod tests;
