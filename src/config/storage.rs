//! The store and its encryption: `[store]` and `[crypto]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error};

use super::{
    error::Problems,
    secret::{Requirement, SecretSource},
    value,
};

const URL: &str = "must be sqlite: and the path of a file, such as \"sqlite:gateway.db\"";
const POSTGRES: &str = "PostgreSQL is not built yet: use one process and \"sqlite:gateway.db\"";

/// `[store]`, checked.
#[derive(Debug, Clone)]
pub struct Store {
    /// The location of the data.
    pub location: StoreLocation,
    /// The database's password.
    pub password: Option<SecretSource>,
    /// PEM certificates of the authorities that may issue the database's certificate.
    pub ca_file: Option<PathBuf>,
    /// The size of the connection pool.
    pub max_connections: u32,
    /// The timeout of a statement.
    pub statement_timeout: Duration,
}

/// The location of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// An SQLite file.
    Sqlite(PathBuf),
}

/// The section `[store]`, unchecked.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreEntry {
    #[serde(deserialize_with = "location")]
    url: StoreLocation,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    ca_file: Option<PathBuf>,
    max_connections: u32,
    #[serde(deserialize_with = "value::duration")]
    statement_timeout: Duration,
}

impl Default for StoreEntry {
    fn default() -> Self {
        Self {
            url: StoreLocation::Sqlite("gateway.db".into()),
            password_file: None,
            password_env: None,
            ca_file: None,
            max_connections: 10,
            // Much shorter than the default deadline of a call, so that the caller receives the reason.
            statement_timeout: Duration::from_secs(5),
        }
    }
}

impl StoreEntry {
    pub(super) fn check(self, folder: &Path, problems: &mut Problems) -> Store {
        if self.max_connections == 0 {
            problems.add("store.max_connections", "must be at least 1");
        }
        if self.statement_timeout.is_zero() {
            problems.add("store.statement_timeout", "must be greater than zero");
        }
        let StoreLocation::Sqlite(path) = self.url;
        Store {
            location: StoreLocation::Sqlite(folder.join(path)),
            password: SecretSource::from_file_or_env(
                "store.password",
                (self.password_file, self.password_env),
                Requirement::Optional,
                folder,
                problems,
            ),
            ca_file: self.ca_file.map(|file| folder.join(file)),
            max_connections: self.max_connections,
            statement_timeout: self.statement_timeout,
        }
    }
}

fn location<'de, D: Deserializer<'de>>(value: D) -> Result<StoreLocation, D::Error> {
    let text = String::deserialize(value).map_err(|_| D::Error::custom(URL))?;
    parse_location(&text).map_err(D::Error::custom)
}

fn parse_location(text: &str) -> Result<StoreLocation, &'static str> {
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return Err(POSTGRES);
    }
    let path = text.strip_prefix("sqlite:").ok_or(URL)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    // `:memory:` would lose credentials for good, and the gateway sets the options itself.
    if path.is_empty() || path.starts_with(':') || path.ends_with('/') || path.contains('?') {
        return Err(URL);
    }
    Ok(StoreLocation::Sqlite(path.into()))
}

/// `[crypto]`: the key-encryption keys, which encrypt the data keys of sealed records.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crypto {
    /// The provider of the key-encryption keys.
    pub provider: CryptoProvider,
    /// The keyring file of the provider `file`.
    pub keyring_file: PathBuf,
}

/// The provider of the key-encryption keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CryptoProvider {
    /// A keyring file.
    File,
    /// A transit secrets engine, which never reveals the keys.
    Transit,
}

impl Default for Crypto {
    fn default() -> Self {
        Self { provider: CryptoProvider::File, keyring_file: "keyring.toml".into() }
    }
}

impl Crypto {
    pub(super) fn resolve(&mut self, folder: &Path) {
        self.keyring_file = folder.join(&self.keyring_file);
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.keyring_file.as_os_str().is_empty() {
            problems.add("crypto.keyring_file", "must be a path");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_the_url_of_a_sqlite_file() {
        for text in [
            "",
            "gateway.db",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:data/",
            "sqlite:gateway.db?mode=ro",
            "mysql://x",
        ] {
            assert_eq!(parse_location(text), Err(URL), "{text}");
        }
        for text in ["postgres://u:hunter2@db/x", "postgresql://db/x"] {
            assert_eq!(parse_location(text), Err(POSTGRES), "{text}");
        }
        for (text, path) in [
            ("sqlite:gateway.db", "gateway.db"),
            ("sqlite://gateway.db", "gateway.db"),
            ("sqlite:///var/lib/gateway.db", "/var/lib/gateway.db"),
            ("sqlite:/var/lib/gateway.db", "/var/lib/gateway.db"),
        ] {
            let location = StoreLocation::Sqlite(path.into());
            assert_eq!(parse_location(text), Ok(location));
        }
    }
}
