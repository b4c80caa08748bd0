//! State created by sign-ins: codes, refresh tokens, access tokens.
//!
//! A code exchange creates a grant. A grant is a family of refresh tokens: one token, or with
//! rotation a chain in which each token replaces its parent.

mod access;
mod codes;
mod family;
mod record;
mod rules;

use std::collections::HashMap;
use std::sync::{Mutex, RwLock};

use aws_lc_rs::error::Unspecified;
use jiff::Timestamp;

pub(crate) use self::access::{AccessTokenState, AccessTokens};
pub(crate) use self::codes::{Challenge, Code, Codes, RedeemResult};
use self::family::{RefreshToken, TokenFamily};
pub use self::record::{GrantRecord, RefreshTokenRecord, RefreshTokenState};
pub use self::rules::{ApprovalPage, PreviousToken, SignInRules};
use crate::lock::{lock, read, write};
use crate::random;

/// Length of codes and refresh tokens (observed).
const TOKEN_LENGTH: usize = 64;

/// The application, tenant and associate of a code, token or grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrantOwner {
    pub(crate) client_id: String,
    pub(crate) tenant: String,
    pub(crate) associate_id: u32,
}

/// The reason why a refresh token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshRefusal {
    /// It was never issued to this application.
    Unknown,
    /// Its grant was revoked.
    Revoked,
    /// A newer token replaced it.
    Replaced,
}

/// A refresh token that was accepted.
#[derive(Debug)]
pub(crate) struct AcceptedRefresh {
    pub(crate) grant: u64,
    /// The replacement, with rotation.
    pub(crate) new_token: Option<String>,
}

#[derive(Debug, Default)]
struct Store {
    /// Families, at the index of their number minus one.
    families: Vec<TokenFamily>,
    /// The index of the family, and of the token in it.
    by_token: HashMap<String, (usize, usize)>,
}

impl Store {
    fn family_of(&mut self, token: &str) -> Option<(&mut TokenFamily, usize)> {
        let (family, member) = *self.by_token.get(token)?;
        Some((self.families.get_mut(family)?, member))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Grants {
    store: Mutex<Store>,
    rules: RwLock<SignInRules>,
}

impl Grants {
    pub(crate) fn rules(&self) -> SignInRules {
        read(&self.rules).clone()
    }

    pub(crate) fn set_rules(&self, rules: SignInRules) {
        *write(&self.rules) = rules;
    }

    /// Creates a grant. Returns its number and its first refresh token.
    pub(crate) fn create(
        &self,
        who: GrantOwner,
        now: Timestamp,
    ) -> Result<(u64, String), Unspecified> {
        let token = random::alphanumeric(TOKEN_LENGTH)?;
        let mut store = lock(&self.store);
        let place = store.families.len();
        let number = place as u64 + 1;
        store.by_token.insert(token.clone(), (place, 0));
        store.families.push(TokenFamily::new(number, who, RefreshToken::first(token.clone()), now));
        Ok((number, token))
    }

    /// Returns the owner of a refresh token, also of a replaced or revoked one.
    pub(crate) fn owner(&self, token: &str) -> Option<GrantOwner> {
        lock(&self.store).family_of(token).map(|(family, _)| family.owner.clone())
    }

    /// Accepts a refresh token, and replaces it if tokens rotate.
    pub(crate) fn refresh(
        &self,
        token: &str,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Result<AcceptedRefresh, RefreshRefusal>, Unspecified> {
        let rules = self.rules();
        let next = if rules.rotation { Some(random::alphanumeric(TOKEN_LENGTH)?) } else { None };
        let mut store = lock(&self.store);
        let Some((family, member)) = store.family_of(token) else {
            return Ok(Err(RefreshRefusal::Unknown));
        };
        if let Err(refused) = family.accept(member, client_id, &rules, now) {
            return Ok(Err(refused));
        }
        let grant = family.number;
        if let Some(next) = &next {
            let child = family.replace(member, next.clone(), now);
            if let Some((place, _)) = store.by_token.get(token).copied() {
                store.by_token.insert(next.clone(), (place, child));
            }
        }
        Ok(Ok(AcceptedRefresh { grant, new_token: next }))
    }

    /// Counts a refresh token that was refused because of the state of its owner or tenant.
    pub(crate) fn count_refusal(&self, token: &str) {
        if let Some((family, member)) = lock(&self.store).family_of(token) {
            family.count_refusal(member);
        }
    }

    /// Revokes the grant of a refresh token. Returns its number.
    pub(crate) fn revoke_by_token(&self, token: &str) -> Option<u64> {
        let mut store = lock(&self.store);
        let (family, _) = store.family_of(token)?;
        family.revoked = true;
        Some(family.number)
    }

    /// Revokes the grants that match. Returns their number.
    pub(crate) fn revoke_matching(&self, matches: impl Fn(&GrantOwner) -> bool) -> usize {
        let mut store = lock(&self.store);
        let open =
            store.families.iter_mut().filter(|family| !family.revoked && matches(&family.owner));
        open.map(|family| family.revoked = true).count()
    }

    pub(crate) fn revoke_by_number(&self, number: u64) {
        if let Some(family) = lock(&self.store).families.get_mut(index_of(number)) {
            family.revoked = true;
        }
    }

    pub(crate) fn is_revoked(&self, number: u64) -> bool {
        lock(&self.store).families.get(index_of(number)).is_some_and(|family| family.revoked)
    }

    pub(crate) fn records(&self) -> Vec<GrantRecord> {
        lock(&self.store).families.iter().map(TokenFamily::record).collect()
    }
}

fn index_of(number: u64) -> usize {
    usize::try_from(number).map_or(usize::MAX, |number| number.wrapping_sub(1))
}
