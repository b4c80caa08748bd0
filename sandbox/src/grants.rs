//! What people's sign-ins leave behind: codes, refresh tokens, access tokens.
//!
//! A grant begins with a code that is exchanged, and is a family of refresh tokens: one, or with
//! rotation each the child of the one it replaces.

mod access;
mod codes;
mod family;
mod record;
mod rules;

use std::collections::HashMap;
use std::sync::{Mutex, RwLock};

use aws_lc_rs::error::Unspecified;
use jiff::Timestamp;

pub(crate) use self::access::{AccessTokens, Found};
pub(crate) use self::codes::{Challenge, Code, Codes, Taken};
use self::family::{Family, Member};
pub use self::record::{GrantRecord, RefreshTokenRecord, RefreshTokenState};
pub use self::rules::{ApprovalPage, PreviousToken, SignInRules};
use crate::lock::{hold, read, write};
use crate::random;

/// Length of codes and refresh tokens (SUPEROFFICE.md 4.1 and 4.2, seen).
const LETTERS: usize = 64;

/// Who signed in to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) client_id: String,
    pub(crate) tenant: String,
    pub(crate) associate_id: u32,
}

/// Why a refresh token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was never issued to this application.
    Unknown,
    /// Its grant was revoked.
    Ended,
    /// It was replaced by another.
    Replaced,
}

/// A refresh token that was accepted.
#[derive(Debug)]
pub(crate) struct Refreshed {
    pub(crate) grant: u64,
    /// The one that replaces it, with rotation.
    pub(crate) next: Option<String>,
}

#[derive(Debug, Default)]
struct Store {
    /// Each by its number less one.
    families: Vec<Family>,
    /// The family's place, and the token's place in it.
    by_token: HashMap<String, (usize, usize)>,
}

impl Store {
    fn family_of(&mut self, token: &str) -> Option<(&mut Family, usize)> {
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

    /// Begins a grant: its number, and its first refresh token.
    pub(crate) fn begin(
        &self,
        who: SignedIn,
        now: Timestamp,
    ) -> Result<(u64, String), Unspecified> {
        let token = random::letters(LETTERS)?;
        let mut store = hold(&self.store);
        let place = store.families.len();
        let number = place as u64 + 1;
        store.by_token.insert(token.clone(), (place, 0));
        store.families.push(Family::new(number, who, Member::first(token.clone()), now));
        Ok((number, token))
    }

    /// Whom a refresh token was issued to, whatever became of it.
    pub(crate) fn holder(&self, token: &str) -> Option<SignedIn> {
        hold(&self.store).family_of(token).map(|(family, _)| family.who.clone())
    }

    /// Accepts a refresh token, and replaces it where tokens rotate.
    pub(crate) fn refresh(
        &self,
        token: &str,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Result<Refreshed, Refused>, Unspecified> {
        let rules = self.rules();
        let next = if rules.rotation { Some(random::letters(LETTERS)?) } else { None };
        let mut store = hold(&self.store);
        let Some((family, member)) = store.family_of(token) else {
            return Ok(Err(Refused::Unknown));
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
        Ok(Ok(Refreshed { grant, next }))
    }

    /// Counts a refresh token that was refused for what happened to its holder.
    pub(crate) fn refused(&self, token: &str) {
        if let Some((family, member)) = hold(&self.store).family_of(token) {
            family.refused(member);
        }
    }

    /// Ends the grant of a refresh token: its number.
    pub(crate) fn end_by_token(&self, token: &str) -> Option<u64> {
        let mut store = hold(&self.store);
        let (family, _) = store.family_of(token)?;
        family.ended = true;
        Some(family.number)
    }

    /// Ends the grants of some: how many there were.
    pub(crate) fn end(&self, whose: impl Fn(&SignedIn) -> bool) -> usize {
        let mut store = hold(&self.store);
        let open = store.families.iter_mut().filter(|family| !family.ended && whose(&family.who));
        open.map(|family| family.ended = true).count()
    }

    pub(crate) fn end_by_number(&self, number: u64) {
        if let Some(family) = hold(&self.store).families.get_mut(place(number)) {
            family.ended = true;
        }
    }

    pub(crate) fn has_ended(&self, number: u64) -> bool {
        hold(&self.store).families.get(place(number)).is_some_and(|family| family.ended)
    }

    pub(crate) fn records(&self) -> Vec<GrantRecord> {
        hold(&self.store).families.iter().map(Family::record).collect()
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).map_or(usize::MAX, |number| number.wrapping_sub(1))
}
