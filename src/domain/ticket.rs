//! System user tickets.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::{ContextIdentifier, GrantId};

/// Lifetime of a ticket after its last use, as documented by SuperOffice.
pub const TICKET_LIFETIME: Duration = Duration::from_hours(6);

/// The prefix of every ticket.
const PREFIX: &str = "7T:";

/// Maximum length of a ticket, in bytes. Real tickets have about 150 bytes.
const MAX_TICKET_BYTES: usize = 4096;

/// A public id of a credential that does not reveal it: `t-` and random characters for a ticket; `a-`, the grant id,
/// `-` and random characters for an access token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CredentialId(Arc<str>);

impl CredentialId {
    /// Creates the id of a ticket from 16 random bytes.
    #[must_use]
    pub fn of_ticket(random: [u8; 16]) -> Self {
        Self(format!("t-{:032x}", u128::from_be_bytes(random)).into())
    }

    /// Creates the id of a grant's access token from 16 random bytes.
    #[must_use]
    pub fn of_access_token(grant: &GrantId, random: [u8; 16]) -> Self {
        Self(format!("a-{grant}-{:032x}", u128::from_be_bytes(random)).into())
    }

    /// Creates an id from a text of the store or a caller. A made-up id matches nothing.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns whether this has the form of a ticket's id.
    #[must_use]
    pub fn is_ticket(&self) -> bool {
        self.0.starts_with("t-")
    }

    /// Returns the grant id, if this has the form of an access token's id.
    #[must_use]
    pub fn grant(&self) -> Option<GrantId> {
        // A grant id may contain hyphens; the random characters do not.
        let (grant, random) = self.0.strip_prefix("a-")?.rsplit_once('-')?;
        if random.is_empty() { None } else { grant.parse().ok() }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id as a shared string.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A ticket and its metadata.
#[derive(Debug, Clone)]
pub struct SystemTicket {
    /// The ticket, `7T:…`, which is sent unchanged.
    pub value: SecretString,
    /// The public id of the ticket.
    pub credential_id: CredentialId,
    /// The time when it was requested.
    pub issue_time: Timestamp,
    /// The time until which it works at least. Uses that the gateway did not see may have extended its life.
    pub expire_time: Timestamp,
    /// The `Tenant::token_version` under which it was issued.
    pub token_version: i64,
}

impl SystemTicket {
    /// Returns the minimum remaining lifetime at `now`.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Duration {
        self.expire_time.duration_since(now).try_into().unwrap_or(Duration::ZERO)
    }
}

/// Returns the end of a ticket's life after a use at `used`: six hours later, but at most `max_age` after its issue.
#[must_use]
pub fn ticket_lifetime_end(issued: Timestamp, used: Timestamp, max_age: Duration) -> Timestamp {
    let sliding = used.saturating_add(TICKET_LIFETIME).unwrap_or(Timestamp::MAX);
    let oldest = issued.saturating_add(max_age).unwrap_or(Timestamp::MAX);
    sliding.min(oldest)
}

/// The text is not a ticket. The message does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a system user ticket")]
pub struct TicketError;

/// Returns the tenant that a ticket names, if its content can be decoded.
///
/// The tickets of CRM Online are base64 of UTF-16LE `{32 hex};{decimal};{tenant}`. That is observed and not documented,
/// so a ticket with other content is accepted: `Ok(None)`.
///
/// # Errors
/// Returns an error unless the text is `7T:` followed by printable ASCII without spaces, because it is sent in a
/// header.
pub fn ticket_tenant(ticket: &SecretString) -> Result<Option<ContextIdentifier>, TicketError> {
    let text = ticket.expose_secret();
    let body = text.strip_prefix(PREFIX).ok_or(TicketError)?;
    if body.is_empty()
        || text.len() > MAX_TICKET_BYTES
        || !body.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(TicketError);
    }
    Ok(decode_body(body).and_then(|inside| inside.rsplit(';').next().and_then(|t| t.parse().ok())))
}

fn decode_body(body: &str) -> Option<Zeroizing<String>> {
    let bytes = Zeroizing::new(STANDARD.decode(body).ok()?);
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let units = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    char::decode_utf16(units).collect::<Result<String, _>>().ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(inside: &str) -> SecretString {
        let bytes: Vec<u8> = inside.encode_utf16().flat_map(u16::to_le_bytes).collect();
        format!("7T:{}", STANDARD.encode(bytes)).into()
    }

    #[test]
    fn reads_the_tenant_in_a_ticket() {
        let tenant =
            ticket_tenant(&ticket("07f1edd1de08b1acd68471699a4fb392;2087315043;Cust26759"));
        assert_eq!(tenant.unwrap().unwrap().to_string(), "Cust26759");
    }

    #[test]
    fn accepts_a_ticket_whose_content_cannot_be_decoded() {
        for text in ["7T:x", "7T:AAE=", "7T:AAA=", "7T:////"] {
            assert_eq!(ticket_tenant(&text.into()), Ok(None), "{text}");
        }
    }

    #[test]
    fn rejects_malformed_tickets() {
        let huge = format!("7T:{}", "A".repeat(MAX_TICKET_BYTES));
        for text in ["", "7T:", "7t:AAA=", "8A:Cust1.AAA=", "7T:A\r\nX: y", "7T:A B", "7T:å", &huge]
        {
            assert_eq!(ticket_tenant(&text.into()), Err(TicketError), "{text}");
        }
    }

    #[test]
    fn the_id_of_an_access_token_contains_its_grant() {
        for grant in ["g", "a-b_C-", "-a"] {
            let grant: GrantId = grant.parse().unwrap();
            let id = CredentialId::of_access_token(&grant, [7; 16]);
            assert_eq!(CredentialId::from_text(id.as_str()).grant(), Some(grant));
            assert!(!id.is_ticket());
        }
        for text in ["", "a-", "a-g", "a-g-", "a--x", "a---x", "t-g-x", "A-g-x", "a-g h-x"] {
            assert_eq!(CredentialId::from_text(text).grant(), None, "{text}");
        }
        assert_eq!(CredentialId::of_ticket([7; 16]).grant(), None);
    }

    #[test]
    fn a_use_extends_a_ticket_by_six_hours_up_to_its_maximum_age() {
        let hour = Duration::from_hours(1);
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let used = issued + hour;
        assert_eq!(ticket_lifetime_end(issued, used, 12 * hour), issued + 7 * hour);
        assert_eq!(ticket_lifetime_end(issued, issued + 9 * hour, 12 * hour), issued + 12 * hour);
    }

    proptest! {
        #[test]
        fn reading_a_ticket_never_panics(text in ".{0,200}", inside_text in ".{0,60}") {
            let _ = ticket_tenant(&text.into());
            let _ = ticket_tenant(&ticket(&inside_text));
        }

        #[test]
        fn the_last_part_of_the_content_is_the_tenant(
            before in "\\PC{0,60}",
            last in "Cust[0-9]{1,10}|\\PC{0,12}",
        ) {
            let wanted = last.rsplit(';').next().and_then(|last| last.parse().ok());
            prop_assert_eq!(ticket_tenant(&ticket(&format!("{before};{last}"))), Ok(wanted));
        }

        #[test]
        fn whatever_is_accepted_can_be_sent_in_a_header(text in "(7T:)?([!-~]{0,40}|.{0,40})") {
            if ticket_tenant(&text.as_str().into()).is_ok() {
                prop_assert!(text.starts_with("7T:") && text.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
