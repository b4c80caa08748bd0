//! The token endpoint (SUPEROFFICE.md 4.2).

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
use crate::grants::{Refused, SignedIn, Taken};
use crate::lock::read;
use crate::people::Associate;
use crate::platform::Platform;
use crate::world::{Authorization, Tenant, TenantState};

/// The tenant that a request is about: that of its code, refresh token or token.
pub(super) fn tenant(platform: &Platform, form: &Form) -> Option<String> {
    let code = form.get("code").and_then(|code| platform.codes.holder(code));
    let token = ["refresh_token", "token"].into_iter().find_map(|name| form.get(name));
    let holder = code.or_else(|| platform.grants.holder(token?));
    holder.map(|holder| holder.tenant)
}

pub(super) fn answer(
    platform: &Platform,
    headers: &HeaderMap,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Answer {
    respond(platform, headers, form, fault).unwrap_or_else(|error| {
        platform.counts.sign_in(|counts| counts.refused += 1);
        error.answer()
    })
}

fn respond(
    platform: &Platform,
    headers: &HeaderMap,
    form: Option<&Form>,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    let form = form.ok_or(OAuthError::InvalidRequest("The request cannot be read."))?;
    let client = client::authenticate(platform, headers, form)?;
    match form.get("grant_type") {
        None => Err(OAuthError::InvalidRequest("There is no grant_type.")),
        Some("authorization_code") => exchange(platform, &client, form, fault),
        Some("refresh_token") => refresh(platform, &client, form, fault),
        Some(_) => Err(OAuthError::UnsupportedGrantType),
    }
}

/// A code for tokens. Whatever comes of it, the code is used.
fn exchange(
    platform: &Platform,
    client: &Client,
    form: &Form,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    let text = form.get("code").ok_or(OAuthError::InvalidRequest("There is no code."))?;
    let redirect_uri = form.get("redirect_uri");
    let redirect_uri =
        redirect_uri.ok_or(OAuthError::InvalidRequest("There is no redirect_uri."))?;
    let (now, rules) = (platform.clock.now(), platform.grants.rules());
    let code = match platform.codes.take(text, Duration::from_secs(rules.code_seconds), now) {
        Taken::Good(code) => code,
        Taken::Unknown => return Err(OAuthError::InvalidGrant("The code is not known.")),
        Taken::Expired => return Err(OAuthError::InvalidGrant("The code expired.")),
        Taken::Again(grant) => {
            platform.counts.sign_in(|counts| counts.codes_repeated += 1);
            if let Some(grant) = grant.filter(|_| rules.reuse_revokes_grant) {
                platform.grants.end_by_number(grant);
            }
            return Err(OAuthError::InvalidGrant("The code was used."));
        }
    };
    if code.who.client_id != client.application.client_id {
        return Err(OAuthError::InvalidGrant("The code is not known."));
    }
    if code.redirect_uri != redirect_uri {
        return Err(OAuthError::InvalidGrant("The redirect_uri is another."));
    }
    match (&code.challenge, form.get("code_verifier")) {
        (None, None) => {}
        (Some(challenge), Some(verifier)) if challenge.is_met_by(verifier) => {}
        _ => return Err(OAuthError::InvalidGrant("The code_verifier does not fit.")),
    }
    let (tenant, associate) = standing(platform, &code.who)?;
    let (grant, refresh_token) = platform.grants.begin(code.who.clone(), now)?;
    platform.codes.became(text, grant);
    platform.counts.sign_in(|counts| counts.codes_exchanged += 1);
    let subject = Subject { tenant, associate, client_id: code.who.client_id.clone() };
    let nonce = code.nonce.as_deref();
    write(platform, subject, (&code.who, grant), (nonce, Some(refresh_token)), fault)
}

/// A refresh token for another access token. `redirect_uri` and `scope` are ignored
/// (SUPEROFFICE.md 4.2, seen).
fn refresh(
    platform: &Platform,
    client: &Client,
    form: &Form,
    fault: Option<&Fault>,
) -> Result<Answer, OAuthError> {
    if !client.proved {
        // A native application needs its secret here (SUPEROFFICE.md 4.2, seen).
        return Err(OAuthError::InvalidClient { basic: client.basic });
    }
    let token = form.get("refresh_token");
    let token = token.ok_or(OAuthError::InvalidRequest("There is no refresh_token."))?;
    let unknown = OAuthError::InvalidGrant("The refresh token is not known.");
    let who = platform.grants.holder(token).ok_or(unknown)?;
    let (tenant, associate) = standing(platform, &who).inspect_err(|_| {
        platform.grants.refused(token);
    })?;
    let client_id = &client.application.client_id;
    let refreshed = platform.grants.refresh(token, client_id, platform.clock.now())?;
    let refreshed = refreshed.map_err(|refused| match refused {
        Refused::Unknown => unknown,
        Refused::Ended => OAuthError::InvalidGrant("The refresh token was revoked."),
        Refused::Replaced => {
            platform.counts.sign_in(|counts| counts.reuses += 1);
            OAuthError::InvalidGrant("The refresh token was replaced.")
        }
    })?;
    platform.counts.sign_in(|counts| counts.refreshes += 1);
    let subject = Subject { tenant, associate, client_id: client_id.clone() };
    write(platform, subject, (&who, refreshed.grant), (None, refreshed.next), fault)
}

/// The tenant and the associate, if the application is still authorized and the person can still
/// sign in.
fn standing(platform: &Platform, who: &SignedIn) -> Result<(Tenant, Associate), OAuthError> {
    let gone = OAuthError::InvalidGrant("The tenant is not there.");
    let tenant = read(&platform.world).tenant(&who.tenant).cloned().ok_or(gone)?;
    match tenant.state {
        TenantState::Deleted
        | TenantState::Deleting
        | TenantState::DeleteFailed
        | TenantState::Unknown => return Err(gone),
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

/// The documented answer, with a refresh token only where there is a new one.
fn write(
    platform: &Platform,
    subject: Subject,
    (who, grant): (&SignedIn, u64),
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
