//! The tenants: whether SuperOffice lets them be used.

use std::io::IsTerminal as _;

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use super::report::{Check, Report, Topic};
use crate::{
    config::Config,
    domain::{ApplicationId, Tenant, TenantState, TenantStatus, Usability},
    ports::{TenantStatusSource as _, UpstreamError},
    superoffice::Diagnosis,
};

/// From so many tenants on, a person at a terminal wants to see how far it is.
const WORTH_A_BAR: usize = 50;

/// An application's way to its login host; none if that does not answer.
pub(super) type Way<'a> = (&'a ApplicationId, Option<&'a Diagnosis>);

/// Asks for the status of each tenant, as many at a time as the gateway itself would.
pub(super) async fn check(
    config: &Config,
    ways: &[Way<'_>],
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
    // In the order of the tenants.
    let mut checks = checks.buffered(at_a_time);
    while let Some(check) = checks.next().await {
        report.add(check);
    }
    bar.finish_and_clear();
}

/// On standard error, and only where somebody sees it.
fn bar(tenants: usize) -> ProgressBar {
    if tenants < WORTH_A_BAR || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(tenants as u64).with_message("tenant status");
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

async fn one(ways: &[Way<'_>], tenant: &Tenant) -> Check {
    let name = &tenant.name;
    let way = ways.iter().find(|(id, _)| **id == name.application);
    let check = match way {
        None => Check::warning(
            Topic::TenantStatus,
            "its application is not configured",
            "configure the application, or remove the tenant",
        ),
        Some(_) if tenant.disabled => {
            Check::skipped(Topic::TenantStatus, "disabled; `tenant-gateway tenant enable` lifts it")
        }
        Some((_, None)) => {
            Check::skipped(Topic::TenantStatus, "not asked: the login host does not answer")
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
            "compare the tenant's id and the application's environment; remove it if it is gone",
        ),
        (_, usability) => {
            let mend = match (state, usability) {
                (TenantState::Suspended, _) => {
                    "the customer's subscription is suspended; SuperOffice resumes it"
                }
                (_, Usability::ComesBack(_)) => "wait; it comes back by itself",
                (_, _) => "ask SuperOffice or the customer; remove it if it is gone for good",
            };
            Check::warning(Topic::TenantStatus, format!("{}: no tickets", state.as_str()), mend)
        }
    }
}

fn unread(error: &UpstreamError) -> Check {
    let mend = match error {
        UpstreamError::InvalidResponse(_) => {
            "see whether the tenant's Web API is under allowed_api_hosts, and what answers as the login host"
        }
        _ => "try again; see https://status.superoffice.com if it lasts",
    };
    Check::failed(Topic::TenantStatus, error.to_string(), mend)
}
