//! `tenant`: the same use cases as `TenantService`, on the store itself. A running server notices within a second.

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
    ConfigOption, Failed,
    output::{Format, OutputOption, print, print_json, table},
    say, trail,
};
use crate::{
    access::{Access, Authorized, Caller, Gateway, ManageTenants, Refused},
    app::Storage,
    broker::{BrokerError, Directory, Page, Tenants},
    config::Config,
    domain::{
        ApplicationId, ContextIdentifier, Labels, SystemUserToken, Tenant, TenantName, file_text,
    },
    ports::{StoreWatch as _, SystemClock},
};

/// Tenants read from the store at a time.
const LIST_STEP: u32 = 500;

/// More than any token; what is longer is another file.
const MAX_TOKEN_FILE_BYTES: u64 = 64 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant to an application.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant add applications/crm-sync/tenants/Cust12345 --label region=nordic"
    )]
    Add {
        #[command(flatten)]
        which: Which,
        /// A label, key=value; may be given several times.
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
        /// Only those of this application.
        #[arg(long)]
        application: Option<ApplicationId>,
        #[command(flatten)]
        output: OutputOption,
    },
    /// Store the system user token of a tenant, from a file or standard input.
    ///
    /// Never from the command line: other users of the machine can read that.
    #[command(
        after_help = "Examples:\n  tenant-gateway tenant set-token applications/crm-sync/tenants/Cust12345 --token-file token.txt\n  pass show cust12345 | tenant-gateway tenant set-token applications/crm-sync/tenants/Cust12345"
    )]
    SetToken {
        #[command(flatten)]
        which: Which,
        /// The file that holds the token; without it, standard input is read.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Stop handing out credentials of a tenant at once; deletes nothing.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant disable applications/crm-sync/tenants/Cust12345"
    )]
    Disable(Which),
    /// Lift the stop.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant enable applications/crm-sync/tenants/Cust12345"
    )]
    Enable(Which),
    /// Remove a tenant with its token and ticket; they cannot be had back.
    #[command(
        after_help = "Example:\n  tenant-gateway tenant remove applications/crm-sync/tenants/Cust12345"
    )]
    Remove {
        #[command(flatten)]
        which: Which,
        /// Also where people have given grants; they are revoked.
        #[arg(long)]
        force: bool,
    },
}

/// Names one tenant.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The tenant: applications/crm-sync/tenants/Cust12345, or Cust12345 where one application is configured or
    /// named.
    tenant: String,
    /// The application, where the tenant is given by its id alone.
    #[arg(long)]
    application: Option<ApplicationId>,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    output: OutputOption,
}

impl Which {
    fn name(&self, config: &Config) -> Result<TenantName, Failed> {
        tenant_name(&self.tenant, self.application.as_ref(), config)
    }
}

/// Reads a full name, or the id of a tenant whose application is given or the only one.
pub(super) fn tenant_name(
    text: &str,
    application: Option<&ApplicationId>,
    config: &Config,
) -> Result<TenantName, Failed> {
    let wrong = |error: crate::domain::NameError| {
        Failed::Usage(format!("{}: {error}", text.escape_debug()))
    };
    if text.contains('/') {
        let name: TenantName = text.parse().map_err(wrong)?;
        return match application {
            Some(other) if *other != name.application => Err(Failed::Usage(format!(
                "{name} is not of --application {other}: correct one of the two, or leave --application out"
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
            return Err(Failed::Usage(message));
        }
    };
    Ok(TenantName { application, tenant })
}

/// The use cases over the store, without the rest of the gateway.
struct Desk {
    storage: Storage,
    tenants: Tenants,
    access: Access,
    caller: Caller,
    tasks: TaskTracker,
}

impl Desk {
    async fn open(config: &Config) -> Result<Self, Failed> {
        let storage = Storage::open(config).await?;
        let tasks = TaskTracker::new();
        let directory = Arc::new(Directory::new(storage.store.clone(), tasks.clone()));
        let ids = config.applications.iter().map(|application| application.id.clone()).collect();
        let clock = Arc::new(SystemClock);
        let tenants = Tenants::new(ids, directory, storage.store.clone(), clock, tasks.clone());
        let caller = Caller::command_line(&os_user());
        let access = Access::command_line(caller.clone(), Arc::new(SystemClock));
        Ok(Self { storage, tenants, access, caller, tasks })
    }

    /// Whether there is such a tenant.
    async fn exists(&self, name: &TenantName) -> Result<(), BrokerError> {
        let denied = |refused: Refused| BrokerError::Internal(refused.to_string().into());
        let authorized = self.access.authorize(&self.caller, name.clone()).map_err(denied)?;
        self.tenants.get(&authorized).await.map(drop)
    }

    /// Does something to a tenant that exists.
    async fn change<T>(
        &self,
        command: &str,
        name: &TenantName,
        act: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, Failed> {
        let ready = self.exists(name).await;
        trail::change(&self.storage, command, &name.to_string(), ready, act).await
    }

    fn manage(&self, name: TenantName) -> Result<Authorized<ManageTenants, TenantName>, Failed> {
        self.access.authorize(&self.caller, name).map_err(Failed::other)
    }

    async fn close(self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.storage.store.close().await;
    }
}

pub(super) async fn run(command: TenantCommand) -> Result<(), Failed> {
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

async fn add(which: &Which, labels: Vec<(String, String)>) -> Result<(), Failed> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    let labels =
        Labels::new(labels).map_err(|problem| Failed::Usage(format!("--label: {problem}")))?;
    let desk = Desk::open(&config).await?;
    let authorized =
        desk.access.authorize(&desk.caller, name.application.clone()).map_err(Failed::other)?;
    let ready = match desk.exists(&name).await {
        Ok(()) => Err(BrokerError::TenantExists(name.clone())),
        Err(BrokerError::TenantNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    };
    let create = desk.tenants.create(&authorized, name.tenant, labels);
    let added = trail::change(&desk.storage, "tenant.add", &name.to_string(), ready, create).await;
    desk.close().await;
    tell(which, "added; give it a token with `tenant-gateway tenant set-token`", &added?)
}

async fn set_token(which: &Which, token_file: Option<&Path>) -> Result<(), Failed> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let token = SystemUserToken::new(&read_token(token_file)?)
        .map_err(|problem| Failed::Usage(format!("the token {problem}")))?;
    let desk = Desk::open(&config).await?;
    let authorized = desk.manage(name.clone())?;
    let set = desk.tenants.set_system_user_token(&authorized, token);
    let set = desk.change("tenant.set-token", &name, set).await;
    desk.close().await;
    tell(which, "has a new system user token", &set?)
}

async fn set_disabled(which: &Which, disabled: bool) -> Result<(), Failed> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let desk = Desk::open(&config).await?;
    let authorized = desk.manage(name.clone())?;
    let set = desk.tenants.set_disabled(&authorized, disabled);
    let command = if disabled { "tenant.disable" } else { "tenant.enable" };
    let set = desk.change(command, &name, set).await;
    desk.close().await;
    tell(which, if disabled { "is disabled" } else { "is enabled" }, &set?)
}

async fn remove(which: &Which, force: bool) -> Result<(), Failed> {
    let config = which.config.load()?;
    let name = which.name(&config)?;
    let desk = Desk::open(&config).await?;
    let authorized = desk.manage(name.clone())?;
    let delete = desk.tenants.delete(&authorized, None, force);
    let removed = desk.change("tenant.remove", &name, delete).await;
    desk.close().await;
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
) -> Result<(), Failed> {
    let desk = Desk::open(config).await?;
    let scope = application.as_ref().map(|id| format!("applications/{id}"));
    let scope = scope.as_deref().unwrap_or("gateway");
    let recorded = trail::record(&desk.storage, "tenant.list", scope, trail::Outcome::DONE).await;
    let listed = match recorded {
        Ok(()) => read_all(&desk, application).await,
        Err(failed) => Err(failed),
    };
    desk.close().await;
    let tenants = listed?;
    match output.output {
        Format::Json => print_json(&tenants.iter().map(as_json).collect()),
        Format::Text => {
            let rows: Vec<_> = tenants.iter().map(row).collect();
            print(&table(&["TENANT", "STATUS", "TOKEN", "ENABLED", "COMPANY"], &rows))
        }
    }
}

async fn read_all(desk: &Desk, application: Option<ApplicationId>) -> Result<Vec<Tenant>, Failed> {
    let mut all: Vec<Tenant> = Vec::new();
    loop {
        let page = Page { after: all.last().map(|tenant| tenant.name.clone()), limit: LIST_STEP };
        let more = match &application {
            None => {
                let authorized =
                    desk.access.authorize(&desk.caller, Gateway).map_err(Failed::other)?;
                desk.tenants.list_all(&authorized, page).await?
            }
            Some(application) => {
                let authorized = desk
                    .access
                    .authorize(&desk.caller, application.clone())
                    .map_err(Failed::other)?;
                desk.tenants.list_of_application(&authorized, page).await?
            }
        };
        let last = more.len() < LIST_STEP as usize;
        all.extend(more);
        if last {
            return Ok(all);
        }
    }
}

fn tell(which: &Which, what: &str, tenant: &Tenant) -> Result<(), Failed> {
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

fn read_token(file: Option<&Path>) -> Result<SecretString, Failed> {
    let from = || file.map_or("standard input".to_owned(), |path| path.display().to_string());
    let text = token_text(file).map_err(|error| {
        Failed::Usage(format!("the token cannot be read from {}: {error}", from()))
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
            say("paste the system user token, then press Enter and Ctrl-D:");
        }
        input.lock().take(MAX_TOKEN_FILE_BYTES).read_to_end(&mut bytes)?;
    }
    let text =
        file_text(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("wanted KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Who is at the command line, for the audit trail. Taken from the account that runs the process, which an
/// environment variable could misstate.
pub(super) fn os_user() -> String {
    let id = rustix::process::getuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {id}"))
}
