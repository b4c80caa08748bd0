//! `check`: what is wrong, where, and how to mend it, before and beside `serve`.
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
    ConfigOption, Failed,
    output::{Format, OutputOption, print, print_json},
    tenant::tenant_name,
};
use crate::{
    app::{Surroundings, diagnoses},
    config::Config,
    domain::{Tenant, TenantName},
    outbound::Network,
};

/// What cannot be known.
const NO_EXCHANGE: &str = "whether SuperOffice takes client secrets, keys and system user tokens shows only when a \
     ticket is issued, which adds a row at the customer: not tried";

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// Ask nothing over the network.
    #[arg(long)]
    offline: bool,
    /// Only these tenants: applications/crm-sync/tenants/Cust12345, or Cust12345 where one application is configured.
    #[arg(long = "tenant", value_name = "NAME", num_args = 1..)]
    tenants: Vec<String>,
    #[command(flatten)]
    output: OutputOption,
}

pub(super) async fn run(options: &CheckOptions) -> Result<ExitCode, Failed> {
    let mut report = Report::default();
    check(options, &mut report).await?;
    match options.output.output {
        Format::Json => print_json(&report.as_json())?,
        Format::Text => print(&report.as_text(std::io::stdout().is_terminal()))?,
    }
    Ok(report.exit_code())
}

async fn check(options: &CheckOptions, report: &mut Report) -> Result<(), Failed> {
    let Some(config) = setup::configuration(&options.config.config, report) else {
        let found = "nothing else was looked at: the configuration must be right first";
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
        let found = "SuperOffice was not asked: --offline";
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
        let mend = "add it with `tenant-gateway tenant add`, or correct the name";
        let check = Check::failed(Topic::TenantStatus, "is not in the store", mend);
        report.add(check.at(name.to_string()));
    }
}

async fn superoffice(config: &Config, network: &Network, tenants: &[Tenant], report: &mut Report) {
    let diagnoses = diagnoses(config, &Surroundings::of_the_machine(), network);
    let mut ways = Vec::new();
    for (index, (application, diagnosis)) in config.applications.iter().zip(&diagnoses).enumerate()
    {
        let key = format!("applications[{index}]");
        let answers = login::check(&key, application, diagnosis, report).await;
        ways.push((&application.id, answers.then_some(diagnosis)));
    }
    tenants::check(config, &ways, tenants, report).await;
}
