//! `tenant`: the use cases of `TenantService`, directly on the store. A running server notices changes within a second.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::{
    CommandError, ConfigOption,
    os_user::os_user,
    output::{Format, OutputOption, print, print_json, table},
    print_stderr, trail,
};
use crate::{
    access::{Access, AccessError, Authorized, Caller, Gateway, ManageTenants},
    app::{Runtime, Storage},
    broker::{BrokerError, Page, TenantDirectory, Tenants},
    config::Config,
    domain::{
        ApplicationId, ContextIdentifier, Labels, SystemUserToken, Tenant, TenantName, file_text,
    },
};

/// The number of tenants that are read from the store at a time.
const LIST_STEP: u32 = 500;

/// The maximum size of a token file, which is more than any token.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant to an application.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant add applications/crm-sync/tenants/Cust12345 --label region=nordic"
    )]
    Add {
        #[command(flatten)]
        which: TenantArgs,
        /// A label, key=value; can be given several times.
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// List tenants.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant list --application crm-sync --output json"
    )]
    List {
        #[command(flatten)]
        config: ConfigOption,
        /// List only tenants of this application.
        #[arg(long)]
        application: Option<ApplicationId>,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Store the system user token of a tenant, from a file or standard input.
    ///
    /// It is never read from the command line, which other users of the machine can see.
    #[command(
        after_help = "Examples:\n  tenant-gateway tenant set-token applications/crm-sync/tenants/Cust12345 --token-file token.txt\n  pass show cust12345 | tenant-gateway tenant set-token applications/crm-sync/tenants/Cust12345"
    )]
    SetToken {
        #[command(flatten)]
        which: TenantArgs,
        /// The file that contains the token; without it, the token is read from standard input.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Stop issuing credentials of a tenant immediately; deletes nothing.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant disable applications/crm-sync/tenants/Cust12345"
    )]
    Disable(TenantArgs),
    /// Issue credentials of a disabled tenant again.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant enable applications/crm-sync/tenants/Cust12345"
    )]
    Enable(TenantArgs),
    /// Remove a tenant with its token and ticket for good.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant remove applications/crm-sync/tenants/Cust12345"
    )]
    Remove {
        #[command(flatten)]
        which: TenantArgs,
        /// Also remove a tenant that has grants, and revoke them.
        #[arg(long)]
        force: bool,
    },
}

/// The arguments that identify one tenant.
#[derive(Debug, clap::Args)]
pub(super) struct TenantArgs {
    /// The tenant: applications/crm-sync/tenants/Cust12345, or Cust12345 if one application is configured or named.
    tenant: String,
    /// The application, if the tenant is given only by its id.
    #[arg(long)]
    application: Option<ApplicationId>,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    output: OutputOption,
}

impl TenantArgs {
    fn name(&self, config: &Config) -> Result<TenantName, CommandError> {
        tenant_name(&self.tenant, self.application.as_ref(), config)
    }
}

/// Parses a full name, or the id of a tenant whose application is given or is the only one.
pub(super) fn tenant_name(
    text: &str,
    application: Option<&ApplicationId>,
    config: &Config,
) -> Result<TenantName, CommandError> {
    let wrong = |error: crate::domain::NameError| {
        CommandError::Usage(format!("{}: {error}", text.escape_debug()))
    };
    if text.contains('/') {
        let name: TenantName = text.parse().map_err(wrong)?;
        return match application {
            Some(other) if *other != name.application => Err(CommandError::Usage(format!(
                "{name} is not of --application {other}: correct one of the two, or remove --application"
            ))),
            _ => Ok(name),
        };
    }
    let tenant: ContextIdentifier = text.parse().map_err(wrong)?;
    let application = match (application, config.applications.as_slice()) {
        (Some(application), _) => application.clone(),
        (None, [only]) => only.id.clone(),
        (None, _) => {
            let message = format!(
                "several applications are configured: give the full name of {tenant}, applications/…/tenants/{tenant}"
            );
            return Err(CommandError::Usage(message));
        }
    };
    Ok(TenantName { application, tenant })
}

/// The use cases of tenants on the store, without a running gateway.
struct OfflineContext {
    storage: Storage,
    tenants: Tenants,
    access: Access,
    caller: Caller,
    tasks: TaskTracker,
}

impl OfflineContext {
    async fn open(config: &Config) -> Result<Self, CommandError> {
        let storage = Storage::open(config).await?;
        let runtime = Runtime::system();
        let directory = Arc::new(TenantDirectory::new(storage.store.clone(), &runtime));
        let ids = config.applications.iter().map(|application| application.id.clone()).collect();
        // A command has no caches that disabling a tenant must clear.
        let on_stop = Arc::new(|_: &TenantName| ());
        let tenants = Tenants::new(ids, directory, storage.store.clone(), on_stop, &runtime);
        let caller = Caller::command_line(&os_user());
        let access = Access::command_line(caller.clone(), runtime.clock);
        Ok(Self { storage, tenants, access, caller, tasks: runtime.tasks })
    }

    /// Checks that the tenant exists.
    async fn exists(&self, name: &TenantName) -> Result<(), BrokerError> {
        let denied = |refused: AccessError| BrokerError::Internal(refused.to_string().into());
        let authorized = self.access.authorize(&self.caller, name.clone()).map_err(denied)?;
        self.tenants.get(&authorized).await.map(drop)
    }

    /// Changes an existing tenant, and records the change in the audit trail.
    async fn change<T>(
        &self,
        command: &str,
        name: &TenantName,
        act: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, CommandError> {
        let ready = self.exists(name).await;
        trail::change(&self.storage, command, &name.to_string(), ready, act).await
    }

    fn manage(
        &self,
        name: TenantName,
    ) -> Result<Authorized<ManageTenants, TenantName>, CommandError> {
        self.access.authorize(&self.caller, name).map_err(CommandError::other)
    }

    async fn close(self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.storage.close().await;
    }
}

pub(super) async fn run(command: TenantCommand) -> Result<(), CommandError> {
    match command {
        TenantCommand::List { config, application, output } => {
            list(&config.load()?, application, output).await
        }
        TenantCommand::Add { which, labels } => add(&which, labels).await,
        TenantCommand::SetToken { which, token_file } => {
            set_token(&which, token_file.as_deref()).await
        }
        TenantCommand::Disable(which) => set_disabled(&which, true).await,
        TenantCommand::Enable(which) => set_disabled(&which, false).await,
        TenantCommand::Remove { which, force } => remove(&which, force).await,
    }
}

async fn add(which: &TenantArgs, labels: Vec<(String, String)>) -> Result<(), CommandError> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    let labels = Labels::new(labels)
        .map_err(|problem| CommandError::Usage(format!("--label: {problem}")))?;
    let context = OfflineContext::open(&config).await?;
    let authorized = context
        .access
        .authorize(&context.caller, name.application.clone())
        .map_err(CommandError::other)?;
    let ready = match context.exists(&name).await {
        Ok(()) => Err(BrokerError::TenantExists(name.clone())),
        Err(BrokerError::TenantNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    };
    let create = context.tenants.create(&authorized, name.tenant, labels);
    let added =
        trail::change(&context.storage, "tenant.add", &name.to_string(), ready, create).await;
    context.close().await;
    print_result(which, "added; store its token with `tenant-gateway tenant set-token`", &added?)
}

async fn set_token(which: &TenantArgs, token_file: Option<&Path>) -> Result<(), CommandError> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let token = SystemUserToken::new(&read_token(token_file)?)
        .map_err(|problem| CommandError::Usage(format!("the token {problem}")))?;
    let context = OfflineContext::open(&config).await?;
    let authorized = context.manage(name.clone())?;
    let set = context.tenants.set_system_user_token(&authorized, token);
    let set = context.change("tenant.set-token", &name, set).await;
    context.close().await;
    print_result(which, "has a new system user token", &set?)
}

async fn set_disabled(which: &TenantArgs, disabled: bool) -> Result<(), CommandError> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let context = OfflineContext::open(&config).await?;
    let authorized = context.manage(name.clone())?;
    let set = context.tenants.set_disabled(&authorized, disabled);
    let command = if disabled { "tenant.disable" } else { "tenant.enable" };
    let set = context.change(command, &name, set).await;
    context.close().await;
    print_result(which, if disabled { "is disabled" } else { "is enabled" }, &set?)
}

async fn remove(which: &TenantArgs, force: bool) -> Result<(), CommandError> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let context = OfflineContext::open(&config).await?;
    let authorized = context.manage(name.clone())?;
    let delete = context.tenants.delete(&authorized, None, force);
    let removed = context.change("tenant.remove", &name, delete).await;
    context.close().await;
    removed?;
    match which.output.output {
        Format::Json => print_json(&json!({ "name": name.to_string(), "removed": true })),
        Format::Text => print(&format!("{name} is removed, with its token and ticket")),
    }
}

async fn list(
    config: &Config,
    application: Option<ApplicationId>,
    output: OutputOption,
) -> Result<(), CommandError> {
    let context = OfflineContext::open(config).await?;
    let scope = application.as_ref().map(|id| format!("applications/{id}"));
    let scope = scope.as_deref().unwrap_or("gateway");
    let recorded =
        trail::record(&context.storage, "tenant.list", scope, trail::EventResult::SUCCESS).await;
    let listed = match recorded {
        Ok(()) => read_all(&context, application).await,
        Err(failed) => Err(failed),
    };
    context.close().await;
    let tenants = listed?;
    match output.output {
        Format::Json => print_json(&tenants.iter().map(as_json).collect()),
        Format::Text => {
            let rows: Vec<_> = tenants.iter().map(row).collect();
            print(&table(&["TENANT", "STATUS", "TOKEN", "ENABLED", "COMPANY"], &rows))
        }
    }
}

async fn read_all(
    context: &OfflineContext,
    application: Option<ApplicationId>,
) -> Result<Vec<Tenant>, CommandError> {
    let mut all: Vec<Tenant> = Vec::new();
    loop {
        let page = Page { after: all.last().map(|tenant| tenant.name.clone()), limit: LIST_STEP };
        let more = match &application {
            None => {
                let authorized = context
                    .access
                    .authorize(&context.caller, Gateway)
                    .map_err(CommandError::other)?;
                context.tenants.list_all(&authorized, page).await?
            }
            Some(application) => {
                let authorized = context
                    .access
                    .authorize(&context.caller, application.clone())
                    .map_err(CommandError::other)?;
                context.tenants.list_of_application(&authorized, page).await?
            }
        };
        let last = more.len() < LIST_STEP as usize;
        all.extend(more);
        if last {
            return Ok(all);
        }
    }
}

fn print_result(which: &TenantArgs, what: &str, tenant: &Tenant) -> Result<(), CommandError> {
    match which.output.output {
        Format::Json => print_json(&as_json(tenant)),
        Format::Text => print(&format!("{} {what}", tenant.name)),
    }
}

fn as_json(tenant: &Tenant) -> Value {
    json!({
        "name": tenant.name.to_string(),
        "status": tenant.last_status.as_ref().map(|status| status.state.as_str()),
        "has_system_user_token": tenant.has_system_user_token(),
        "disabled": tenant.disabled,
        "company_name": tenant.company_name,
        "labels": tenant.labels,
        "etag": tenant.etag(),
        "create_time": tenant.create_time.to_string(),
        "update_time": tenant.update_time.to_string(),
    })
}

fn row(tenant: &Tenant) -> Vec<String> {
    let status = tenant.last_status.as_ref().map_or("not asked", |status| status.state.as_str());
    vec![
        tenant.name.to_string(),
        status.to_owned(),
        if tenant.has_system_user_token() { "stored" } else { "none" }.to_owned(),
        if tenant.disabled { "no" } else { "yes" }.to_owned(),
        tenant.company_name.clone(),
    ]
}

fn read_token(file: Option<&Path>) -> Result<SecretString, CommandError> {
    let from = || file.map_or("standard input".to_owned(), |path| path.display().to_string());
    let text = token_text(file).map_err(|error| {
        CommandError::Usage(format!("the token cannot be read from {}: {error}", from()))
    })?;
    Ok(text.as_str().into())
}

fn token_text(file: Option<&Path>) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(path) = file {
        File::open(path)?.take(MAX_TOKEN_FILE_BYTES).read_to_end(&mut bytes)?;
    } else {
        let input = io::stdin();
        if input.is_terminal() {
            print_stderr("paste the system user token, then press Enter and Ctrl-D:");
        }
        input.lock().take(MAX_TOKEN_FILE_BYTES).read_to_end(&mut bytes)?;
    }
    let text =
        file_text(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
