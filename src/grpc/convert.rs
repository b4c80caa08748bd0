//! Converts domain types to protobuf types.

mod associate;
mod grant;

use jiff::Timestamp;
use secrecy::ExposeSecret as _;

pub(super) use self::{
    associate::{associate, principal, role, user_group},
    grant::{access_token, grant, grant_event},
};
use super::pb;
use crate::{
    broker::IssuedSystemTicket,
    domain::{
        ApplicationView, AuditChainReport, AuditEvent, AuditFaultKind, AuditRecord, ContextKind,
        Decision, Guidance, Obstacle, Reason, Tenant, TenantName, TenantState, TenantStatus,
        UserContext,
    },
};

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // Protobuf nanoseconds are never negative, also before 1970.
    let nanos = time.as_nanosecond();
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    prost_types::Timestamp {
        seconds: seconds.try_into().unwrap_or_default(),
        nanos: nanos.try_into().unwrap_or_default(),
    }
}

/// Converts a ticket. This is the only function that exposes one to a caller.
pub(super) fn ticket(issued: &IssuedSystemTicket) -> pb::SystemTicket {
    let ticket = &issued.ticket;
    let application_token = issued.application_token.as_ref();
    pb::SystemTicket {
        value: ticket.value.expose_secret().to_owned(),
        credential_id: ticket.credential_id.to_string(),
        issue_time: Some(timestamp(ticket.issue_time)),
        expire_time: Some(timestamp(ticket.expire_time)),
        web_api_uri: issued.web_api_uri.to_string(),
        application_token: application_token
            .map(|token| token.expose_secret().to_owned())
            .unwrap_or_default(),
        tenant: issued.tenant.to_string(),
    }
}

pub(super) fn tenant(tenant: &Tenant, status: Option<&TenantStatus>) -> pb::Tenant {
    pb::Tenant {
        name: tenant.name.to_string(),
        status: status.map_or(pb::TenantState::Unspecified, |s| state(s.state)).into(),
        status_valid_until: status.map(|status| timestamp(status.valid_until)),
        web_api_uri: uri(status),
        has_system_user_token: tenant.has_system_user_token(),
        create_time: Some(timestamp(tenant.create_time)),
        update_time: Some(timestamp(tenant.update_time)),
        company_name: tenant.company_name.clone(),
        labels: tenant.labels.clone().into_iter().collect(),
        etag: tenant.etag(),
        disabled: tenant.disabled,
    }
}

pub(super) fn tenant_status(name: &TenantName, status: &TenantStatus) -> pb::TenantStatus {
    pb::TenantStatus {
        tenant: name.to_string(),
        state: state(status.state).into(),
        valid_until: Some(timestamp(status.valid_until)),
        web_api_uri: uri(Some(status)),
        version: status.version.clone(),
        read_time: Some(timestamp(status.read_time)),
    }
}

fn uri(status: Option<&TenantStatus>) -> String {
    status.and_then(|s| s.web_api_uri.as_ref()).map(ToString::to_string).unwrap_or_default()
}

pub(super) fn application(view: &ApplicationView) -> pb::Application {
    let failure = view.last_failure.as_ref();
    pb::Application {
        name: format!("applications/{}", view.id),
        environment: view.environment.to_string(),
        client_id: view.client_id.clone(),
        key_ids: view.key_ids.clone(),
        last_success_time: view.last_success.map(timestamp),
        last_failure_time: failure.map(|failure| timestamp(failure.time)),
        last_failure: failure.map(|failure| obstacle(&failure.obstacle)),
    }
}

/// Recommends the system user if it is usable, else a person if that is the only usable context.
pub(super) fn user_contexts(contexts: &[UserContext]) -> Vec<pb::UserContext> {
    let is_system = |context: &&UserContext| context.kind == ContextKind::SystemUser;
    let mut usable = contexts.iter().filter(|context| context.is_usable());
    let recommended = match (contexts.iter().find(is_system), usable.next(), usable.next()) {
        (Some(system), _, _) if system.is_usable() => Some(system),
        (_, Some(only), None) => Some(only),
        _ => None,
    };
    let is_it = |context| recommended.is_some_and(|it| std::ptr::eq(it, context));
    contexts.iter().map(|context| user_context(context, is_it(context))).collect()
}

fn user_context(context: &UserContext, recommended: bool) -> pb::UserContext {
    let (credential, grant, associate_id) = match &context.kind {
        ContextKind::SystemUser => ("system".to_owned(), String::new(), 0),
        ContextKind::Person(name, associate) => {
            (format!("grants/{}", name.grant), name.to_string(), associate.get())
        }
    };
    pb::UserContext {
        credential,
        grant,
        associate_id,
        usable: context.is_usable(),
        recommended,
        obstacles: context.obstacles.iter().map(obstacle).collect(),
        policy_ids: context.policy_ids.iter().map(ToString::to_string).collect(),
        guidance: Some(guidance(context.kind.guidance())),
    }
}

pub(super) fn audit_event(event: &AuditEvent) -> pb::AuditEvent {
    let AuditRecord {
        caller,
        caller_method,
        caller_issuer,
        action,
        resource,
        acting_as,
        decision,
        policy_ids,
        code,
        error_reason,
        // A reason that this release does not know has no enum number.
        unknown_reason: _,
        reason: caller_reason,
        credential_id,
        request_id,
        trace_id,
        client_address,
        method,
        path,
        aggregate,
    } = &event.record;
    let aggregate = aggregate.as_deref();
    pb::AuditEvent {
        chain: event.chain.to_string(),
        sequence: event.sequence,
        time: Some(timestamp(event.time)),
        caller: caller.to_string(),
        caller_method: caller_method.to_string(),
        caller_issuer: caller_issuer.to_string(),
        action: action.to_string(),
        resource: resource.to_string(),
        acting_as: acting_as.to_string(),
        decision: match decision {
            Decision::Allowed => pb::Decision::Allowed,
            Decision::Denied => pb::Decision::Denied,
        }
        .into(),
        policy_ids: policy_ids.iter().map(ToString::to_string).collect(),
        code: *code,
        error_reason: error_reason.map_or(pb::ErrorReason::Unspecified, reason).into(),
        reason: caller_reason.to_string(),
        credential_id: credential_id.to_string(),
        request_id: request_id.to_string(),
        trace_id: trace_id.to_string(),
        client_address: client_address.to_string(),
        method: method.to_string(),
        path: path.to_string(),
        count: aggregate.map_or(1, |denials| i64::try_from(denials.count).unwrap_or(i64::MAX)),
        last_time: aggregate.map(|denials| timestamp(denials.last_time)),
        resources: aggregate
            .map(|denials| denials.resources.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        resource_count: aggregate
            .map_or(0, |denials| i64::try_from(denials.resource_count).unwrap_or(i64::MAX)),
        previous_hash: event.previous_hash.to_vec(),
        hash: event.hash.to_vec(),
    }
}

pub(super) fn audit_chain_report(report: &AuditChainReport) -> pb::AuditChainReport {
    let fault = report.fault.map_or(pb::AuditFaultKind::Unspecified, |fault| match fault.kind {
        AuditFaultKind::Changed => pb::AuditFaultKind::Changed,
        AuditFaultKind::Missing => pb::AuditFaultKind::Missing,
        AuditFaultKind::Reordered => pb::AuditFaultKind::Reordered,
        AuditFaultKind::Truncated => pb::AuditFaultKind::Truncated,
        AuditFaultKind::BadSignature => pb::AuditFaultKind::BadSignature,
    });
    pb::AuditChainReport {
        chain: report.chain.to_string(),
        first_sequence: report.first_sequence,
        last_sequence: report.last_sequence,
        intact: report.intact(),
        fault: fault.into(),
        fault_sequence: report.fault.map_or(0, |fault| fault.sequence),
    }
}

fn guidance(guidance: Guidance) -> pb::Guidance {
    let Guidance {
        interactive,
        accountable,
        cross_user,
        bypasses_rights,
        can_impersonate,
        license_needed,
    } = guidance;
    pb::Guidance {
        interactive,
        accountable,
        cross_user,
        bypasses_rights,
        can_impersonate,
        license_needed: license_needed.to_owned(),
    }
}

fn obstacle(obstacle: &Obstacle) -> pb::Obstacle {
    pb::Obstacle {
        reason: reason(obstacle.reason).into(),
        message: obstacle.message.clone(),
        mend: obstacle.mend.clone(),
    }
}

fn state(state: TenantState) -> pb::TenantState {
    match state {
        TenantState::Unknown => pb::TenantState::Unknown,
        TenantState::Provisioning => pb::TenantState::Provisioning,
        TenantState::Running => pb::TenantState::Running,
        TenantState::Deleted => pb::TenantState::Deleted,
        TenantState::Suspended => pb::TenantState::Suspended,
        TenantState::OnlineMaintenance => pb::TenantState::OnlineMaintenance,
        TenantState::OfflineMaintenance => pb::TenantState::OfflineMaintenance,
        TenantState::ProvisioningFailed => pb::TenantState::ProvisioningFailed,
        TenantState::Deleting => pb::TenantState::Deleting,
        TenantState::DeleteFailed => pb::TenantState::DeleteFailed,
        TenantState::MigrationPending => pb::TenantState::MigrationPending,
    }
}

fn reason(reason: Reason) -> pb::ErrorReason {
    let name = format!("ERROR_REASON_{}", reason.as_str());
    pb::ErrorReason::from_str_name(&name).unwrap_or(pb::ErrorReason::Unspecified)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_reasons_of_code_and_proto_are_the_same() {
        for ours in Reason::ALL {
            assert_ne!(reason(*ours), pb::ErrorReason::Unspecified, "{}", ours.as_str());
        }
        let theirs = (1..).map_while(|number| pb::ErrorReason::try_from(number).ok()).count();
        assert_eq!(theirs, Reason::ALL.len());
    }

    #[test]
    fn times_before_1970_have_positive_nanoseconds() {
        let time = Timestamp::new(-1, -500_000_000).unwrap();
        let wanted = prost_types::Timestamp { seconds: -2, nanos: 500_000_000 };
        assert_eq!(timestamp(time), wanted);
    }
}
