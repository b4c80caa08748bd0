//! Token revocation by the application. Needs no authentication (observed).

use hyper::StatusCode;

use super::error::OAuthError;
use crate::answer::Answer;
use crate::form::Form;
use crate::platform::Platform;

/// Answers 200 for an unknown token, too (RFC 7009 section 2.2).
pub(super) fn answer(platform: &Platform, form: Option<&Form>) -> Answer {
    let Some(token) = form.and_then(|form| form.get("token")) else {
        return OAuthError::InvalidRequest("The token is missing.").answer();
    };
    let known = platform.grants.revoke_by_token(token).is_some();
    if known || platform.access_tokens.revoke(token) {
        platform.counts.update_sign_ins(|counts| counts.revocations += 1);
    }
    Answer::empty(StatusCode::OK)
}
