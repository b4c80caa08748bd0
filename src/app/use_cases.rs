//! Builds the use cases and connects them.

use std::sync::Arc;

use super::{consents::policy_recheck, storage::Storage};
use crate::{
    access::Access,
    audit::{Durability, Trail, TrailPorts, TrailRules, UnauthenticatedAttempts, serve_chain},
    broker::{
        Applications, AssociateHints, AssociateRules, AssociateSnapshots, Associates,
        ConsentStores, Consents, Egress, GrantStores, Impersonation, Runtime, StateHints, Statuses,
        StoppedTenants, TenantDirectory, Tenants, TicketRules, TicketStores, Tickets,
        UsedNotifications, WebApi,
    },
    config::{AuditDurability, Config},
    grpc::AuditRecorder,
};

/// All use cases: the layer between the listeners and the adapters.
pub(super) struct UseCases {
    pub(super) access: Arc<Access>,
    pub(super) applications: Arc<Applications>,
    pub(super) directory: Arc<TenantDirectory>,
    pub(super) statuses: Arc<Statuses>,
    pub(super) tickets: Arc<Tickets>,
    pub(super) impersonation: Arc<Impersonation>,
    pub(super) web_api: Arc<WebApi>,
    pub(super) associates: Arc<Associates>,
    /// Drops cached data of tenants that are disabled or removed.
    pub(super) stopped: Arc<StoppedTenants>,
    pub(super) tenants: Arc<Tenants>,
    pub(super) audit: Arc<AuditRecorder>,
    pub(super) consents: Arc<Consents>,
    pub(super) egress: Arc<Egress>,
    /// Receives notifications of changed associates.
    pub(super) associate_notifications: Arc<AssociateHints>,
    /// Receives notifications of changed tenants.
    pub(super) tenant_notifications: StateHints,
}

/// The use cases that obtain credentials. Most others need them.
struct CredentialUseCases {
    applications: Arc<Applications>,
    directory: Arc<TenantDirectory>,
    statuses: Arc<Statuses>,
    tickets: Arc<Tickets>,
    impersonation: Arc<Impersonation>,
}

impl UseCases {
    pub(super) fn new(
        config: &Config,
        storage: &Storage,
        applications: Applications,
        access: Access,
        runtime: &Runtime,
    ) -> Self {
        let access = Arc::new(access);
        let snapshots = AssociateSnapshots::new(AssociateRules {
            max_age: config.associates.max_age,
            max_in_memory: config.associates.max_in_memory as usize,
        });
        let credentials =
            CredentialUseCases::new(config, storage, applications, &snapshots, runtime);
        let web_api = Arc::new(credentials.web_api(runtime));
        let associates = Arc::new(credentials.associates(&web_api, &snapshots, runtime));
        let stopped = Arc::new(credentials.stopped_tenants(storage, &associates));
        let tenants = Arc::new(credentials.tenants(storage, &stopped, runtime));
        let audit = Arc::new(AuditRecorder {
            trail: Arc::new(trail(config, storage, runtime)),
            attempts: Arc::new(UnauthenticatedAttempts::new(runtime.clock.clone())),
        });
        let consents =
            credentials.consents(config, storage, &tenants, &audit.trail, &access, runtime);
        let egress = Egress::new(web_api.clone(), credentials.impersonation.clone());
        let associate_notifications = Arc::new(associate_hints(&associates, runtime));
        let tenant_notifications = credentials.state_hints(storage, runtime);
        let CredentialUseCases { applications, directory, statuses, tickets, impersonation } =
            credentials;
        Self {
            access,
            applications,
            directory,
            statuses,
            tickets,
            impersonation,
            web_api,
            associates,
            stopped,
            tenants,
            audit,
            consents: Arc::new(consents),
            egress: Arc::new(egress),
            associate_notifications,
            tenant_notifications,
        }
    }
}

impl CredentialUseCases {
    fn new(
        config: &Config,
        storage: &Storage,
        applications: Applications,
        snapshots: &AssociateSnapshots,
        runtime: &Runtime,
    ) -> Self {
        let store = &storage.store;
        let applications = Arc::new(applications);
        let directory = Arc::new(TenantDirectory::new(store.clone(), runtime));
        let statuses = Arc::new(Statuses::new(
            applications.clone(),
            directory.clone(),
            store.clone(),
            config.tenants.max_stale_status,
            runtime,
        ));
        let tickets = Tickets::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            TicketStores { tenants: store.clone(), tickets: store.clone() },
            TicketRules {
                max_age: config.tickets.max_age,
                renew_if_used_within: config.tickets.renew_if_used_within,
            },
            runtime,
        );
        let snapshots = snapshots.clone();
        let impersonation = Impersonation::new(
            applications.clone(),
            directory.clone(),
            statuses.clone(),
            GrantStores { grants: store.clone(), leases: store.clone() },
            config.tickets.renew_if_used_within,
            Box::new(move |tenant, id| snapshots.associate_type(tenant, id)),
            runtime,
        );
        Self {
            applications,
            directory,
            statuses,
            tickets: Arc::new(tickets),
            impersonation: Arc::new(impersonation),
        }
    }

    fn web_api(&self, runtime: &Runtime) -> WebApi {
        WebApi::new(
            self.applications.clone(),
            self.statuses.clone(),
            self.tickets.clone(),
            self.impersonation.clone(),
            runtime,
        )
    }

    fn associates(
        &self,
        web_api: &Arc<WebApi>,
        snapshots: &AssociateSnapshots,
        runtime: &Runtime,
    ) -> Associates {
        Associates::new(
            self.applications.clone(),
            web_api.clone(),
            self.tickets.clone(),
            self.impersonation.clone(),
            self.statuses.clone(),
            snapshots,
            runtime,
        )
    }

    fn stopped_tenants(&self, storage: &Storage, associates: &Arc<Associates>) -> StoppedTenants {
        StoppedTenants::new(
            storage.store.clone(),
            self.tickets.clone(),
            self.statuses.clone(),
            self.impersonation.clone(),
            associates.clone(),
        )
    }

    fn tenants(
        &self,
        storage: &Storage,
        stopped: &Arc<StoppedTenants>,
        runtime: &Runtime,
    ) -> Tenants {
        let stopped = stopped.clone();
        Tenants::new(
            self.applications.ids().cloned().collect(),
            self.directory.clone(),
            storage.store.clone(),
            Arc::new(move |name| stopped.forget(name)),
            runtime,
        )
    }

    fn consents(
        &self,
        config: &Config,
        storage: &Storage,
        tenants: &Arc<Tenants>,
        trail: &Arc<Trail>,
        access: &Arc<Access>,
        runtime: &Runtime,
    ) -> Consents {
        let (impersonation, tickets) = (self.impersonation.clone(), self.tickets.clone());
        Consents::new(
            self.applications.clone(),
            tenants.clone(),
            self.directory.clone(),
            ConsentStores { consents: storage.store.clone(), grants: storage.store.clone() },
            trail.clone(),
            config.http.as_ref().and_then(|http| http.public_uri.clone()),
            policy_recheck(access.clone()),
            Box::new(move |grant, kind| {
                impersonation.record_consent(grant, kind);
                tickets.clear_failure(&grant.name.tenant);
            }),
            runtime,
        )
    }

    fn state_hints(&self, storage: &Storage, runtime: &Runtime) -> StateHints {
        let used = UsedNotifications {
            store: storage.store.clone(),
            signer: storage.audit_signer.clone(),
        };
        StateHints::new(
            self.applications.clone(),
            self.directory.clone(),
            self.statuses.clone(),
            self.tickets.clone(),
            self.impersonation.clone(),
            used,
            runtime,
        )
    }
}

/// Creates the receiver of hints, which passes each new one on to `associates`.
fn associate_hints(associates: &Arc<Associates>, runtime: &Runtime) -> AssociateHints {
    let associates = associates.clone();
    let listener = Box::new(move |tenant| associates.hint(tenant));
    AssociateHints::new(listener, runtime.counters.clone())
}

/// Creates the audit trail, with a new chain for each start of the server.
fn trail(config: &Config, storage: &Storage, runtime: &Runtime) -> Trail {
    let ports = TrailPorts {
        store: storage.audit.clone(),
        signer: storage.audit_signer.clone(),
        clock: runtime.clock.clone(),
        timer: runtime.timer.clone(),
    };
    let durability = match config.audit.durability {
        AuditDurability::BeforeResponse => Durability::BeforeResponse,
        AuditDurability::AfterResponse => Durability::AfterResponse,
    };
    let rules = TrailRules { durability, max_wait: config.audit.max_wait };
    Trail::new(ports, serve_chain(runtime.clock.now(), runtime.random.bytes()), rules)
}
