//! The token endpoint.

use std::time::Duration;

use hyper::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::client::{self, Client};
use super::error::OAuthError;
use super::id_token::{self, Subject};
use crate::answer::Answer;
use crate::faults::Fault;
use crate::form::Form;
use crate::grants::{GrantOwner, RedeemResult, RefreshRefusal};
use crate::lock::read;
use crate::people::Associate;
use crate::platform::Platform;
use crate::world::{Authorization, Tenant, TenantState};

/// Returns the tenant of the code or token in a request.
pub(super) fn request_tenant(platform: &Platform, form: &Form) -> Option<String> {
    let code = form.get("code").and_then(|code| platform.codes.owner(code));
    let token = ["refresh_token", "token"].into_iter().find_map(|name| form.get(name));
    let holder = code.or_else(|| platform.grants.owner(token?));
    holder.map(|holder| holder.tenant)
}

pub(super) fn answer(
    platform: &Platform,
    headers: &HeaderMap,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Answer {
    respond(platform, headers, form, fault).unwrap_or_else(|error| {
        platform.counts.update_sign_ins(|counts| counts.refused += 1);
        error.answer()
    })
}

fn respond(
    platform: &Platform,
    headers: &HeaderMap,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    let form = form.ok_or(OAuthError::InvalidRequest("The request cannot be parsed."))?;
    let client = client::authenticate(platform, headers, form)?;
    match form.get("grant_type") {
        None => Err(OAuthError::InvalidRequest("The grant_type is missing.")),
        Some("authorization_code") => exchange_code(platform, &client, form, fault),
        Some("refresh_token") => refresh_grant(platform, &client, form, fault),
        Some(_) => Err(OAuthError::UnsupportedGrantType),
    }
}

/// Exchanges a code for tokens. The code is used up even if the exchange fails.
fn exchange_code(
    platform: &Platform,
    client: &Client,
    form: &Form,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    let text = form.get("code").ok_or(OAuthError::InvalidRequest("The code is missing."))?;
    let redirect_uri = form.get("redirect_uri");
    let redirect_uri =
        redirect_uri.ok_or(OAuthError::InvalidRequest("The redirect_uri is missing."))?;
    let (now, rules) = (platform.clock.now(), platform.grants.rules());
    let code = match platform.codes.redeem(text, Duration::from_secs(rules.code_seconds), now) {
        RedeemResult::Valid(code) => code,
        RedeemResult::Unknown => return Err(OAuthError::InvalidGrant("The code is unknown.")),
        RedeemResult::Expired => return Err(OAuthError::InvalidGrant("The code expired.")),
        RedeemResult::AlreadyUsed(grant) => {
            platform.counts.update_sign_ins(|counts| counts.codes_repeated += 1);
            if let Some(grant) = grant.filter(|_| rules.reuse_revokes_grant) {
                platform.grants.revoke_by_number(grant);
            }
            return Err(OAuthError::InvalidGrant("The code was already used."));
        }
    };
    if code.owner.client_id != client.application.client_id {
        return Err(OAuthError::InvalidGrant("The code is unknown."));
    }
    if code.redirect_uri != redirect_uri {
        return Err(OAuthError::InvalidGrant(
            "The redirect_uri differs from that of the authorize request.",
        ));
    }
    match (&code.challenge, form.get("code_verifier")) {
        (None, None) => {}
        (Some(challenge), Some(verifier)) if challenge.matches(verifier) => {}
        _ => {
            return Err(OAuthError::InvalidGrant(
                "The code_verifier does not match the code_challenge.",
            ));
        }
    }
    let (tenant, associate) = tenant_and_associate(platform, &code.owner)?;
    let (grant, refresh_token) = platform.grants.create(code.owner.clone(), now)?;
    platform.codes.set_grant(text, grant);
    platform.counts.update_sign_ins(|counts| counts.codes_exchanged += 1);
    let subject = Subject { tenant, associate, client_id: code.owner.client_id.clone() };
    let nonce = code.nonce.as_deref();
    token_response(platform, subject, (&code.owner, grant), (nonce, Some(refresh_token)), fault)
}

/// Exchanges a refresh token for an access token. Ignores `redirect_uri` and `scope` (observed).
fn refresh_grant(
    platform: &Platform,
    client: &Client,
    form: &Form,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    if !client.secret_verified {
        // Here a native application needs its secret, too (observed).
        return Err(OAuthError::InvalidClient { basic: client.used_basic });
    }
    let token = form.get("refresh_token");
    let token = token.ok_or(OAuthError::InvalidRequest("The refresh_token is missing."))?;
    let unknown = OAuthError::InvalidGrant("The refresh token is unknown.");
    let who = platform.grants.owner(token).ok_or(unknown)?;
    let (tenant, associate) = tenant_and_associate(platform, &who).inspect_err(|_| {
        platform.grants.count_refusal(token);
    })?;
    let client_id = &client.application.client_id;
    let refreshed = platform.grants.refresh(token, client_id, platform.clock.now())?;
    let refreshed = refreshed.map_err(|refused| match refused {
        RefreshRefusal::Unknown => unknown,
        RefreshRefusal::Revoked => OAuthError::InvalidGrant("The refresh token was revoked."),
        RefreshRefusal::Replaced => {
            platform.counts.update_sign_ins(|counts| counts.reuses += 1);
            OAuthError::InvalidGrant("The refresh token was replaced.")
        }
    })?;
    platform.counts.update_sign_ins(|counts| counts.refreshes += 1);
    let subject = Subject { tenant, associate, client_id: client_id.clone() };
    token_response(platform, subject, (&who, refreshed.grant), (None, refreshed.new_token), fault)
}

/// Returns the tenant and the associate, if the application is still authorized and the person can
/// still sign in.
fn tenant_and_associate(
    platform: &Platform,
    who: &GrantOwner,
) -> Result<(Tenant, Associate), OAuthError> {
    let not_found = OAuthError::InvalidGrant("The tenant does not exist.");
    let tenant = read(&platform.world).tenant(&who.tenant).cloned().ok_or(not_found)?;
    match tenant.state {
        TenantState::Deleted
        | TenantState::Deleting
        | TenantState::DeleteFailed
        | TenantState::Unknown => return Err(not_found),
        state if !state.is_running() => return Err(OAuthError::TenantUnavailable),
        _ => {}
    }
    let record = tenant.record(&who.client_id);
    if record.is_none_or(|record| record.state != Authorization::Active) {
        return Err(OAuthError::InvalidGrant("The application is not authorized."));
    }
    let associate = tenant.people.user_with_id(who.associate_id).cloned();
    let associate = associate.ok_or(OAuthError::InvalidGrant("The person cannot sign in."))?;
    Ok((tenant, associate))
}

/// Returns the documented response. It has a refresh token only if a new one was issued.
fn token_response(
    platform: &Platform,
    subject: Subject,
    (who, grant): (&GrantOwner, u64),
    (nonce, refresh_token): (Option<&str>, Option<String>),
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    let rules = platform.grants.rules();
    let now = platform.clock.now();
    let access_token = platform.access_tokens.issue(who.clone(), grant, &rules, now)?;
    let seconds = rules.access_token_seconds;
    let mut body = json!({
        "token_type": if rules.lower_case_token_type { "bearer" } else { "Bearer" },
        "access_token": access_token,
        "expires_in": if rules.expires_in_is_text { json!(seconds.to_string()) } else { json!(seconds) },
        "id_token": id_token::write(platform, subject, nonce, &rules, fault)?,
    });
    if let Some(fields) = body.as_object_mut() {
        if let Some(refresh_token) = refresh_token {
            fields.insert("refresh_token".to_owned(), json!(refresh_token));
        }
        if let Some(Fault::MissingFields { fields: missing }) = fault {
            fields.retain(|name, _| !missing.contains(name));
        }
    }
    Ok(Answer::json(StatusCode::OK, &body)
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(PRAGMA, HeaderValue::from_static("no-cache")))
}
