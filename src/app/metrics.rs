//! The metrics that are read from the use cases: their counters, and gauges of their state.

use std::sync::Arc;

use super::{applications::LoginHosts, use_cases::UseCases};
use crate::{
    audit::{AuditCounters, RetentionCounters},
    broker::Counters,
    superoffice::LoginHost,
    telemetry::{MetricKind, ObservedMetric},
};

/// Returns the metrics of the use cases and of the login hosts.
pub(super) fn observed_metrics(
    use_cases: &UseCases,
    counters: &Arc<Counters>,
    login_hosts: LoginHosts,
) -> Vec<ObservedMetric> {
    let mut observed = counter_metrics(counters, use_cases.audit.trail.counters());
    observed.extend(audit_gauges(use_cases));
    observed.extend(cache_gauges(use_cases));
    observed.extend(login_host_gauges(login_hosts.into_values().collect()));
    observed
}

/// Returns the metrics of the retention of audit events.
pub(super) fn retention_metrics(counters: &Arc<RetentionCounters>) -> [ObservedMetric; 4] {
    let [by_age, by_size, bytes, max_bytes] = [(); 4].map(|()| Arc::clone(counters));
    [
        ObservedMetric {
            name: "audit_events_removed_by_age",
            help: "Audit events removed because they were older than audit.retention",
            kind: MetricKind::Counter,
            read: Box::new(move || to_i64(by_age.removed_by_age.get())),
        },
        ObservedMetric {
            name: "audit_events_removed_by_size",
            help: "Audit events removed because the journal took more space than audit.max_bytes",
            kind: MetricKind::Counter,
            read: Box::new(move || to_i64(by_size.removed_by_size.get())),
        },
        gauge("audit_journal_bytes", "Bytes of the audit journal", move || to_i64(bytes.bytes())),
        gauge(
            "audit_journal_max_bytes",
            "Bytes of the audit journal beyond which the oldest events are removed; 0 if unknown",
            move || to_i64(max_bytes.max_bytes()),
        ),
    ]
}

fn counter_metrics(counters: &Arc<Counters>, audit: &Arc<AuditCounters>) -> Vec<ObservedMetric> {
    macro_rules! metrics {
        ($($source:ident.$field:ident: $name:literal, $help:literal;)+) => {
            vec![$({
                let counters = Arc::clone($source);
                let read = Box::new(move || to_i64(counters.$field.get()));
                ObservedMetric { name: $name, help: $help, kind: MetricKind::Counter, read }
            }),+]
        };
    }
    metrics! {
        counters.ticket_hits: "ticket_cache_hits", "Calls answered with a ticket in memory";
        counters.ticket_misses: "ticket_cache_misses", "Calls that waited for a ticket";
        counters.exchanges: "exchanges", "Tickets that SuperOffice issued";
        counters.exchange_failures: "exchange_failures", "Exchanges that failed";
        counters.tickets_dropped: "tickets_dropped",
            "Tickets dropped because SuperOffice rejected them";
        counters.access_token_hits: "access_token_cache_hits",
            "Calls answered with an access token in memory";
        counters.access_token_misses: "access_token_cache_misses",
            "Calls that waited for an access token";
        counters.refreshes: "refreshes", "Refresh tokens exchanged for an access token";
        counters.refresh_failures: "refresh_failures", "Refreshes that failed";
        counters.retried_after_crash: "retried_after_crash",
            "Refresh tokens used a second time, because the outcome of the first use is unknown";
        counters.grants_broken: "grants_broken", "Grants that need a new consent";
        counters.access_tokens_dropped: "access_tokens_dropped",
            "Access tokens dropped because SuperOffice rejected them";
        counters.status_reads: "tenant_status_reads", "Tenant statuses read";
        counters.people_rows_left_out: "people_rows_left_out",
            "Rows about associates, user groups and roles that were left out because they have \
            no id";
        counters.people_rows_in_part: "people_rows_in_part",
            "Rows about associates, user groups and roles with a value that could not be read";
        counters.associate_hints: "associate_hints", "Webhooks about changed associates";
        audit.events: "audit_events", "Events written to the audit trail";
        audit.groups: "audit_groups", "Commits of audit events";
        audit.failures: "audit_failures", "Attempts to commit audit events that failed";
        audit.aggregated_denials: "audit_aggregated_denials",
            "Denials that have no audit event of their own: one event counts those of a minute";
        counters.web_api_calls: "web_api_calls",
            "Calls to the Web API of tenants, repeated ones included";
        counters.web_api_repeats: "web_api_repeats", "Calls to the Web API that were retried";
        counters.web_api_throttled: "web_api_throttled",
            "Answers of the Web API that asked for fewer calls (429)";
        counters.web_api_refused: "web_api_refused",
            "Calls to the Web API that were rejected because the tenant's call budget is used up \
            until their deadline";
        counters.status_failures: "tenant_status_failures",
            "Tenant statuses that could not be read";
        counters.audit_unreadable: "audit_unreadable_events",
            "Audit events that could not be read when they were listed; VerifyAuditLog names them";
    }
}

fn audit_gauges(use_cases: &UseCases) -> [ObservedMetric; 2] {
    let (queued, stalled) = (use_cases.audit.trail.clone(), use_cases.audit.trail.clone());
    [
        gauge("audit_queued", "Audit events that wait for the store", move || {
            count_to_i64(queued.queued())
        }),
        gauge(
            "audit_stalled",
            "1 while the audit trail is stalled and calls that need it are rejected",
            move || i64::from(stalled.stalled()),
        ),
    ]
}

fn cache_gauges(use_cases: &UseCases) -> [ObservedMetric; 5] {
    let (tickets, impersonation) = (use_cases.tickets.clone(), use_cases.impersonation.clone());
    let (associates, statuses) = (use_cases.associates.clone(), use_cases.statuses.clone());
    let web_api = use_cases.web_api.clone();
    [
        gauge("tickets_cached", "Tenants whose ticket is in memory", move || {
            count_to_i64(tickets.cached_count())
        }),
        gauge("access_tokens_cached", "Grants whose access token is in memory", move || {
            count_to_i64(impersonation.cached_count())
        }),
        gauge("associates_in_memory", "Associates in memory, over all tenants", move || {
            count_to_i64(associates.in_memory())
        }),
        gauge(
            "stale_tenant_statuses",
            "Tenants in use whose status has expired and cannot be read again",
            move || count_to_i64(statuses.stale().map_or(0, |stale| stale.tenants)),
        ),
        gauge(
            "web_api_waiting",
            "Calls to the Web API that wait for the tenant's rate limit",
            move || count_to_i64(web_api.waiting_calls()),
        ),
    ]
}

fn login_host_gauges(hosts: Vec<Arc<LoginHost>>) -> [ObservedMetric; 2] {
    let skewed = hosts.clone();
    [
        gauge(
            "login_clock_skew_seconds",
            "The largest difference between the clock of a login host and the gateway's clock",
            move || {
                let skews = skewed.iter().map(|host| host.clock_skew_seconds());
                skews.max_by_key(|skew| skew.abs()).unwrap_or_default()
            },
        ),
        gauge(
            "login_circuits_open",
            "Login hosts with an open circuit breaker because they do not answer",
            move || count_to_i64(hosts.iter().filter(|host| host.circuit_is_open()).count()),
        ),
    ]
}

fn gauge(
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> i64 + Send + Sync + 'static,
) -> ObservedMetric {
    ObservedMetric { name, help, kind: MetricKind::Gauge, read: Box::new(read) }
}

fn count_to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
