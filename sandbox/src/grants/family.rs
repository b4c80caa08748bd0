//! The refresh tokens of one grant.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{GrantRecord, RefreshTokenRecord, RefreshTokenState, digest};
use super::rules::{PreviousToken, SignInRules};
use super::{GrantOwner, RefreshRefusal};

/// A refresh token.
#[derive(Debug)]
pub(super) struct RefreshToken {
    text: String,
    /// The index of the token it replaced.
    parent: Option<usize>,
    /// The time of its first replacement.
    replaced_at: Option<Timestamp>,
    /// The number of uses accepted after its replacement.
    late_uses: u32,
    accepted: u64,
    refused: u64,
}

impl RefreshToken {
    pub(super) fn first(text: String) -> Self {
        Self { text, parent: None, replaced_at: None, late_uses: 0, accepted: 0, refused: 0 }
    }
}

#[derive(Debug)]
pub(super) struct TokenFamily {
    pub(super) number: u64,
    pub(super) owner: GrantOwner,
    pub(super) revoked: bool,
    created_at: Timestamp,
    tokens: Vec<RefreshToken>,
    reuses: u64,
}

impl TokenFamily {
    pub(super) fn new(number: u64, who: GrantOwner, first: RefreshToken, begun: Timestamp) -> Self {
        Self {
            number,
            owner: who,
            revoked: false,
            created_at: begun,
            tokens: vec![first],
            reuses: 0,
        }
    }

    /// Checks whether a token may be used for a refresh. A replaced token that the rules no longer
    /// accept counts as reuse, which may revoke the grant.
    pub(super) fn accept(
        &mut self,
        place: usize,
        client_id: &str,
        rules: &SignInRules,
        now: Timestamp,
    ) -> Result<(), RefreshRefusal> {
        let child_used = self.tokens.iter().any(|member| {
            member.parent == Some(place) && (member.accepted > 0 || member.replaced_at.is_some())
        });
        let Some(member) = self.tokens.get_mut(place) else {
            return Err(RefreshRefusal::Unknown);
        };
        let result = if self.owner.client_id != client_id {
            Err(RefreshRefusal::Unknown)
        } else if self.revoked {
            Err(RefreshRefusal::Revoked)
        } else if let Some(replaced) = member.replaced_at {
            let since = now.duration_since(replaced);
            let accepted = match rules.previous_token {
                PreviousToken::Refused => false,
                PreviousToken::Accepted => true,
                PreviousToken::AcceptedTimes { times } => member.late_uses < times,
                PreviousToken::AcceptedFor { seconds } => {
                    since.is_negative() || since.unsigned_abs() <= Duration::from_secs(seconds)
                }
                PreviousToken::AcceptedUntilNextIsUsed => !child_used,
            };
            if accepted {
                member.late_uses += 1;
                Ok(())
            } else {
                self.reuses += 1;
                self.revoked |= rules.reuse_revokes_grant;
                Err(RefreshRefusal::Replaced)
            }
        } else {
            Ok(())
        };
        match result {
            Ok(()) => member.accepted += 1,
            Err(_) => member.refused += 1,
        }
        result
    }

    /// Adds the token that replaces another. Returns its index.
    pub(super) fn replace(&mut self, place: usize, text: String, now: Timestamp) -> usize {
        if let Some(member) = self.tokens.get_mut(place) {
            member.replaced_at.get_or_insert(now);
        }
        self.tokens.push(RefreshToken { parent: Some(place), ..RefreshToken::first(text) });
        self.tokens.len() - 1
    }

    pub(super) fn count_refusal(&mut self, place: usize) {
        if let Some(member) = self.tokens.get_mut(place) {
            member.refused += 1;
        }
    }

    pub(super) fn record(&self) -> GrantRecord {
        let refresh_tokens = self.tokens.iter().map(|member| RefreshTokenRecord {
            digest: digest(&member.text),
            state: match member.replaced_at {
                _ if self.revoked => RefreshTokenState::Revoked,
                Some(_) => RefreshTokenState::Replaced,
                None => RefreshTokenState::Current,
            },
            replaces: member.parent,
            accepted: member.accepted,
            refused: member.refused,
        });
        GrantRecord {
            number: self.number,
            client_id: self.owner.client_id.clone(),
            tenant: self.owner.tenant.clone(),
            associate_id: self.owner.associate_id,
            begun: self.created_at,
            revoked: self.revoked,
            reuses: self.reuses,
            refresh_tokens: refresh_tokens.collect(),
        }
    }
}
