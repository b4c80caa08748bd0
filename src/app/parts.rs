//! The use cases, put together.

use std::sync::{Arc, OnceLock, Weak};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Storage, Surroundings, applications::LoginHosts, consents::ask_again};
use crate::{
    access::Access,
    broker::{
        Applications, AssociateHints, AssociateRules, Associates, Attempts, AuditLog,
        ConsentStores, Consents, Counters, Directory, Durability, Egress, Explanations,
        GrantStores, Impersonation, Retention, StateHints, Statuses, StoppedTenants, TenantSearch,
        Tenants, TicketRules, TicketStores, Tickets, Trail, TrailPorts, TrailRules,
        UsedNotifications, WebApi, serve_chain,
    },
    config::{AuditDurability, Config},
    domain::{ApplicationId, AssociateId, TenantName},
    grpc::{Audit, Services},
    ports::{TenantStore, TicketStore},
    telemetry::{Observed, ObservedKind},
};

/// Everything between the listeners and the adapters.
pub(super) struct Parts {
    pub(super) services: Arc<Services>,
    pub(super) directory: Arc<Directory>,
    /// Forgets tenants that are stopped or removed.
    pub(super) stopped: Arc<StoppedTenants>,
    pub(super) counters: Arc<Counters>,
    pub(super) web_api: Arc<WebApi>,
    /// Hears of changes among associates.
    pub(super) hints: Arc<AssociateHints>,
    /// Hears of changes of tenants.
    pub(super) state_hints: StateHints,
    /// Removes old audit events, if any are to be removed.
    pub(super) retention: Option<Retention>,
}

impl Parts {
    pub(super) fn new(
        config: &Config,
        storage: &Storage,
        applications: Applications,
        access: Access,
        surroundings: &Surroundings,
        tasks: &TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let Surroundings { clock, pace, random } = surroundings;
        let access = Arc::new(access);
        let ids = applications.ids().cloned().collect::<Vec<ApplicationId>>();
        let applications = Arc::new(applications);
        let counters = Arc::new(Counters::default());
        let tenant_store: Arc<dyn TenantStore> = storage.store.clone();
        let ticket_store: Arc<dyn TicketStore> = storage.store.clone();
        let directory = Arc::new(Directory::new(tenant_store.clone(), tasks.clone()));
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
        // Associates are seen through people, and what is known of associates says who can be a person.
        let seen: Arc<OnceLock<Weak<Associates>>> = Arc::default();
        let kinds = Arc::clone(&seen);
        let kind_of = Box::new(move |tenant: &TenantName, id: AssociateId| {
            kinds.get().and_then(Weak::upgrade)?.kind_of(tenant, id)
        });
        let grant_stores =
            GrantStores { grants: storage.store.clone(), leases: storage.store.clone() };
        let impersonation = Arc::new(Impersonation::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            grant_stores,
            clock.clone(),
            pace.clone(),
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
            pace.clone(),
            random.clone(),
            counters.clone(),
        ));
        let audit = Audit {
            trail: Arc::new(trail(config, storage, surroundings, &counters)),
            attempts: Arc::new(Attempts::new(clock.clone())),
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
            pace.clone(),
            random.clone(),
            rules,
            tasks.clone(),
            stopping.clone(),
            counters.clone(),
        );
        let associates = Arc::new(associates);
        // It is set once, here.
        let _ = seen.set(Arc::downgrade(&associates));
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
            ask_again(access.clone()),
            Box::new(move |grant, kind| {
                acting.told(grant, kind);
                of_system_users.consented(&grant.name.tenant);
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

    /// What use cases count, for the metrics page.
    pub(super) fn observed(&self, login_hosts: LoginHosts) -> Vec<Observed> {
        macro_rules! counters {
            ($($field:ident: $name:literal, $help:literal;)+) => {
                vec![$({
                    let counters = self.counters.clone();
                    let read = Box::new(move || whole(counters.$field.get()));
                    Observed { name: $name, help: $help, kind: ObservedKind::Counter, read }
                }),+]
            };
        }
        let mut observed = counters! {
            ticket_hits: "ticket_cache_hits", "Calls answered with a ticket in memory";
            ticket_misses: "ticket_cache_misses", "Calls that had to wait for a ticket";
            exchanges: "exchanges", "Tickets that SuperOffice issued";
            exchange_failures: "exchange_failures", "Exchanges that gave no ticket";
            tickets_dropped: "tickets_dropped", "Tickets proven dead";
            access_token_hits: "access_token_cache_hits", "Calls answered with an access token in memory";
            access_token_misses: "access_token_cache_misses", "Calls that had to wait for an access token";
            refreshes: "refreshes", "Refresh tokens spent for an access token";
            refresh_failures: "refresh_failures", "Attempts to do so that gave none";
            retried_after_crash: "retried_after_crash", "Refresh tokens spent a second time, because nobody knows how the first time ended";
            grants_broken: "grants_broken", "Grants found not to work any more";
            access_tokens_dropped: "access_tokens_dropped", "Access tokens proven dead";
            status_reads: "tenant_status_reads", "Tenant statuses read";
            people_rows_left_out: "people_rows_left_out", "Rows about associates, user groups and roles that were left out because they have no id";
            people_rows_in_part: "people_rows_in_part", "Rows about associates, user groups and roles of which a value could not be read";
            associate_hints: "associate_hints", "Webhooks that said that associates of a tenant have changed";
            audit_events: "audit_events", "Events written to the audit trail";
            audit_groups: "audit_groups", "Commits of audit events";
            audit_failures: "audit_failures", "Attempts to commit audit events that failed";
            web_api_calls: "web_api_calls", "Calls to the Web API of tenants, repeated ones included";
            web_api_repeats: "web_api_repeats", "Calls to the Web API that were made once more after something was mended";
            web_api_throttled: "web_api_throttled", "Answers of the Web API that asked for fewer calls (429)";
            web_api_refused: "web_api_refused", "Calls to the Web API that were not made because the budget of the tenant leaves none before their deadline";
            status_failures: "tenant_status_failures", "Tenant statuses that could not be read";
            audit_unreadable: "audit_unreadable_events", "Audit events that could not be read when they were listed; VerifyAuditLog names them";
        };
        let audit = Arc::clone(&self.services.audit);
        observed.push(Observed {
            name: "audit_queued",
            help: "Audit events that wait for the store",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(u64::try_from(audit.trail.queued()).unwrap_or(u64::MAX))),
        });
        let audit = Arc::clone(&self.services.audit);
        observed.push(Observed {
            name: "audit_stalled",
            help: "1 while the audit trail is stalled and what needs it is refused",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(audit.trail.stalled().into())),
        });
        let tickets = Arc::clone(&self.services.tickets);
        observed.push(Observed {
            name: "tickets_cached",
            help: "Tenants whose ticket is in memory",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(tickets.cached() as u64)),
        });
        let impersonation = Arc::clone(&self.services.impersonation);
        observed.push(Observed {
            name: "access_tokens_cached",
            help: "Grants whose access token is in memory",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(impersonation.cached() as u64)),
        });
        let associates = Arc::clone(&self.services.associates);
        observed.push(Observed {
            name: "associates_in_memory",
            help: "Associates in memory, over all tenants",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(associates.in_memory() as u64)),
        });
        let statuses = Arc::clone(&self.services.statuses);
        observed.push(Observed {
            name: "stale_tenant_statuses",
            help: "Tenants in use whose status is used after its time because it cannot be read again",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(statuses.stale().map_or(0, |stale| stale.tenants as u64))),
        });
        let web_api = Arc::clone(&self.web_api);
        observed.push(Observed {
            name: "web_api_waiting",
            help: "Calls to the Web API that wait for their turns",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(web_api.waiting() as u64)),
        });
        let hosts: Vec<_> = login_hosts.into_values().collect();
        let skewed = hosts.clone();
        observed.push(Observed {
            name: "login_clock_skew_seconds",
            help: "How far the clock of the login host that is furthest off is from ours",
            kind: ObservedKind::Gauge,
            read: Box::new(move || {
                let skews = skewed.iter().map(|host| host.clock_skew_seconds());
                skews.max_by_key(|skew| skew.abs()).unwrap_or_default()
            }),
        });
        observed.push(Observed {
            name: "login_circuits_open",
            help: "Login hosts that are given a rest because they do not answer",
            kind: ObservedKind::Gauge,
            read: Box::new(move || {
                whole(hosts.iter().filter(|host| host.circuit_is_open()).count() as u64)
            }),
        });
        observed
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A chain of its own for each start of the server.
fn trail(
    config: &Config,
    storage: &Storage,
    surroundings: &Surroundings,
    counters: &Arc<Counters>,
) -> Trail {
    let Surroundings { clock, pace, random } = surroundings;
    let ports = TrailPorts {
        store: storage.store.clone(),
        signer: storage.audit_signer.clone(),
        clock: clock.clone(),
        pace: pace.clone(),
        counters: counters.clone(),
    };
    let durability = match config.audit.durability {
        AuditDurability::BeforeResponse => Durability::BeforeResponse,
        AuditDurability::AfterResponse => Durability::AfterResponse,
    };
    let rules = TrailRules { durability, max_wait: config.audit.max_wait };
    Trail::new(ports, serve_chain(clock.now(), random.bytes()), rules)
}
