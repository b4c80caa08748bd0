//! `grant`: what people gave, on the store itself. A running server notices within a second.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{
    ConfigOption, Failed,
    output::{Format, OutputOption, print, print_json, table},
    say,
    tenant::{os_user, tenant_name},
    trail,
};
use crate::{
    access::{Access, Authorized, Caller, ManageGrants},
    app::{StartError, Storage, connected, impersonation},
    broker::{Applications, BrokerError, Impersonation},
    config::Config,
    domain::{
        ApplicationId, Filter, GRANT_FIELDS, Grant, GrantName, GrantScope, ListedGrant, TenantName,
    },
    ports::{GrantStore as _, StoreWatch as _, SystemClock},
};

/// Grants read from the store at a time.
const LIST_STEP: u32 = 500;

#[derive(Debug, clap::Subcommand)]
pub(super) enum GrantCommand {
    /// List who lets the gateway act as them, and whether that works.
    #[command(
        after_help = "Examples:\n  tenant-gateway grant list --tenant Cust12345\n  tenant-gateway grant list --filter 'state = CONSENT_REQUIRED' --output json"
    )]
    List(ListOptions),
    /// Stop acting as a person, at once and until the person consents again.
    ///
    /// SuperOffice is told, too. If it does not hear it now, a running server goes on trying.
    #[command(
        after_help = "Example:\n  tenant-gateway grant revoke applications/crm-sync/tenants/Cust12345/grants/0f3a…"
    )]
    Revoke {
        /// The grant, by the name that `grant list` prints.
        name: String,
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ListOptions {
    /// Only those of this tenant: applications/crm-sync/tenants/Cust12345, or Cust12345 where one application is
    /// configured or named.
    #[arg(long)]
    tenant: Option<String>,
    /// Only those of this application.
    #[arg(long)]
    application: Option<ApplicationId>,
    /// Only those that match: a filter as `ListGrants` takes it.
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    output: OutputOption,
}

pub(super) async fn run(command: GrantCommand) -> Result<(), Failed> {
    match command {
        GrantCommand::List(options) => list(options).await,
        GrantCommand::Revoke { name, config, output } => revoke(&name, &config, output).await,
    }
}

async fn list(options: ListOptions) -> Result<(), Failed> {
    let ListOptions { tenant, application, filter, config, output } = options;
    let config = config.load()?;
    let filter = Filter::parse(&filter, GRANT_FIELDS)
        .map_err(|error| Failed::Usage(format!("--filter: {error}")))?;
    let tenant =
        tenant.map(|text| tenant_name(&text, application.as_ref(), &config)).transpose()?;
    let (resource, scopes) = scopes(&config, tenant, application);
    let storage = Storage::open(&config).await?;
    let listed = match configured(&config, &scopes) {
        Ok(()) => {
            match trail::record(&storage, "grant.list", &resource, trail::Outcome::DONE).await {
                Ok(()) => read_all(&storage, &scopes, &filter).await.map_err(Failed::from),
                Err(failed) => Err(failed),
            }
        }
        Err(error) => {
            let outcome = trail::Outcome::failed(&error);
            trail::record(&storage, "grant.list", &resource, outcome).await.and(Err(error.into()))
        }
    };
    storage.store.close().await;
    let grants = listed?;
    match output.output {
        Format::Json => print_json(&grants.iter().map(as_json).collect()),
        Format::Text => {
            let rows: Vec<_> = grants.iter().map(row).collect();
            print(&table(&["GRANT", "ASSOCIATE", "USER", "STATE", "LAST REFRESH"], &rows))
        }
    }
}

/// What a list is over: its name in the audit trail, and its parts.
fn scopes(
    config: &Config,
    tenant: Option<TenantName>,
    application: Option<ApplicationId>,
) -> (String, Vec<GrantScope>) {
    match (tenant, application) {
        (Some(tenant), _) => (tenant.to_string(), vec![GrantScope::Tenant(tenant)]),
        (None, Some(id)) => (format!("applications/{id}"), vec![GrantScope::Application(id)]),
        (None, None) => {
            let ids = config.applications.iter().map(|application| application.id.clone());
            ("gateway".to_owned(), ids.map(GrantScope::Application).collect())
        }
    }
}

fn configured(config: &Config, scopes: &[GrantScope]) -> Result<(), BrokerError> {
    let known = |id: &ApplicationId| config.applications.iter().any(|known| known.id == *id);
    let ids = scopes.iter().map(|scope| match scope {
        GrantScope::Application(id) => id,
        GrantScope::Tenant(tenant) => &tenant.application,
    });
    let unknown = ids.into_iter().find(|id| !known(id));
    unknown.map_or(Ok(()), |id| Err(BrokerError::ApplicationNotConfigured(id.clone())))
}

async fn read_all(
    storage: &Storage,
    scopes: &[GrantScope],
    filter: &Filter,
) -> Result<Vec<Grant>, BrokerError> {
    let mut all = Vec::new();
    for scope in scopes {
        let mut after = None;
        loop {
            let step = storage.store.list(scope, after.as_ref(), LIST_STEP).await?;
            let end = step.len() < LIST_STEP as usize;
            after = step.last().map(|grant| grant.name.clone());
            all.extend(step.into_iter().filter(|grant| filter.matches(&ListedGrant::new(grant))));
            if end {
                break;
            }
        }
    }
    Ok(all)
}

async fn revoke(name: &str, options: &ConfigOption, output: OutputOption) -> Result<(), Failed> {
    let name: GrantName =
        name.parse().map_err(|error| Failed::Usage(format!("{}: {error}", name.escape_debug())))?;
    let config = options.load()?;
    // A secret that cannot be read must not keep a grant from being revoked here.
    let applications = connect(options).unwrap_or_else(|error| {
        say(&format!("warning: SuperOffice cannot be told from here: {error}"));
        Applications::default()
    });
    let caller = Caller::command_line(&os_user());
    let access = Access::command_line(caller.clone(), Arc::new(SystemClock));
    let authorized = access.authorize(&caller, name.tenant.clone()).map_err(Failed::other)?;
    let storage = Storage::open(&config).await?;
    let tasks = TaskTracker::new();
    let grants = impersonation(&storage, applications, config.tenants.max_stale_status, &tasks);
    let ready = match storage.store.get(&name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(BrokerError::GrantNotFound(name.to_string())),
        Err(error) => Err(error.into()),
    };
    let act = end(&storage, &grants, &authorized, &name);
    let revoked = trail::change(&storage, "grant.revoke", &name.to_string(), ready, act).await;
    tasks.close();
    tasks.wait().await;
    storage.store.close().await;
    let grant = revoked?;
    match output.output {
        Format::Json => print_json(&as_json(&grant)),
        Format::Text if grant.revocation_pending => print(&format!(
            "{name} is revoked here; SuperOffice is still to be told, which a running server does"
        )),
        Format::Text => print(&format!("{name} is revoked, here and at SuperOffice")),
    }
}

fn connect(options: &ConfigOption) -> Result<Applications, StartError> {
    let loaded = Config::load_with_secrets(&options.config)?;
    connected(&loaded.config, &loaded.secrets)
}

/// Revokes here, then at SuperOffice if it can be reached.
async fn end(
    storage: &Storage,
    grants: &Impersonation,
    authorized: &Authorized<ManageGrants, TenantName>,
    name: &GrantName,
) -> Result<Grant, BrokerError> {
    let revoked = grants.revoke(authorized, &name.grant).await?;
    if let Err(error) = grants.revoke_upstream(name).await {
        let cause = error.cause().map_or_else(|| error.message(), str::to_owned);
        say(&format!("warning: SuperOffice did not hear it: {cause}"));
    }
    let now = storage.store.get(name).await?;
    Ok(now.unwrap_or_else(|| Arc::unwrap_or_clone(revoked)))
}

fn as_json(grant: &Grant) -> Value {
    let failure = grant.last_failure.map(|failure| {
        let obstacle = failure.obstacle();
        json!({
            "reason": obstacle.reason.as_str(),
            "message": obstacle.message,
            "mend": obstacle.mend,
            "time": failure.time.to_string(),
        })
    });
    json!({
        "name": grant.name.to_string(),
        "associate_id": grant.associate_id.get(),
        "user_principal_name": grant.user_principal_name,
        "full_name": grant.full_name,
        "state": grant.state.as_str(),
        "create_time": grant.create_time.to_string(),
        "last_refresh_time": grant.last_refresh_time.map(|time| time.to_string()),
        "last_failure": failure,
        "failure_count": grant.failing.map_or(0, |failing| failing.count),
        "failing_since": grant.failing.map(|failing| failing.since.to_string()),
        "revocation_pending": grant.revocation_pending,
        "etag": grant.etag(),
    })
}

fn row(grant: &Grant) -> Vec<String> {
    let pending = if grant.revocation_pending { ", SuperOffice not told" } else { "" };
    vec![
        grant.name.to_string(),
        grant.associate_id.to_string(),
        grant.user_principal_name.clone(),
        format!("{}{pending}", grant.state),
        grant.last_refresh_time.map_or_else(|| "never".to_owned(), |time| time.to_string()),
    ]
}
