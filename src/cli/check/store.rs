//! The store: whether it opens, is ours, can be written, and gives its secrets back.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use secrecy::SecretString;

use super::{
    report::{Check, Report, State, Topic},
    setup::{self, count},
};
use crate::{
    app::{known_applications, other_environment, store_path},
    config::Config,
    crypto::{EnvelopeSealer, Keyring},
    domain::{Tenant, TenantName},
    ports::{ApplicationStore as _, SealError, SealedField, Sealer, StoreError, TenantStore as _},
    store::{Look, OpenError, SqliteFile, SqliteStore},
};

/// Tenants read at a time.
const STEP: u32 = 500;

const KEY: &str = "store.url";

/// Checks keyring and store; returns the tenants, if they can be read.
pub(super) async fn keyring_and_store(
    config: &Config,
    wanted: &BTreeSet<TenantName>,
    report: &mut Report,
    listeners: impl FnOnce(&mut Report),
) -> Option<Vec<Tenant>> {
    let looked = SqliteFile::look(store_path(config)).await;
    let active = match &looked {
        Ok(Look::Current { file, .. }) => file.active_key_id().await,
        _ => Ok(None),
    };
    let id = active.as_ref().ok().and_then(Option::as_deref);
    let keyring = setup::keyring(config, id, report);
    listeners(report);
    let path = store_path(config);
    let (file, schema) = match looked {
        Ok(Look::Current { file, schema }) => (file, schema),
        Ok(other) => {
            not_there_yet(&other, path, report);
            return None;
        }
        Err(error) => {
            // As `serve` has it: a folder that is not there is a mistake in the configuration.
            let missing = matches!(error, OpenError::FolderMissing { .. });
            let topic = if missing { Topic::Configuration } else { Topic::Store };
            report.add(Check::told(topic, State::Failed, &error.to_string()).at(KEY));
            return None;
        }
    };
    report.add(Check::ok(Topic::Store, format!("{} opens", path.display())).at(KEY));
    report.add(Check::ok(Topic::StoreSchema, format!("schema {schema}, the newest")).at(KEY));
    let opens = keyring.as_ref().and_then(sealer);
    let can_open = opens.is_some();
    let sealer = opens.unwrap_or_else(|| Arc::new(NoKeys));
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
        Some(_) => report.add(Check::skipped(
            Topic::SystemUserToken,
            "not opened: the keyring must be right first",
        )),
        None => {}
    }
    writable(&store, report).await;
    store.file().leave().await;
    tenants
}

fn not_there_yet(look: &Look, path: &Path, report: &mut Report) {
    let path = path.display();
    let check = match look {
        Look::Older { found, known } if *found > 0 => Check::warning(
            Topic::StoreSchema,
            format!("{path} has schema {found}; the next start brings it to {known}"),
            "back it up before that start; what is in it was not looked at",
        ),
        _ => Check::ok(Topic::Store, format!("{path} will be made at the first start")),
    };
    report.add(check.at(KEY));
}

fn sealer(keyring: &Keyring) -> Option<Arc<dyn Sealer>> {
    // Any key will do to open; nothing is sealed.
    let sealer = EnvelopeSealer::new(keyring, keyring.first_id()).ok()?;
    Some(Arc::new(sealer))
}

/// Stands in where the keyring cannot be used, so that what is not sealed can be read.
struct NoKeys;

impl Sealer for NoKeys {
    fn seal(&self, _: &SealedField<'_>, _: &SecretString) -> Result<Vec<u8>, SealError> {
        Err(SealError::Failed)
    }

    fn open(&self, _: &SealedField<'_>, _: &[u8]) -> Result<SecretString, SealError> {
        Err(SealError::Failed)
    }
}

fn unreadable(error: &StoreError) -> Check {
    let mend = "see whether disk and file are whole; else restore a backup";
    Check::failed(Topic::Store, error.to_string(), mend).at(KEY)
}

/// Whether each application id still means what it meant when the store was last used.
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
        if let Some(problem) = other_environment(index, application, &before) {
            report.add(Check::of_problem(Topic::Application, State::Failed, &problem));
        } else if before.client_id == application.client_id {
            let found = format!("{id} is what it was when the store was last used");
            report.add(Check::ok(Topic::Application, found).at(format!("applications[{index}]")));
        } else {
            let found = format!("{id} had another client id when the store was last used");
            let mend = "if it is another application, its stored tokens do not fit: set them anew";
            let place = format!("applications[{index}].client_id");
            report.add(Check::warning(Topic::Application, found, mend).at(place));
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

/// Opens each token and forgets it.
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
                let mend = match &error {
                    StoreError::Seal(SealError::KeyUnavailable(_)) => {
                        "bring the key back into the keyring, or set the token anew with `tenant-gateway tenant \
                         set-token`"
                    }
                    _ => {
                        "use the keyring that belongs to this store, or set the token anew with `tenant-gateway \
                         tenant set-token`"
                    }
                };
                let found = format!("the stored token does not open: {error}");
                report.add(Check::failed(Topic::SystemUserToken, found, mend).at(name));
            }
        }
    }
    if opened > 0 {
        let found = format!("{} opened", count(opened, "stored token"));
        report.add(Check::ok(Topic::SystemUserToken, found));
    }
}

async fn writable(store: &SqliteStore, report: &mut Report) {
    let check = match store.file().can_write().await {
        Ok(()) => Check::ok(Topic::StoreWritable, "takes writes"),
        Err(error) => Check::failed(
            Topic::StoreWritable,
            error.to_string(),
            "let the user of this process write the file and its folder, and end what holds its lock",
        ),
    };
    report.add(check.at(KEY));
}
