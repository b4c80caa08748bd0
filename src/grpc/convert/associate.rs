//! Converts associates to protobuf types.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{grant::grant_state, obstacle, pb, timestamp};
use crate::domain::{
    Associate, AssociateId, AssociateName, AssociateType, Capabilities, DataWarning, Grant,
    Languages, Obstacle, Principal, Reason, Role, RoleType, TenantName, UserGroup,
};

/// Converts an associate, with texts in the caller's languages.
pub(in crate::grpc) fn associate(
    tenant: &TenantName,
    associate: &Associate,
    read_time: Timestamp,
    languages: &Languages,
    grants: Option<&HashMap<AssociateId, Arc<Grant>>>,
) -> pb::Associate {
    let name = AssociateName { tenant: tenant.clone(), associate: associate.id };
    let grant = grants.and_then(|grants| grants.get(&associate.id));
    let state = grant.map(|grant| grant.state);
    let impersonation_obstacles = match grants {
        Some(_) => associate.impersonation_obstacles(state),
        None => vec![hidden_grant_obstacle()],
    };
    pb::Associate {
        name: name.to_string(),
        associate_id: associate.id.get(),
        r#type: kind(associate.kind).into(),
        type_code: associate.kind.code(),
        login: associate.login.clone(),
        user_name: associate.user_name.clone(),
        full_name: associate.full_name.clone(),
        email: associate.email.clone(),
        person_id: associate.person_id,
        contact_id: associate.contact_id,
        primary_group: Some(match &associate.primary_group {
            Some(group) => user_group(group, languages),
            None => pb::UserGroup::default(),
        }),
        other_groups: associate
            .other_groups
            .iter()
            .map(|group| user_group(group, languages))
            .collect(),
        role: associate.role.as_ref().map(|held| role(held, languages)),
        active: associate.active,
        can_sign_in: associate.can_sign_in(),
        sign_in_obstacles: associate.sign_in_obstacles().iter().map(obstacle).collect(),
        can_be_impersonated: associate.can_be_impersonated(state),
        impersonation_obstacles: impersonation_obstacles.iter().map(obstacle).collect(),
        grant: grant.map(|grant| grant.name.to_string()).unwrap_or_default(),
        grant_state: state.map_or(pb::GrantState::Unspecified, grant_state).into(),
        capabilities: Some(capabilities(associate.kind.capabilities())),
        data_warnings: data_warnings(&associate.warnings),
        read_time: Some(timestamp(read_time)),
        credential_type: associate.credential_type.clone(),
    }
}

/// Returns the obstacle for callers that may not see grants.
fn hidden_grant_obstacle() -> Obstacle {
    Obstacle {
        reason: Reason::PolicyDenied,
        message: "policy does not let you see who has consented".to_owned(),
        mend: "ask who administers the gateway for readGrants on the tenant".to_owned(),
    }
}

pub(in crate::grpc) fn user_group(group: &UserGroup, languages: &Languages) -> pb::UserGroup {
    pb::UserGroup {
        group_id: group.id,
        display_name: languages.select(&group.display_name).to_owned(),
        rank: group.rank,
        deleted: group.deleted,
        data_warnings: data_warnings(&group.warnings),
    }
}

pub(in crate::grpc) fn role(role: &Role, languages: &Languages) -> pb::Role {
    pb::Role {
        role_id: role.id,
        display_name: languages.select(&role.display_name).to_owned(),
        description: languages.select(&role.description).to_owned(),
        role_type: role_type(role.role_type).into(),
        user_level: role.user_level().map(i32::from),
        deleted: role.deleted,
        data_warnings: data_warnings(&role.warnings),
    }
}

pub(in crate::grpc) fn principal(
    tenant: &TenantName,
    principal: &Principal,
    languages: &Languages,
) -> pb::Principal {
    pb::Principal {
        r#type: kind(principal.kind).into(),
        associate_id: principal.id.get(),
        login: principal.login.clone(),
        user_name: principal.user_name.clone(),
        full_name: principal.full_name.clone(),
        email: principal.email.clone(),
        person_id: principal.person_id,
        contact_id: principal.contact_id,
        primary_group_id: principal.primary_group_id,
        secondary_group_ids: principal.secondary_group_ids.clone(),
        role_id: principal.role_id,
        role_name: languages.select(&principal.role_name).to_owned(),
        role_type: role_type(principal.role_type).into(),
        function_rights: principal.function_rights.clone(),
        licenses: principal.licenses.iter().map(|license| license.name.clone()).collect(),
        tenant: tenant.to_string(),
        data_warnings: data_warnings(&principal.warnings),
    }
}

fn data_warnings(warnings: &[DataWarning]) -> Vec<String> {
    warnings.iter().map(ToString::to_string).collect()
}

fn kind(kind: AssociateType) -> pb::AssociateType {
    match kind {
        AssociateType::Internal => pb::AssociateType::Internal,
        AssociateType::Resource => pb::AssociateType::Resource,
        AssociateType::External => pb::AssociateType::External,
        AssociateType::Anonymous => pb::AssociateType::Anonymous,
        AssociateType::System => pb::AssociateType::System,
        AssociateType::Unrecognized(_) => pb::AssociateType::Unrecognized,
    }
}

fn role_type(role_type: Option<RoleType>) -> pb::RoleType {
    match role_type {
        None => pb::RoleType::Unspecified,
        Some(RoleType::Employee) => pb::RoleType::Employee,
        Some(RoleType::External) => pb::RoleType::External,
        Some(RoleType::Anonymous) => pb::RoleType::Anonymous,
        Some(RoleType::System) => pb::RoleType::System,
    }
}

fn capabilities(capabilities: Capabilities) -> pb::Capabilities {
    let Capabilities {
        sign_in,
        diary,
        user_group,
        netserver_api_only,
        needs_expander_services,
        supported_online,
        obsolete,
    } = capabilities;
    pb::Capabilities {
        sign_in,
        diary,
        user_group,
        netserver_api_only,
        needs_expander_services,
        supported_online,
        obsolete,
    }
}
