//! Revocation by the application. It needs no authentication (SUPEROFFICE.md 4.2, seen).

use hyper::StatusCode;

use super::error::OAuthError;
use crate::answer::Answer;
use crate::form::Form;
use crate::platform::Platform;

/// What is not known counts as revoked (RFC 7009 section 2.2).
pub(super) fn answer(platform: &Platform, form: Option<&Form>) -> Answer {
    let Some(token) = form.and_then(|form| form.get("token")) else {
        return OAuthError::InvalidRequest("There is no token.").answer();
    };
    let known = platform.grants.end_by_token(token).is_some();
    if known || platform.access_tokens.revoke(token) {
        platform.counts.sign_in(|counts| counts.revocations += 1);
    }
    Answer::empty(StatusCode::OK)
}
