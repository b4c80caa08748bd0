//! `grant`: works directly on the store. A running server notices changes within a second.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    CommandError, ConfigOption,
    os_user::os_user,
    output::{Format, OutputOption, print, print_json, table},
    print_stderr,
    tenant::tenant_name,
    trail,
};
use crate::{
    access::{Access, Authorized, Caller, ManageGrants},
    app::{Runtime, StartError, Storage, connect_applications, impersonation},
    broker::{Applications, BrokerError, Impersonation},
    config::Config,
    domain::{
        ApplicationId, Filter, GRANT_FIELDS, Grant, GrantName, GrantScope, ListedGrant, TenantName,
    },
    ports::{GrantStore as _, SystemClock},
};

/// The number of grants that are read from the store at a time.
const LIST_STEP: u32 = 500;

#[derive(Debug, clap::Subcommand)]
pub(super) enum GrantCommand {
    /// List the grants with which the gateway acts as people, and their states.
    #[command(
        after_help = "Examples:\n  tenant-gateway grant list --tenant Cust12345\n  tenant-gateway grant list --filter 'state = CONSENT_REQUIRED' --output json"
    )]
    List(ListOptions),
    /// Stop acting as a person, immediately and until the person consents again.
    ///
    /// The refresh token is also revoked at SuperOffice. If that fails now, a running server retries.
    #[command(
        after_help = "Example:\n  tenant-gateway grant revoke applications/crm-sync/tenants/Cust12345/grants/0f3a…"
    )]
    Revoke {
        /// The name of the grant, as `grant list` prints it.
        name: String,
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: OutputOption,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ListOptions {
    /// List only grants of this tenant: applications/crm-sync/tenants/Cust12345, or Cust12345 if one application is
    /// configured or named.
    #[arg(long)]
    tenant: Option<String>,
    /// List only grants of this application.
    #[arg(long)]
    application: Option<ApplicationId>,
    /// List only grants that match this filter; the syntax is that of `ListGrants`.
    #[arg(long, value_name = "FILTER", default_value = "")]
    filter: String,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    output: OutputOption,
}

pub(super) async fn run(command: GrantCommand) -> Result<(), CommandError> {
    match command {
        GrantCommand::List(options) => list(options).await,
        GrantCommand::Revoke { name, config, output } => revoke(&name, &config, output).await,
    }
}

async fn list(options: ListOptions) -> Result<(), CommandError> {
    let ListOptions { tenant, application, filter, config, output } = options;
    let config = config.load()?;
    let filter = Filter::parse(&filter, GRANT_FIELDS)
        .map_err(|error| CommandError::Usage(format!("--filter: {error}")))?;
    let tenant =
        tenant.map(|text| tenant_name(&text, application.as_ref(), &config)).transpose()?;
    let (resource, scopes) = scopes(&config, tenant, application);
    let storage = Storage::open(&config).await?;
    let listed = match configured(&config, &scopes) {
        Ok(()) => {
            match trail::record(&storage, "grant.list", &resource, trail::EventResult::SUCCESS)
                .await
            {
                Ok(()) => read_all(&storage, &scopes, &filter).await.map_err(CommandError::from),
                Err(failed) => Err(failed),
            }
        }
        Err(error) => {
            let outcome = trail::EventResult::failed(error.reason());
            trail::record(&storage, "grant.list", &resource, outcome).await.and(Err(error.into()))
        }
    };
    storage.close().await;
    let grants = listed?;
    match output.output {
        Format::Json => print_json(&grants.iter().map(as_json).collect()),
        Format::Text => {
            let rows: Vec<_> = grants.iter().map(row).collect();
            print(&table(&["GRANT", "ASSOCIATE", "USER", "STATE", "LAST REFRESH"], &rows))
        }
    }
}

/// Returns the resource name of a list for the audit trail, and its scopes.
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

async fn revoke(
    name: &str,
    options: &ConfigOption,
    output: OutputOption,
) -> Result<(), CommandError> {
    let name: GrantName = name
        .parse()
        .map_err(|error| CommandError::Usage(format!("{}: {error}", name.escape_debug())))?;
    let config = options.load()?;
    // The grant must be revoked in the store even if a secret cannot be read.
    let applications = connect(options).unwrap_or_else(|error| {
        print_stderr(&format!(
            "warning: the token cannot be revoked at SuperOffice from here: {error}"
        ));
        Applications::default()
    });
    let caller = Caller::command_line(&os_user());
    let access = Access::command_line(caller.clone(), Arc::new(SystemClock));
    let authorized = access.authorize(&caller, name.tenant.clone()).map_err(CommandError::other)?;
    let storage = Storage::open(&config).await?;
    let runtime = Runtime::system();
    let grants = impersonation(&storage, applications, config.tenants.max_stale_status, &runtime);
    let ready = match storage.store.get(&name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(BrokerError::GrantNotFound(name.to_string())),
        Err(error) => Err(error.into()),
    };
    let act = end(&storage, &grants, &authorized, &name);
    let revoked = trail::change(&storage, "grant.revoke", &name.to_string(), ready, act).await;
    runtime.tasks.close();
    runtime.tasks.wait().await;
    storage.close().await;
    let grant = revoked?;
    match output.output {
        Format::Json => print_json(&as_json(&grant)),
        Format::Text if grant.revocation_pending => print(&format!(
            "{name} is revoked here; a running server still has to revoke its token at SuperOffice"
        )),
        Format::Text => print(&format!("{name} is revoked, here and at SuperOffice")),
    }
}

fn connect(options: &ConfigOption) -> Result<Applications, StartError> {
    let loaded = Config::load_with_secrets(&options.config)?;
    connect_applications(&loaded.config, &loaded.secrets)
}

/// Revokes the grant in the store, then its token at SuperOffice if it can be reached.
async fn end(
    storage: &Storage,
    grants: &Impersonation,
    authorized: &Authorized<ManageGrants, TenantName>,
    name: &GrantName,
) -> Result<Grant, BrokerError> {
    let revoked = grants.revoke(authorized, &name.grant).await?;
    if let Err(error) = grants.revoke_upstream(name).await {
        let cause = error.cause().map_or_else(|| error.message(), str::to_owned);
        print_stderr(&format!("warning: the token could not be revoked at SuperOffice: {cause}"));
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
    let pending = if grant.revocation_pending { ", pending at SuperOffice" } else { "" };
    vec![
        grant.name.to_string(),
        grant.associate_id.to_string(),
        grant.user_principal_name.clone(),
        format!("{}{pending}", grant.state),
        grant.last_refresh_time.map_or_else(|| "never".to_owned(), |time| time.to_string()),
    ]
}
