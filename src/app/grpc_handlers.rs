//! Builds the handlers of the gRPC services from the use cases.

use std::sync::Arc;

use super::{storage::Storage, use_cases::UseCases};
use crate::{
    broker::{AuditLog, Explanations, Runtime, TenantSearch},
    config::Config,
    grpc::{
        AccessHandler, ApplicationHandler, AssociateHandler, AuditHandler, ExtAuthzHandler,
        HandlerDependencies, Handlers, ImpersonationHandler, TenantAuthorizer, TenantHandler,
        TokenHandler, WebApiHandler,
    },
};

/// Creates the handlers of all services.
pub(super) fn grpc_handlers(
    config: &Config,
    storage: &Storage,
    use_cases: &UseCases,
    runtime: &Runtime,
) -> Handlers {
    let UseCases { applications, impersonation, egress, .. } = use_cases;
    let common = Arc::new(HandlerDependencies {
        access: use_cases.access.clone(),
        audit: use_cases.audit.clone(),
        page_tokens: storage.page_tokens.clone(),
        stopping: runtime.stopping.clone(),
    });
    let tenant_authorizer = Arc::new(TenantAuthorizer {
        common: common.clone(),
        applications: applications.clone(),
        tenants: use_cases.tenants.clone(),
    });
    let signer = storage.audit_signer.clone();
    let audit_log = AuditLog::new(storage.audit.clone(), storage.store.clone(), signer, runtime);
    let envoy = || ExtAuthzHandler { common: common.clone(), egress: egress.clone() };
    Handlers {
        token: TokenHandler {
            common: common.clone(),
            tenant_authorizer: tenant_authorizer.clone(),
            tickets: use_cases.tickets.clone(),
            impersonation: impersonation.clone(),
        },
        impersonation: ImpersonationHandler {
            common: common.clone(),
            tenant_authorizer: tenant_authorizer.clone(),
            consents: use_cases.consents.clone(),
            impersonation: impersonation.clone(),
        },
        tenant: tenant_handler(use_cases, &common, &tenant_authorizer, runtime),
        associate: AssociateHandler {
            common: common.clone(),
            tenant_authorizer: tenant_authorizer.clone(),
            associates: use_cases.associates.clone(),
            impersonation: impersonation.clone(),
        },
        access: access_handler(use_cases, &common, tenant_authorizer),
        audit: AuditHandler { common: common.clone(), audit_log },
        application: ApplicationHandler {
            common: common.clone(),
            applications: applications.clone(),
        },
        web_api: WebApiHandler { common: common.clone(), egress: egress.clone() },
        envoy: config.envoy.enabled.then(envoy),
        common,
    }
}

fn tenant_handler(
    use_cases: &UseCases,
    common: &Arc<HandlerDependencies>,
    tenant_authorizer: &Arc<TenantAuthorizer>,
    runtime: &Runtime,
) -> TenantHandler {
    let UseCases { applications, tenants, statuses, .. } = use_cases;
    TenantHandler {
        common: common.clone(),
        tenant_authorizer: tenant_authorizer.clone(),
        applications: applications.clone(),
        tenants: tenants.clone(),
        tenant_search: TenantSearch::new(tenants.clone(), statuses.clone(), runtime),
        statuses: statuses.clone(),
    }
}

fn access_handler(
    use_cases: &UseCases,
    common: &Arc<HandlerDependencies>,
    tenant_authorizer: Arc<TenantAuthorizer>,
) -> AccessHandler {
    let explanations = Explanations::new(
        use_cases.applications.clone(),
        use_cases.directory.clone(),
        use_cases.statuses.clone(),
        use_cases.tickets.clone(),
    );
    AccessHandler {
        common: common.clone(),
        tenant_authorizer,
        impersonation: use_cases.impersonation.clone(),
        explanations,
    }
}
