//! The refresh tokens of one grant.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{GrantRecord, RefreshTokenRecord, RefreshTokenState, digest};
use super::rules::{PreviousToken, SignInRules};
use super::{Refused, SignedIn};

/// A refresh token.
#[derive(Debug)]
pub(super) struct Member {
    text: String,
    /// The place of the one it replaced.
    parent: Option<usize>,
    /// When it was replaced first.
    replaced: Option<Timestamp>,
    /// How often it was accepted although it had been replaced.
    late: u32,
    accepted: u64,
    refused: u64,
}

impl Member {
    pub(super) fn first(text: String) -> Self {
        Self { text, parent: None, replaced: None, late: 0, accepted: 0, refused: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Family {
    pub(super) number: u64,
    pub(super) who: SignedIn,
    pub(super) ended: bool,
    begun: Timestamp,
    members: Vec<Member>,
    reuses: u64,
}

impl Family {
    pub(super) fn new(number: u64, who: SignedIn, first: Member, begun: Timestamp) -> Self {
        Self { number, who, ended: false, begun, members: vec![first], reuses: 0 }
    }

    /// Whether a token is good for a refresh. A token that was replaced and is not good any more
    /// is a reuse, which may end the grant.
    pub(super) fn accept(
        &mut self,
        place: usize,
        client_id: &str,
        rules: &SignInRules,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let child_used = self.members.iter().any(|member| {
            member.parent == Some(place) && (member.accepted > 0 || member.replaced.is_some())
        });
        let Some(member) = self.members.get_mut(place) else {
            return Err(Refused::Unknown);
        };
        let judged = if self.who.client_id != client_id {
            Err(Refused::Unknown)
        } else if self.ended {
            Err(Refused::Ended)
        } else if let Some(replaced) = member.replaced {
            let since = now.duration_since(replaced);
            let accepted = match rules.previous_token {
                PreviousToken::Refused => false,
                PreviousToken::Accepted => true,
                PreviousToken::AcceptedTimes { times } => member.late < times,
                PreviousToken::AcceptedFor { seconds } => {
                    since.is_negative() || since.unsigned_abs() <= Duration::from_secs(seconds)
                }
                PreviousToken::AcceptedUntilNextIsUsed => !child_used,
            };
            if accepted {
                member.late += 1;
                Ok(())
            } else {
                self.reuses += 1;
                self.ended |= rules.reuse_revokes_grant;
                Err(Refused::Replaced)
            }
        } else {
            Ok(())
        };
        match judged {
            Ok(()) => member.accepted += 1,
            Err(_) => member.refused += 1,
        }
        judged
    }

    /// Adds the token that replaces another: its place.
    pub(super) fn replace(&mut self, place: usize, text: String, now: Timestamp) -> usize {
        if let Some(member) = self.members.get_mut(place) {
            member.replaced.get_or_insert(now);
        }
        self.members.push(Member { parent: Some(place), ..Member::first(text) });
        self.members.len() - 1
    }

    pub(super) fn refused(&mut self, place: usize) {
        if let Some(member) = self.members.get_mut(place) {
            member.refused += 1;
        }
    }

    pub(super) fn record(&self) -> GrantRecord {
        let refresh_tokens = self.members.iter().map(|member| RefreshTokenRecord {
            digest: digest(&member.text),
            state: match member.replaced {
                _ if self.ended => RefreshTokenState::Revoked,
                Some(_) => RefreshTokenState::Replaced,
                None => RefreshTokenState::Current,
            },
            replaces: member.parent,
            accepted: member.accepted,
            refused: member.refused,
        });
        GrantRecord {
            number: self.number,
            client_id: self.who.client_id.clone(),
            tenant: self.who.tenant.clone(),
            associate_id: self.who.associate_id,
            begun: self.begun,
            revoked: self.ended,
            reuses: self.reuses,
            refresh_tokens: refresh_tokens.collect(),
        }
    }
}
