//! Authentication: an application by ticket and secret, or a person by access token.

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::grants::{AccessTokenState, GrantOwner};
use crate::lock::read;
use crate::people::SYSTEM_ASSOCIATE_ID;
use crate::platform::Platform;
use crate::world::{Authorization, Tenant};

/// Returns the associate of a valid credential for this tenant. Renews the lifetime of a ticket.
pub(super) fn authenticate(
    platform: &Platform,
    tenant: &Tenant,
    headers: &HeaderMap,
) -> Result<u32, StatusCode> {
    let (scheme, credential) = credential(headers).ok_or(StatusCode::UNAUTHORIZED)?;
    // The case of the scheme is ignored, that of the credential is not.
    if scheme.eq_ignore_ascii_case("SOTicket") {
        by_ticket(platform, tenant, headers, credential)
    } else if scheme.eq_ignore_ascii_case("Bearer") {
        by_access_token(platform, tenant, credential)
    } else {
        Err(StatusCode::UNAUTHORIZED)
    }
}

fn credential(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')
}

fn by_ticket(
    platform: &Platform,
    tenant: &Tenant,
    headers: &HeaderMap,
    ticket: &str,
) -> Result<u32, StatusCode> {
    let now = platform.clock.now();
    let holder = platform.tickets.holder(ticket, now).ok_or(StatusCode::UNAUTHORIZED)?;
    let admitted = holder.tenant == tenant.id
        && knows_secret(platform, &holder.client_id, headers)
        && (is_authorized(tenant, &holder.client_id) || !platform.rules().revocation_ends_tickets);
    if !admitted {
        return Err(StatusCode::UNAUTHORIZED);
    }
    platform.tickets.renew(ticket, now);
    Ok(SYSTEM_ASSOCIATE_ID)
}

/// Does not require `SO-AppToken` (observed). An expired or revoked token gets 401 or 403 (both
/// documented).
fn by_access_token(platform: &Platform, tenant: &Tenant, token: &str) -> Result<u32, StatusCode> {
    let rules = platform.grants.rules();
    let dead =
        if rules.expired_access_is_403 { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
    match platform.access_tokens.find(token, platform.clock.now()) {
        AccessTokenState::Valid { owner: who, .. } if who.tenant != tenant.id => {
            Err(StatusCode::UNAUTHORIZED)
        }
        AccessTokenState::Valid { owner: who, grant } => {
            let still_authorized = !platform.grants.is_revoked(grant) && may_act(tenant, &who);
            if still_authorized || !rules.revocation_ends_access_tokens {
                Ok(who.associate_id)
            } else {
                Err(dead)
            }
        }
        AccessTokenState::ExpiredOrRevoked => Err(dead),
        AccessTokenState::Unknown => Err(StatusCode::UNAUTHORIZED),
    }
}

fn may_act(tenant: &Tenant, who: &GrantOwner) -> bool {
    is_authorized(tenant, &who.client_id) && tenant.people.user_with_id(who.associate_id).is_some()
}

fn knows_secret(platform: &Platform, client_id: &str, headers: &HeaderMap) -> bool {
    let sent = headers.get("SO-AppToken").map(HeaderValue::as_bytes);
    let world = read(&platform.world);
    world.application(client_id).is_some_and(|application| {
        application.secrets.iter().any(|secret| sent == Some(secret.as_bytes()))
    })
}

fn is_authorized(tenant: &Tenant, client_id: &str) -> bool {
    tenant.record(client_id).is_some_and(|record| record.state == Authorization::Active)
}
