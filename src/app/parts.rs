//! The use cases, put together.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Storage, Surroundings, applications::LoginHosts};
use crate::{
    access::Access,
    broker::{
        Applications, AuditLog, Counters, Directory, Explanations, Statuses, TenantSearch, Tenants,
        TicketRules, TicketStores, Tickets,
    },
    config::Config,
    domain::ApplicationId,
    grpc::Services,
    ports::{TenantStore, TicketStore},
    telemetry::{Observed, ObservedKind},
};

/// Everything between the listeners and the adapters.
pub(super) struct Parts {
    pub(super) services: Arc<Services>,
    pub(super) directory: Arc<Directory>,
    pub(super) counters: Arc<Counters>,
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
        let Surroundings { clock, random } = surroundings;
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
        let explanations = Explanations::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            tickets.clone(),
        );
        let tenants = Arc::new(tenants);
        let audit_log = AuditLog::new(
            storage.store.clone(),
            storage.audit_signer.clone(),
            clock.clone(),
            counters.clone(),
        );
        let services = Services {
            access: Arc::new(access),
            applications,
            tenant_search: TenantSearch::new(tenants.clone(), statuses.clone(), clock.clone()),
            tenants,
            audit_log,
            statuses,
            tickets,
            explanations,
            stopping,
            page_tokens: storage.page_tokens.clone(),
        };
        Self { services: Arc::new(services), directory, counters }
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
            status_reads: "tenant_status_reads", "Tenant statuses read";
            status_failures: "tenant_status_failures", "Tenant statuses that could not be read";
            audit_unreadable: "audit_unreadable_events", "Audit events that could not be read when they were listed; VerifyAuditLog names them";
        };
        let tickets = Arc::clone(&self.services.tickets);
        observed.push(Observed {
            name: "tickets_cached",
            help: "Tenants whose ticket is in memory",
            kind: ObservedKind::Gauge,
            read: Box::new(move || whole(tickets.cached() as u64)),
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
