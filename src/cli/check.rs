//! `check`: finds problems and their solutions, before or while `serve` runs.
//!
//! Changes nothing and issues no ticket. Texts from SuperOffice are compared and never shown.

mod callers;
mod listeners;
mod login;
mod report;
mod setup;
mod store;
mod tenants;

use std::{collections::BTreeSet, io::IsTerminal as _, process::ExitCode};

use self::report::{Check, Report, Topic};
use super::{
    CommandError, ConfigOption,
    output::{Format, OutputOption, print, print_json},
    tenant::tenant_name,
};
use crate::{
    app::{Runtime, login_host_diagnoses},
    config::Config,
    domain::{Tenant, TenantName},
    outbound::Network,
};

/// The message about the check that is never made.
const NO_EXCHANGE: &str = "whether SuperOffice accepts client secrets, keys and system user tokens is known only when \
     a ticket is issued, which adds a row to the customer's database: not checked";

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Make no network requests.
    #[arg(long)]
    offline: bool,
    /// Check only these tenants: applications/crm-sync/tenants/Cust12345, or Cust12345 if one application is
    /// configured.
    #[arg(long = "tenant", value_name = "NAME", num_args = 1..)]
    tenants: Vec<String>,
    #[command(flatten)]
    output: OutputOption,
}

pub(super) async fn run(options: &CheckOptions) -> Result<ExitCode, CommandError> {
    let mut report = Report::default();
    check(options, &mut report).await?;
    match options.output.output {
        Format::Json => print_json(&report.as_json())?,
        Format::Text => print(&report.as_text(std::io::stdout().is_terminal()))?,
    }
    Ok(report.exit_code())
}

async fn check(options: &CheckOptions, report: &mut Report) -> Result<(), CommandError> {
    let Some(config) = setup::configuration(&options.config.config, report) else {
        let found = "nothing else was checked: fix the configuration first";
        report.add(Check::skipped(Topic::Configuration, found));
        return Ok(());
    };
    let wanted = options.tenants.iter().map(|name| tenant_name(name, None, &config));
    let wanted: BTreeSet<_> = wanted.collect::<Result<_, _>>()?;
    setup::secrets(&config, report);
    setup::tls(&config, report);
    callers::policy(&config, report);
    let network = setup::network(&config, report);
    if let Some(network) = &network {
        callers::callers(&config, options.offline, network, report).await;
    }
    let listeners = |report: &mut Report| listeners::check(&config, report);
    let tenants = store::keyring_and_store(&config, &wanted, report, listeners).await;
    if let Some(tenants) = &tenants {
        missing(&wanted, tenants, report);
    }
    if options.offline {
        let found = "SuperOffice was not checked: --offline";
        report.add(Check::skipped(Topic::LoginHost, found));
    } else if let Some(network) = &network {
        superoffice(&config, network, &tenants.unwrap_or_default(), report).await;
    }
    report.add(Check::skipped(Topic::Exchange, NO_EXCHANGE));
    Ok(())
}

fn missing(wanted: &BTreeSet<TenantName>, tenants: &[Tenant], report: &mut Report) {
    let there: BTreeSet<_> = tenants.iter().map(|tenant| &tenant.name).collect();
    for name in wanted.iter().filter(|name| !there.contains(name)) {
        let remedy = "add it with `tenant-gateway tenant add`, or correct the name";
        let check = Check::failed(Topic::TenantStatus, "is not in the store", remedy);
        report.add(check.at(name.to_string()));
    }
}

async fn superoffice(config: &Config, network: &Network, tenants: &[Tenant], report: &mut Report) {
    let diagnoses = login_host_diagnoses(config, &Runtime::system(), network);
    let mut ways = Vec::new();
    for (index, (application, diagnosis)) in config.applications.iter().zip(&diagnoses).enumerate()
    {
        let key = format!("applications[{index}]");
        let answers = login::check(&key, application, diagnosis, report).await;
        ways.push((&application.id, answers.then_some(diagnosis)));
    }
    tenants::check(config, &ways, tenants, report).await;
}
