//! Access tokens: opaque, for one person in one tenant, and not for long.

use std::collections::HashMap;
use std::sync::Mutex;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jiff::{SignedDuration, Timestamp};

use super::{SignInRules, SignedIn};
use crate::lock::hold;

/// What the blob holds after its first 21 bytes (SUPEROFFICE.md 4.2, inferred).
const SEALED_BYTES: u32 = 464;

/// An access token that was presented.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is good, as far as time goes.
    Live {
        who: SignedIn,
        grant: u64,
    },
    /// It was, once.
    Dead,
    Unknown,
}

#[derive(Debug)]
struct Access {
    who: SignedIn,
    grant: u64,
    expires: Timestamp,
    revoked: bool,
}

#[derive(Debug, Default)]
pub(crate) struct AccessTokens {
    by_text: Mutex<HashMap<String, Access>>,
}

impl AccessTokens {
    pub(crate) fn issue(
        &self,
        who: SignedIn,
        grant: u64,
        rules: &SignInRules,
        now: Timestamp,
    ) -> Result<String, Unspecified> {
        let text = write(&who.tenant, rules.unpadded_access_tokens)?;
        let lifetime = i64::try_from(rules.access_token_seconds).unwrap_or(i64::MAX);
        let expires = now.saturating_add(SignedDuration::from_secs(lifetime)).unwrap_or(now);
        let access = Access { who, grant, expires, revoked: false };
        hold(&self.by_text).insert(text.clone(), access);
        Ok(text)
    }

    pub(crate) fn find(&self, text: &str, now: Timestamp) -> Found {
        match hold(&self.by_text).get(text) {
            None => Found::Unknown,
            Some(access) if access.revoked || now >= access.expires => Found::Dead,
            Some(access) => Found::Live { who: access.who.clone(), grant: access.grant },
        }
    }

    /// Whether there was such a token.
    pub(crate) fn revoke(&self, text: &str) -> bool {
        let mut tokens = hold(&self.by_text);
        let found = tokens.get_mut(text);
        found.map(|access| access.revoked = true).is_some()
    }

    pub(crate) fn revoke_all(&self, tenant: Option<&str>) {
        for access in hold(&self.by_text).values_mut() {
            access.revoked |= tenant.is_none_or(|tenant| access.who.tenant == tenant);
        }
    }
}

/// `8A:`, the tenant, a dot, and base64 of a blob: one, sixteen bytes, a length, as many bytes.
fn write(tenant: &str, unpadded: bool) -> Result<String, Unspecified> {
    let mut id = [0; 16];
    let mut sealed = [0; SEALED_BYTES as usize];
    rand::fill(&mut id)?;
    rand::fill(&mut sealed)?;
    let blob = [&[1], &id[..], &SEALED_BYTES.to_le_bytes(), &sealed].concat();
    let text = if unpadded { STANDARD_NO_PAD.encode(blob) } else { STANDARD.encode(blob) };
    Ok(format!("8A:{tenant}.{text}"))
}
