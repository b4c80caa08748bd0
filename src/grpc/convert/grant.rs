//! Converts grants and access tokens to protobuf types.

use secrecy::ExposeSecret as _;

use super::{obstacle, pb, timestamp};
use crate::{
    broker::{GrantEvent, IssuedAccessToken},
    domain::{Grant, GrantEventKind, GrantState},
};

/// Converts an access token. This is the only function that exposes one to a caller.
pub(in crate::grpc) fn access_token(issued: &IssuedAccessToken) -> pb::AccessToken {
    let IssuedAccessToken { grant, token, web_api_uri } = issued;
    pb::AccessToken {
        value: token.value.expose_secret().to_owned(),
        credential_id: token.credential_id.to_string(),
        issue_time: Some(timestamp(token.issue_time)),
        expire_time: Some(timestamp(token.expire_time)),
        web_api_uri: web_api_uri.to_string(),
        grant: grant.name.to_string(),
        associate_id: grant.associate_id.get(),
        tenant: grant.name.tenant.to_string(),
    }
}

pub(in crate::grpc) fn grant(grant: &Grant) -> pb::Grant {
    pb::Grant {
        name: grant.name.to_string(),
        associate_id: grant.associate_id.get(),
        user_principal_name: grant.user_principal_name.clone(),
        full_name: grant.full_name.clone(),
        state: grant_state(grant.state).into(),
        create_time: Some(timestamp(grant.create_time)),
        last_refresh_time: grant.last_refresh_time.map(timestamp),
        last_failure: grant.last_failure.map(|failure| obstacle(&failure.obstacle())),
        last_failure_time: grant.last_failure.map(|failure| timestamp(failure.time)),
        revocation_pending: grant.revocation_pending,
        etag: grant.etag(),
        failure_count: grant
            .failing
            .map_or(0, |failing| failing.count.try_into().unwrap_or(i32::MAX)),
        failing_since: grant.failing.map(|failing| timestamp(failing.since)),
    }
}

pub(in crate::grpc) fn grant_event(event: &GrantEvent) -> pb::GrantEvent {
    let kind = match event.kind {
        GrantEventKind::Created => pb::GrantEventKind::Created,
        GrantEventKind::Refreshed => pb::GrantEventKind::Refreshed,
        GrantEventKind::Broken => pb::GrantEventKind::Broken,
        GrantEventKind::Failed => pb::GrantEventKind::Failed,
        GrantEventKind::Reconsented => pb::GrantEventKind::Reconsented,
        GrantEventKind::Revoked => pb::GrantEventKind::Revoked,
        GrantEventKind::Resync => pb::GrantEventKind::Resync,
    };
    pb::GrantEvent {
        grant: event.grant.as_deref().map(grant),
        kind: kind.into(),
        time: Some(timestamp(event.time)),
    }
}

pub(in crate::grpc) fn grant_state(state: GrantState) -> pb::GrantState {
    match state {
        GrantState::Active => pb::GrantState::Active,
        GrantState::ConsentRequired => pb::GrantState::ConsentRequired,
        GrantState::Revoked => pb::GrantState::Revoked,
    }
}
