//! Checks of the store: file, schema, application bindings, stored tokens and writes.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use rustix::fs::{Access, access};
use secrecy::SecretString;

use super::{
    report::{Check, Report, State, Topic},
    setup::{self, count},
};
use crate::{
    app::{audit_directory, environment_mismatch, known_applications, store_path},
    config::Config,
    crypto::{EnvelopeSealer, Keyring},
    domain::{Tenant, TenantName},
    ports::{ApplicationStore as _, SealError, SealedField, Sealer, StoreError, TenantStore as _},
    store::{OpenError, SqliteFile, SqliteStore, StoreInspection},
};

/// The number of tenants that are read at a time.
const STEP: u32 = 500;

const KEY: &str = "store.url";

/// Checks keyring and store. Returns the tenants, if they can be read.
pub(super) async fn keyring_and_store(
    config: &Config,
    wanted: &BTreeSet<TenantName>,
    report: &mut Report,
    listeners: impl FnOnce(&mut Report),
) -> Option<Vec<Tenant>> {
    let looked = SqliteFile::inspect(store_path(config)).await;
    let active = match &looked {
        Ok(StoreInspection::Current { file, .. }) => file.active_key_id().await,
        _ => Ok(None),
    };
    let id = active.as_ref().ok().and_then(Option::as_deref);
    let keyring = setup::keyring(config, id, report);
    listeners(report);
    journal(config, report);
    let path = store_path(config);
    let (file, schema) = match looked {
        Ok(StoreInspection::Current { file, schema }) => (file, schema),
        Ok(other) => {
            store_not_ready(&other, path, report);
            return None;
        }
        Err(error) => {
            // Like in `serve`, a missing folder is a configuration error.
            let missing = matches!(error, OpenError::FolderMissing { .. });
            let topic = if missing { Topic::Configuration } else { Topic::Store };
            report.add(Check::from_message(topic, State::Failed, &error.to_string()).at(KEY));
            return None;
        }
    };
    report.add(Check::ok(Topic::Store, format!("{} opens", path.display())).at(KEY));
    report.add(Check::ok(Topic::StoreSchema, format!("schema {schema}, the newest")).at(KEY));
    let opens = keyring.as_ref().and_then(sealer);
    let can_open = opens.is_some();
    let sealer = opens.unwrap_or_else(|| Arc::new(NoSealer));
    let store = SqliteStore::new(*file, sealer, known_applications(config));
    if let Err(error) = active {
        report.add(unreadable(&error));
    }
    applications(config, &store, report).await;
    let tenants = match tenants(&store, wanted).await {
        Ok(tenants) => Some(tenants),
        Err(error) => {
            report.add(unreadable(&error));
            None
        }
    };
    match &tenants {
        Some(tenants) if can_open => tokens(&store, tenants, report).await,
        Some(_) => {
            report
                .add(Check::skipped(Topic::SystemUserToken, "not checked: fix the keyring first"));
        }
        None => {}
    }
    writable(&store, report).await;
    store.file().close_without_checkpoint().await;
    tenants
}

/// Checks that the directory of the audit journal, or the folder in which it will be created, can be used.
fn journal(config: &Config, report: &mut Report) {
    let directory = audit_directory(config);
    let Some(place) = directory.ancestors().find(|folder| folder.exists()) else { return };
    let problem = if !place.is_dir() {
        "is not a directory"
    } else if access(place, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        "cannot be written by this process"
    } else {
        return;
    };
    let found = format!("the audit journal: {} {problem}", place.display());
    let remedy = "correct audit.directory, or give the user of this process write permission";
    report.add(Check::failed(Topic::StoreWritable, found, remedy).at("audit.directory"));
}

fn store_not_ready(look: &StoreInspection, path: &Path, report: &mut Report) {
    let path = path.display();
    let check = match look {
        StoreInspection::Older { found, known } if *found > 0 => Check::warning(
            Topic::StoreSchema,
            format!("{path} has schema {found}; the next start migrates it to {known}"),
            "back it up before that start; its content was not checked",
        ),
        _ => Check::ok(Topic::Store, format!("{path} will be created at the first start")),
    };
    report.add(check.at(KEY));
}

fn sealer(keyring: &Keyring) -> Option<Arc<dyn Sealer>> {
    // Every key of the keyring can open values; the active one matters only for sealing.
    let sealer = EnvelopeSealer::new(keyring, keyring.first_id()).ok()?;
    Some(Arc::new(sealer))
}

/// A sealer for an unusable keyring, so that unencrypted columns can still be read.
struct NoSealer;

impl Sealer for NoSealer {
    fn seal(&self, _: &SealedField<'_>, _: &SecretString) -> Result<Vec<u8>, SealError> {
        Err(SealError::Failed)
    }

    fn open(&self, _: &SealedField<'_>, _: &[u8]) -> Result<SecretString, SealError> {
        Err(SealError::Failed)
    }
}

fn unreadable(error: &StoreError) -> Check {
    let remedy = "check the disk and the file, or restore a backup";
    Check::failed(Topic::Store, error.to_string(), remedy).at(KEY)
}

/// Checks that each application id still has the environment and client id of the last use of the store.
async fn applications(config: &Config, store: &SqliteStore, report: &mut Report) {
    for (index, application) in config.applications.iter().enumerate() {
        let id = &application.id;
        let before = match store.binding(id).await {
            Ok(Some(before)) => before,
            Ok(None) => continue,
            Err(error) => {
                report.add(unreadable(&error));
                continue;
            }
        };
        if let Some(problem) = environment_mismatch(index, application, &before) {
            report.add(Check::from_problem(Topic::Application, State::Failed, &problem));
        } else if before.client_id == application.client_id {
            let found = format!("{id} has not changed since the store was last used");
            report.add(Check::ok(Topic::Application, found).at(format!("applications[{index}]")));
        } else {
            let found = format!("{id} had another client id when the store was last used");
            let remedy =
                "if it is another application, its stored tokens are invalid: set them again";
            let place = format!("applications[{index}].client_id");
            report.add(Check::warning(Topic::Application, found, remedy).at(place));
        }
    }
}

async fn tenants(
    store: &SqliteStore,
    wanted: &BTreeSet<TenantName>,
) -> Result<Vec<Tenant>, StoreError> {
    let mut all: Vec<Tenant> = Vec::new();
    let mut after = None;
    loop {
        let step = store.list(None, after.as_ref(), STEP).await?;
        after = step.last().map(|tenant| tenant.name.clone());
        let last = step.len() < STEP as usize;
        let is_wanted = |name: &TenantName| wanted.is_empty() || wanted.contains(name);
        all.extend(step.into_iter().filter(|tenant| is_wanted(&tenant.name)));
        if last {
            return Ok(all);
        }
    }
}

/// Decrypts each token and drops it.
async fn tokens(store: &SqliteStore, tenants: &[Tenant], report: &mut Report) {
    let mut opened = 0;
    for tenant in tenants {
        let name = tenant.name.to_string();
        match store.system_user_token(&tenant.name).await {
            Ok(Some(_)) => opened += 1,
            Ok(None) => report.add(
                Check::warning(
                    Topic::SystemUserToken,
                    "none is stored, so there are no tickets",
                    "store it with `tenant-gateway tenant set-token`",
                )
                .at(name),
            ),
            Err(error) => {
                let remedy = match &error {
                    StoreError::Seal(SealError::KeyUnavailable(_)) => {
                        "restore the key in the keyring, or set the token again with `tenant-gateway tenant \
                         set-token`"
                    }
                    _ => {
                        "use the keyring that belongs to this store, or set the token again with `tenant-gateway \
                         tenant set-token`"
                    }
                };
                let found = format!("the stored token cannot be decrypted: {error}");
                report.add(Check::failed(Topic::SystemUserToken, found, remedy).at(name));
            }
        }
    }
    if opened > 0 {
        let found = format!("{} decrypted", count(opened, "stored token"));
        report.add(Check::ok(Topic::SystemUserToken, found));
    }
}

async fn writable(store: &SqliteStore, report: &mut Report) {
    let check = match store.file().can_write().await {
        Ok(()) => Check::ok(Topic::StoreWritable, "accepts writes"),
        Err(error) => Check::failed(
            Topic::StoreWritable,
            error.to_string(),
            "give the user of this process write permission for the file and its folder, and end the process that locks it",
        ),
    };
    report.add(check.at(KEY));
}
