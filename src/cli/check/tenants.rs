//! Checks of the status of each tenant at SuperOffice.

use std::io::IsTerminal as _;

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Check, Report, Topic};
use crate::{
    config::Config,
    domain::{ApplicationId, Tenant, TenantState, TenantStatus, Usability},
    ports::{TenantStatusSource as _, UpstreamError},
    superoffice::LoginHostCheck,
};

/// The number of tenants from which a progress bar is shown on a terminal.
const PROGRESS_BAR_THRESHOLD: usize = 50;

/// An application and the client for its login host; `None` if the host does not answer.
pub(super) type LoginHostOf<'a> = (&'a ApplicationId, Option<&'a LoginHostCheck>);

/// Reads the status of each tenant, with the same concurrency as the gateway.
pub(super) async fn check(
    config: &Config,
    ways: &[LoginHostOf<'_>],
    tenants: &[Tenant],
    report: &mut Report,
) {
    let bar = bar(tenants.len());
    let at_a_time = usize::try_from(config.login.max_concurrent).unwrap_or(usize::MAX).max(1);
    let checks = stream::iter(tenants).map(|tenant| {
        let bar = &bar;
        async move {
            let check = one(ways, tenant).await;
            bar.inc(1);
            check
        }
    });
    // `buffered` keeps the order of the tenants.
    let mut checks = checks.buffered(at_a_time);
    while let Some(check) = checks.next().await {
        report.add(check);
    }
    bar.finish_and_clear();
}

/// Returns a progress bar on standard error; hidden if that is not a terminal.
fn bar(tenants: usize) -> ProgressBar {
    if tenants < PROGRESS_BAR_THRESHOLD || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(tenants as u64).with_message("tenant status");
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn one(ways: &[LoginHostOf<'_>], tenant: &Tenant) -> Check {
    let name = &tenant.name;
    let way = ways.iter().find(|(id, _)| **id == name.application);
    let check = match way {
        None => Check::warning(
            Topic::TenantStatus,
            "its application is not configured",
            "configure the application, or remove the tenant",
        ),
        Some(_) if tenant.disabled => Check::skipped(
            Topic::TenantStatus,
            "disabled; `tenant-gateway tenant enable` enables it",
        ),
        Some((_, None)) => {
            Check::skipped(Topic::TenantStatus, "not checked: the login host does not answer")
        }
        Some((_, Some(diagnosis))) => match diagnosis.read(name.tenant).await {
            Ok(status) => known(&status),
            Err(error) => unread(&error),
        },
    };
    check.at(name.to_string())
}

fn known(status: &TenantStatus) -> Check {
    let state = status.state;
    match (&status.web_api_uri, state.usability()) {
        (Some(uri), Usability::Usable) => {
            Check::ok(Topic::TenantStatus, format!("{}, {uri}", state.as_str()))
        }
        _ if state == TenantState::Unknown => Check::failed(
            Topic::TenantStatus,
            "SuperOffice does not know it in this environment",
            "check the tenant's id and the application's environment; remove the tenant if it was deleted",
        ),
        (_, usability) => {
            let remedy = match (state, usability) {
                (TenantState::Suspended, _) => {
                    "the customer's subscription is suspended; SuperOffice resumes it"
                }
                (_, Usability::RetryAfter(_)) => "wait; the tenant becomes available by itself",
                (_, _) => "ask SuperOffice or the customer; remove the tenant if it was deleted",
            };
            Check::warning(Topic::TenantStatus, format!("{}: no tickets", state.as_str()), remedy)
        }
    }
}

fn unread(error: &UpstreamError) -> Check {
    let remedy = match error {
        UpstreamError::InvalidResponse(_) => {
            "check whether the tenant's Web API is under allowed_api_hosts, and whether another host answers as the login host"
        }
        _ => "try again later; if the error persists, see https://status.superoffice.com",
    };
    Check::failed(Topic::TenantStatus, error.to_string(), remedy)
}
