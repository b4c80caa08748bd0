//! Access tokens: opaque, for one person in one tenant, short-lived.

use std::collections::HashMap;
use std::sync::Mutex;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::{GrantOwner, SignInRules};
use crate::lock::lock;

/// Length of the blob after its first 21 bytes (inferred).
const RANDOM_BYTES: u32 = 464;

/// The state of an access token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AccessTokenState {
    /// Not expired and not revoked; its grant may be revoked.
    Valid {
        owner: GrantOwner,
        grant: u64,
    },
    /// Expired or revoked.
    ExpiredOrRevoked,
    Unknown,
}

#[derive(Debug)]
struct IssuedToken {
    owner: GrantOwner,
    grant: u64,
    expires: Timestamp,
    revoked: bool,
}

#[derive(Debug, Default)]
pub(crate) struct AccessTokens {
    by_text: Mutex<HashMap<String, IssuedToken>>,
}

impl AccessTokens {
    pub(crate) fn issue(
        &self,
        who: GrantOwner,
        grant: u64,
        rules: &SignInRules,
        now: Timestamp,
    ) -> Result<String, Unspecified> {
        let text = generate(&who.tenant, rules.unpadded_access_tokens)?;
        let lifetime = i64::try_from(rules.access_token_seconds).unwrap_or(i64::MAX);
        let expires = now.saturating_add(SignedDuration::from_secs(lifetime)).unwrap_or(now);
        let access = IssuedToken { owner: who, grant, expires, revoked: false };
        lock(&self.by_text).insert(text.clone(), access);
        Ok(text)
    }

    pub(crate) fn find(&self, text: &str, now: Timestamp) -> AccessTokenState {
        match lock(&self.by_text).get(text) {
            None => AccessTokenState::Unknown,
            Some(access) if access.revoked || now >= access.expires => {
                AccessTokenState::ExpiredOrRevoked
            }
            Some(access) => {
                AccessTokenState::Valid { owner: access.owner.clone(), grant: access.grant }
            }
        }
    }

    /// Revokes a token. Returns whether it was known.
    pub(crate) fn revoke(&self, text: &str) -> bool {
        let mut tokens = lock(&self.by_text);
        let found = tokens.get_mut(text);
        found.map(|access| access.revoked = true).is_some()
    }

    pub(crate) fn revoke_all(&self, tenant: Option<&str>) {
        for access in lock(&self.by_text).values_mut() {
            access.revoked |= tenant.is_none_or(|tenant| access.owner.tenant == tenant);
        }
    }
}

/// Generates a token: `8A:`, the tenant, a dot, and base64 of a blob. The blob is 1, sixteen random
/// bytes, a length, and that many random bytes.
fn generate(tenant: &str, unpadded: bool) -> Result<String, Unspecified> {
    let mut id = [0; 16];
    let mut sealed = [0; RANDOM_BYTES as usize];
    rand::fill(&mut id)?;
    rand::fill(&mut sealed)?;
    let blob = [&[1], &id[..], &RANDOM_BYTES.to_le_bytes(), &sealed].concat();
    let text = if unpadded { STANDARD_NO_PAD.encode(blob) } else { STANDARD.encode(blob) };
    Ok(format!("8A:{tenant}.{text}"))
}
