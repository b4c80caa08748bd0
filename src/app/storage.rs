//! Opens keyring, store and audit journal together: the store records which key of the keyring is active.

use std::{path::PathBuf, sync::Arc};

use crate::{
    config::{Application, Config, ConfigError, CryptoProvider, Problem, StoreLocation},
    crypto::{AuditKeys, EnvelopeSealer, Keyring, KeyringError, PageTokenKey, SystemRandom},
    domain::ApplicationId,
    journal::{self, Journal, JournalPorts, JournalSettings, Role},
    ports::{
        ApplicationBinding, ApplicationStore as _, PageTokens, StoreError, StoreHealth, SystemClock,
    },
    store::{KnownApplication, KnownApplications, OpenError, ServeLock, SqliteFile, SqliteStore},
};

/// An error that makes the store unusable.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store's file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The audit journal cannot be opened.
    #[error(transparent)]
    Audit(#[from] journal::OpenError),
    /// The store was opened but a query failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An open store, an open audit journal, and the keys derived from the keyring.
pub struct Storage {
    /// The store of everything but audit events.
    pub store: Arc<SqliteStore>,
    /// The audit events.
    pub audit: Arc<Journal>,
    /// Seals page tokens.
    pub page_tokens: Arc<dyn PageTokens>,
    /// Signs the audit trail.
    pub audit_signer: Arc<AuditKeys>,
    _lock: Option<ServeLock>,
}

impl Storage {
    /// Opens store and journal for a command. A server may use them at the same time.
    ///
    /// # Errors
    /// If the configuration, the keyring, the store or the journal cannot be used.
    pub async fn open(config: &Config) -> Result<Self, StorageError> {
        Self::open_with(config, None).await
    }

    /// Opens store and journal for a server. Only one process may do so.
    ///
    /// # Errors
    /// If another server has the store or the journal, or if one of the parts cannot be used.
    pub async fn open_to_serve(config: &Config) -> Result<Self, StorageError> {
        let lock =
            ServeLock::acquire(store_path(config)).map_err(|error| open_error(config, error))?;
        Self::open_with(config, Some(lock)).await
    }

    /// Returns the id of the active key; `None` before the first start.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub async fn active_key_id(config: &Config) -> Result<Option<String>, StorageError> {
        let path = store_path(config);
        if !path.exists() {
            return Ok(None);
        }
        let file = SqliteFile::open(path).await?;
        let active = file.active_key_id().await;
        file.close().await;
        Ok(active?)
    }

    async fn open_with(config: &Config, lock: Option<ServeLock>) -> Result<Self, StorageError> {
        let keyring = read_keyring(config)?;
        let file = SqliteFile::open(store_path(config))
            .await
            .map_err(|error| open_error(config, error))?;
        let active = match file.active_key_id().await? {
            Some(active) => active,
            // On the first start, the first key of the keyring becomes active.
            None => file.activate_key(keyring.first_id()).await?,
        };
        let wrong_keyring = |error: KeyringError| keyring_problem(config, &error);
        let sealer = EnvelopeSealer::new(&keyring, &active).map_err(wrong_keyring)?;
        let page_tokens = PageTokenKey::new(&keyring, &active).map_err(wrong_keyring)?;
        let audit_signer = AuditKeys::new(&keyring, &active).map_err(wrong_keyring)?;
        let audit_signer = Arc::new(audit_signer);
        let store = Arc::new(SqliteStore::new(file, Arc::new(sealer), known_applications(config)));
        bind_applications(config, &store, lock.is_some()).await?;
        let role = if lock.is_some() { Role::Server } else { Role::Command };
        let audit = Arc::new(open_journal(config, role, &audit_signer)?);
        Ok(Self { store, audit, page_tokens: Arc::new(page_tokens), audit_signer, _lock: lock })
    }

    /// Closes the journal and then the store.
    pub async fn close(&self) {
        close(&self.audit, &*self.store).await;
    }
}

/// Closes the journal and then the store.
pub(super) async fn close(audit: &Journal, store: &dyn StoreHealth) {
    if let Err(error) = audit.close().await {
        tracing::warn!(%error, "the audit journal cannot be closed");
    }
    store.close().await;
}

fn open_journal(
    config: &Config,
    role: Role,
    signer: &Arc<AuditKeys>,
) -> Result<Journal, journal::OpenError> {
    let segment_bytes = config.audit.segment_bytes;
    let settings = JournalSettings { directory: audit_directory(config), segment_bytes, role };
    let ports = JournalPorts {
        signer: signer.clone(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
    };
    Journal::open(settings, ports)
}

/// Returns the directory of the audit journal: by default, `audit` beside the store's file.
pub(crate) fn audit_directory(config: &Config) -> PathBuf {
    let beside_the_store = || store_path(config).with_file_name("audit");
    config.audit.directory.clone().unwrap_or_else(beside_the_store)
}

/// Reads the configured keyring file.
///
/// # Errors
/// With the configuration key, the file, and the action that solves the problem.
pub(crate) fn read_keyring(config: &Config) -> Result<Keyring, ConfigError> {
    if config.crypto.provider != CryptoProvider::File {
        let message = "only \"file\" is built: set provider = \"file\" and keyring_file";
        return Err(config_problem(config, "crypto.provider", message.to_owned()));
    }
    Keyring::load(&config.crypto.keyring_file).map_err(|error| keyring_problem(config, &error))
}

fn keyring_problem(config: &Config, error: &KeyringError) -> ConfigError {
    config_problem(config, "crypto.keyring_file", error.to_string())
}

/// Returns a configuration error that was found after the file was checked.
pub(super) fn config_problem(config: &Config, key: &str, message: String) -> ConfigError {
    let problem = Problem { key: key.to_owned(), line: None, message };
    ConfigError { file: config.file.clone(), problems: vec![problem] }
}

/// Converts an error of opening the store. A missing folder is reported as a configuration error.
fn open_error(config: &Config, error: OpenError) -> StorageError {
    let OpenError::FolderMissing { .. } = error else { return error.into() };
    let path = store_path(config).display();
    let message = format!("the folder of {path} does not exist; create the folder, or change this");
    config_problem(config, "store.url", message).into()
}

/// Returns the path of the store's file.
pub(crate) fn store_path(config: &Config) -> &std::path::Path {
    let StoreLocation::Sqlite(path) = &config.store.location;
    path
}

/// Returns the settings of the applications that the store needs.
pub(crate) fn known_applications(config: &Config) -> KnownApplications {
    let known = |application: &Application| {
        let known = KnownApplication {
            environment: application.environment,
            allowed_api_hosts: application.allowed_api_hosts.clone(),
        };
        (application.id.clone(), known)
    };
    config.applications.iter().map(known).collect()
}

/// Compares the applications with the bindings in the store: data of one environment must not be used in another one.
/// Stores new bindings.
async fn bind_applications(
    config: &Config,
    store: &SqliteStore,
    to_serve: bool,
) -> Result<(), StorageError> {
    for (index, application) in config.applications.iter().enumerate() {
        let id: &ApplicationId = &application.id;
        if let Some(before) = store.binding(id).await? {
            if let Some(problem) = environment_mismatch(index, application, &before) {
                let problems = vec![problem];
                return Err(ConfigError { file: config.file.clone(), problems }.into());
            }
            // Only `serve` has a log for the warning, so a command does not store the change.
            if before.client_id == application.client_id || !to_serve {
                continue;
            }
            tracing::warn!(
                application = %id,
                before = before.client_id,
                now = application.client_id,
                "the client id of an application changed; its stored tokens may belong to the previous client id"
            );
        }
        store.bind(id, application.environment, &application.client_id).await?;
    }
    Ok(())
}

/// Returns a problem if the application `index` had another environment when the store was last used.
pub(crate) fn environment_mismatch(
    index: usize,
    application: &Application,
    before: &ApplicationBinding,
) -> Option<Problem> {
    let environment = application.environment.as_str();
    (before.environment != environment).then(|| {
        let message = format!(
            "{} had environment {} when this store was last used, and now has {environment}; give the \
             application of {environment} another id, or use another store",
            application.id, before.environment
        );
        Problem { key: format!("applications[{index}].environment"), line: None, message }
    })
}
