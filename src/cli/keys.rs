//! `keys`: the keyring file.

use jiff::Timestamp;
use serde_json::json;

use super::{
    CommandError, ConfigOption,
    output::{Format, OutputOption, print, print_json, table},
    trail::{self, RecordedError},
};
use crate::{
    app::{Storage, read_keyring, store_path},
    config::Config,
    crypto::{Keyring, KeyringError},
    domain::Reason,
    ports::{Clock as _, SystemClock},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// Write a new keyring file (`crypto.keyring_file`), or add a key to it.
    ///
    /// The file encrypts every stored secret. Without it, the secrets are lost; with it and the store, anyone can read
    /// them. Back it up separately from the store.
    #[command(
        after_help = "Examples:\n  tenant-gateway keys generate --config gateway.toml\n  tenant-gateway keys generate --add"
    )]
    Generate {
        #[command(flatten)]
        config: ConfigOption,
        /// Add one key to the existing keyring; it is not used yet.
        #[arg(long)]
        add: bool,
        #[command(flatten)]
        output: OutputOption,
    },
    /// List the ids of the keys and which one is in use; never prints the keys themselves.
    #[command(after_help = "Example:\n  tenant-gateway keys list --output json")]
    List {
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
    },
}

pub(super) async fn run(command: KeysCommand) -> Result<(), CommandError> {
    match command {
        KeysCommand::Generate { config, add, output } => {
            let config = config.load()?;
            let id = if add { add_key(&config).await? } else { new_keyring(&config)? };
            print_generated(&config, &id, add, output)
        }
        KeysCommand::List { config, output } => list(&config.load()?, output).await,
    }
}

impl From<KeyringError> for CommandError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Exists { .. }
            | KeyringError::Permissions { .. }
            | KeyringError::Format { .. } => Self::Usage(error.to_string()),
            other => Self::other(other),
        }
    }
}

impl RecordedError for KeyringError {
    fn reason(&self) -> Reason {
        Reason::Internal
    }
}

fn new_keyring(config: &Config) -> Result<String, CommandError> {
    Ok(Keyring::generate(&config.crypto.keyring_file, SystemClock.now())?)
}

/// Adds a key and returns its id. Records this in the audit trail, if there is a store.
async fn add_key(config: &Config) -> Result<String, CommandError> {
    let file = &config.crypto.keyring_file;
    let add = || Keyring::generate_additional(file, SystemClock.now());
    if !store_path(config).exists() {
        return Ok(add()?);
    }
    let storage = Storage::open(config).await?;
    let added = trail::change(&storage, "keys.generate", "gateway", Ok(()), async { add() }).await;
    storage.close().await;
    added
}

fn print_generated(
    config: &Config,
    id: &str,
    add: bool,
    output: OutputOption,
) -> Result<(), CommandError> {
    let file = &config.crypto.keyring_file;
    match output.output {
        Format::Json => print_json(&json!({ "id": id, "file": file })),
        Format::Text if add => {
            print(&format!("key {id} added to {}; it is not in use yet", file.display()))
        }
        Format::Text => print(&format!(
            "key {id} written to {}\nback up this file separately from the store: without it, stored secrets cannot be decrypted",
            file.display()
        )),
    }
}

async fn list(config: &Config, output: OutputOption) -> Result<(), CommandError> {
    let keyring = read_keyring(config)?;
    let active = Storage::active_key_id(config).await?;
    let is_active = |id: &str| active.as_deref() == Some(id);
    let keys = || keyring.keys().iter().map(|key| (key.id(), key.create_time()));
    match output.output {
        Format::Json => {
            let key = |(id, created): (&str, Timestamp)| json!({ "id": id, "create_time": created.to_string(), "active": is_active(id) });
            print_json(&keys().map(key).collect())
        }
        Format::Text => {
            let row = |(id, created): (&str, Timestamp)| {
                let used = if is_active(id) { "active" } else { "-" };
                vec![id.to_owned(), created.to_string(), used.to_owned()]
            };
            print(&table(&["KEY", "CREATED", "USE"], &keys().map(row).collect::<Vec<_>>()))
        }
    }
}
