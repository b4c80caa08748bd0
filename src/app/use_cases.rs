//! Builds the use cases and connects them.

use std::sync::{Arc, OnceLock, Weak};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Runtime, Storage, applications::LoginHosts, consents::policy_recheck};
use crate::{
    access::Access,
    broker::{
        Applications, AssociateHints, AssociateRules, Associates, AuditLog, ConsentStores,
        Consents, Counters, Durability, Egress, Explanations, GrantStores, Impersonation,
        Retention, StateHints, Statuses, StoppedTenants, TenantDirectory, TenantSearch, Tenants,
        TicketRules, TicketStores, Tickets, Trail, TrailPorts, TrailRules, UnauthenticatedAttempts,
        UsedNotifications, WebApi, serve_chain,
    },
    config::{AuditDurability, Config},
    domain::{ApplicationId, AssociateId, TenantName},
    grpc::{AuditRecorder, Services},
    ports::{TenantStore, TicketStore},
    telemetry::{MetricKind, ObservedMetric},
};

/// All use cases: the layer between the listeners and the adapters.
pub(super) struct UseCases {
    pub(super) services: Arc<Services>,
    pub(super) directory: Arc<TenantDirectory>,
    /// Drops cached data of tenants that are disabled or removed.
    pub(super) stopped: Arc<StoppedTenants>,
    pub(super) counters: Arc<Counters>,
    pub(super) web_api: Arc<WebApi>,
    /// Receives notifications of changed associates.
    pub(super) hints: Arc<AssociateHints>,
    /// Receives notifications of changed tenants.
    pub(super) state_hints: StateHints,
    /// Deletes old audit events, if a retention is configured.
    pub(super) retention: Option<Retention>,
}

impl UseCases {
    pub(super) fn new(
        config: &Config,
        storage: &Storage,
        applications: Applications,
        access: Access,
        runtime: &Runtime,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let Runtime { clock, timer, random } = runtime;
        let access = Arc::new(access);
        let ids = applications.ids().cloned().collect::<Vec<ApplicationId>>();
        let applications = Arc::new(applications);
        let counters = Arc::new(Counters::default());
        let tenant_store: Arc<dyn TenantStore> = storage.store.clone();
        let ticket_store: Arc<dyn TicketStore> = storage.store.clone();
        let directory = Arc::new(TenantDirectory::new(tenant_store.clone(), tasks.clone()));
        let tenants = Tenants::new(
            ids.into_iter().collect(),
            directory.clone(),
            tenant_store.clone(),
            clock.clone(),
            tasks.clone(),
        );
        let statuses = Arc::new(Statuses::new(
            applications.clone(),
            directory.clone(),
            tenant_store.clone(),
            clock.clone(),
            random.clone(),
            counters.clone(),
            config.tenants.max_stale_status,
            tasks.clone(),
        ));
        let rules = TicketRules {
            max_age: config.tickets.max_age,
            renew_if_used_within: config.tickets.renew_if_used_within,
        };
        let tickets = Arc::new(Tickets::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            TicketStores { tenants: tenant_store, tickets: ticket_store },
            clock.clone(),
            random.clone(),
            counters.clone(),
            rules,
            tasks.clone(),
        ));
        // A cycle: `Associates` acts with grants, and `Impersonation` asks `Associates` for the type of an associate.
        let associates_cell: Arc<OnceLock<Weak<Associates>>> = Arc::default();
        let cell = Arc::clone(&associates_cell);
        let kind_of = Box::new(move |tenant: &TenantName, id: AssociateId| {
            cell.get().and_then(Weak::upgrade)?.associate_type(tenant, id)
        });
        let grant_stores =
            GrantStores { grants: storage.store.clone(), leases: storage.store.clone() };
        let impersonation = Arc::new(Impersonation::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            grant_stores,
            clock.clone(),
            timer.clone(),
            random.clone(),
            counters.clone(),
            config.tickets.renew_if_used_within,
            kind_of,
            tasks.clone(),
        ));
        let web_api = Arc::new(WebApi::new(
            applications.clone(),
            statuses.clone(),
            tickets.clone(),
            impersonation.clone(),
            clock.clone(),
            timer.clone(),
            random.clone(),
            counters.clone(),
        ));
        let audit = AuditRecorder {
            trail: Arc::new(trail(config, storage, runtime, &counters)),
            attempts: Arc::new(UnauthenticatedAttempts::new(clock.clone())),
        };
        let explanations = Explanations::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            tickets.clone(),
        );
        let rules = AssociateRules {
            max_age: config.associates.max_age,
            max_in_memory: config.associates.max_in_memory as usize,
        };
        let associates = Associates::new(
            applications.clone(),
            web_api.clone(),
            tickets.clone(),
            impersonation.clone(),
            statuses.clone(),
            clock.clone(),
            timer.clone(),
            random.clone(),
            rules,
            tasks.clone(),
            stopping.clone(),
            counters.clone(),
        );
        let associates = Arc::new(associates);
        // This is the only place that sets it, so it cannot fail.
        let _ = associates_cell.set(Arc::downgrade(&associates));
        let tenants = Arc::new(tenants);
        let (acting, of_system_users) = (Arc::clone(&impersonation), Arc::clone(&tickets));
        let stores =
            ConsentStores { consents: storage.store.clone(), grants: storage.store.clone() };
        let public_uri = config.http.as_ref().and_then(|http| http.public_uri.clone());
        let consents = Consents::new(
            applications.clone(),
            tenants.clone(),
            directory.clone(),
            stores,
            audit.trail.clone(),
            clock.clone(),
            random.clone(),
            public_uri,
            policy_recheck(access.clone()),
            Box::new(move |grant, kind| {
                acting.record_consent(grant, kind);
                of_system_users.end_refusal(&grant.name.tenant);
            }),
            tasks.clone(),
        );
        let state_hints = StateHints::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            tickets.clone(),
            impersonation.clone(),
            clock.clone(),
            UsedNotifications {
                store: storage.store.clone(),
                signer: storage.audit_signer.clone(),
            },
            tasks.clone(),
        );
        let audit_log = AuditLog::new(
            storage.store.clone(),
            storage.audit_signer.clone(),
            clock.clone(),
            counters.clone(),
        );
        let stopped = Arc::new(StoppedTenants::new(
            storage.store.clone(),
            tickets.clone(),
            statuses.clone(),
            impersonation.clone(),
            associates.clone(),
        ));
        let on_stop = Arc::downgrade(&stopped);
        tenants.on_stop(Box::new(move |name| {
            if let Some(stopped) = on_stop.upgrade() {
                stopped.forget(name);
            }
        }));
        let egress = Egress::new(web_api.clone(), impersonation.clone());
        let services = Services {
            access,
            applications,
            tenant_search: TenantSearch::new(tenants.clone(), statuses.clone(), clock.clone()),
            tenants,
            audit_log,
            statuses,
            tickets,
            consents: Arc::new(consents),
            impersonation,
            associates,
            egress: Arc::new(egress),
            explanations,
            audit: Arc::new(audit),
            stopping,
            page_tokens: storage.page_tokens.clone(),
        };
        let retention = config.audit.retention.map(|keep| {
            let (store, signer) = (storage.store.clone(), storage.audit_signer.clone());
            Retention::new(store, signer, clock.clone(), keep)
        });
        let associates = Arc::clone(&services.associates);
        let listener = Box::new(move |tenant| associates.hint(tenant));
        let hints = AssociateHints::new(listener, counters.clone());
        Self {
            services: Arc::new(services),
            directory,
            stopped,
            counters,
            web_api,
            hints: Arc::new(hints),
            state_hints,
            retention,
        }
    }

    /// Returns the counters and gauges of the use cases, for the metrics page.
    pub(super) fn observed(&self, login_hosts: LoginHosts) -> Vec<ObservedMetric> {
        macro_rules! counters {
            ($($field:ident: $name:literal, $help:literal;)+) => {
                vec![$({
                    let counters = self.counters.clone();
                    let read = Box::new(move || to_i64(counters.$field.get()));
                    ObservedMetric { name: $name, help: $help, kind: MetricKind::Counter, read }
                }),+]
            };
        }
        let mut observed = counters! {
            ticket_hits: "ticket_cache_hits", "Calls answered with a ticket in memory";
            ticket_misses: "ticket_cache_misses", "Calls that waited for a ticket";
            exchanges: "exchanges", "Tickets that SuperOffice issued";
            exchange_failures: "exchange_failures", "Exchanges that failed";
            tickets_dropped: "tickets_dropped", "Tickets dropped because SuperOffice rejected them";
            access_token_hits: "access_token_cache_hits", "Calls answered with an access token in memory";
            access_token_misses: "access_token_cache_misses", "Calls that waited for an access token";
            refreshes: "refreshes", "Refresh tokens exchanged for an access token";
            refresh_failures: "refresh_failures", "Refreshes that failed";
            retried_after_crash: "retried_after_crash", "Refresh tokens used a second time, because the outcome of the first use is unknown";
            grants_broken: "grants_broken", "Grants that need a new consent";
            access_tokens_dropped: "access_tokens_dropped", "Access tokens dropped because SuperOffice rejected them";
            status_reads: "tenant_status_reads", "Tenant statuses read";
            people_rows_left_out: "people_rows_left_out", "Rows about associates, user groups and roles that were left out because they have no id";
            people_rows_in_part: "people_rows_in_part", "Rows about associates, user groups and roles with a value that could not be read";
            associate_hints: "associate_hints", "Webhooks about changed associates";
            audit_events: "audit_events", "Events written to the audit trail";
            audit_groups: "audit_groups", "Commits of audit events";
            audit_failures: "audit_failures", "Attempts to commit audit events that failed";
            web_api_calls: "web_api_calls", "Calls to the Web API of tenants, repeated ones included";
            web_api_repeats: "web_api_repeats", "Calls to the Web API that were retried";
            web_api_throttled: "web_api_throttled", "Answers of the Web API that asked for fewer calls (429)";
            web_api_refused: "web_api_refused", "Calls to the Web API that were rejected because the tenant's call budget is used up until their deadline";
            status_failures: "tenant_status_failures", "Tenant statuses that could not be read";
            audit_unreadable: "audit_unreadable_events", "Audit events that could not be read when they were listed; VerifyAuditLog names them";
        };
        let audit = Arc::clone(&self.services.audit);
        observed.push(ObservedMetric {
            name: "audit_queued",
            help: "Audit events that wait for the store",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(u64::try_from(audit.trail.queued()).unwrap_or(u64::MAX))),
        });
        let audit = Arc::clone(&self.services.audit);
        observed.push(ObservedMetric {
            name: "audit_stalled",
            help: "1 while the audit trail is stalled and calls that need it are rejected",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(audit.trail.stalled().into())),
        });
        let tickets = Arc::clone(&self.services.tickets);
        observed.push(ObservedMetric {
            name: "tickets_cached",
            help: "Tenants whose ticket is in memory",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(tickets.cached_count() as u64)),
        });
        let impersonation = Arc::clone(&self.services.impersonation);
        observed.push(ObservedMetric {
            name: "access_tokens_cached",
            help: "Grants whose access token is in memory",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(impersonation.cached() as u64)),
        });
        let associates = Arc::clone(&self.services.associates);
        observed.push(ObservedMetric {
            name: "associates_in_memory",
            help: "Associates in memory, over all tenants",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(associates.in_memory() as u64)),
        });
        let statuses = Arc::clone(&self.services.statuses);
        observed.push(ObservedMetric {
            name: "stale_tenant_statuses",
            help: "Tenants in use whose status has expired and cannot be read again",
            kind: MetricKind::Gauge,
            read: Box::new(move || {
                to_i64(statuses.stale().map_or(0, |stale| stale.tenants as u64))
            }),
        });
        let web_api = Arc::clone(&self.web_api);
        observed.push(ObservedMetric {
            name: "web_api_waiting",
            help: "Calls to the Web API that wait for the tenant's rate limit",
            kind: MetricKind::Gauge,
            read: Box::new(move || to_i64(web_api.waiting_calls() as u64)),
        });
        let hosts: Vec<_> = login_hosts.into_values().collect();
        let skewed = hosts.clone();
        observed.push(ObservedMetric {
            name: "login_clock_skew_seconds",
            help: "The largest difference between the clock of a login host and the gateway's clock",
            kind: MetricKind::Gauge,
            read: Box::new(move || {
                let skews = skewed.iter().map(|host| host.clock_skew_seconds());
                skews.max_by_key(|skew| skew.abs()).unwrap_or_default()
            }),
        });
        observed.push(ObservedMetric {
            name: "login_circuits_open",
            help: "Login hosts with an open circuit breaker because they do not answer",
            kind: MetricKind::Gauge,
            read: Box::new(move || {
                to_i64(hosts.iter().filter(|host| host.circuit_is_open()).count() as u64)
            }),
        });
        observed
    }
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Creates the audit trail, with a new chain for each start of the server.
fn trail(config: &Config, storage: &Storage, runtime: &Runtime, counters: &Arc<Counters>) -> Trail {
    let Runtime { clock, timer, random } = runtime;
    let ports = TrailPorts {
        store: storage.store.clone(),
        signer: storage.audit_signer.clone(),
        clock: clock.clone(),
        timer: timer.clone(),
        counters: counters.clone(),
    };
    let durability = match config.audit.durability {
        AuditDurability::BeforeResponse => Durability::BeforeResponse,
        AuditDurability::AfterResponse => Durability::AfterResponse,
    };
    let rules = TrailRules { durability, max_wait: config.audit.max_wait };
    Trail::new(ports, serve_chain(clock.now(), random.bytes()), rules)
}
