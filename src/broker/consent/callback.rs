//! A browser's request to the callback, and its outcome.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;

use crate::{
    broker::BrokerError,
    domain::{AuditText, Grant},
};

/// The authorization response of SuperOffice (RFC 6749 section 4.1.2).
#[derive(Debug, Clone)]
pub enum AuthorizationResponse {
    /// The person consented; this is the code.
    Code(SecretString),
    /// The unverified error code of the response.
    Error(String),
}

/// A browser's request to the callback.
#[derive(Debug, Clone)]
pub struct CallbackRequest {
    /// The state parameter.
    pub state: SecretString,
    /// The authorization response.
    pub response: AuthorizationResponse,
    /// The cookie, if the browser sent one.
    pub cookie: Option<SecretString>,
    /// The request id, for the audit trail.
    pub request_id: Arc<str>,
    /// The client's address, for the audit trail.
    pub client_address: AuditText,
    /// The longest time that the code exchange may wait for the limit of concurrent calls to SuperOffice.
    pub max_wait: Duration,
}

/// The redirect of the person to the application's own page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo {
    /// A registered URI of the application.
    pub uri: String,
    /// The state parameter of the callback.
    pub state: String,
}

/// The outcome of a callback.
#[derive(Debug)]
pub struct CallbackOutcome {
    /// The redirect of the person, if it is known.
    pub return_to: Option<ReturnTo>,
    /// The link by which the person reached the sign-in.
    pub entry: ConsentEntry,
    /// The completed consent, or the error.
    pub result: Result<CompletedConsent, BrokerError>,
}

/// A consent that was given and is stored.
#[derive(Debug, Clone)]
pub struct CompletedConsent {
    /// The grant.
    pub grant: Grant,
    /// Whether the system user was also enrolled.
    pub system_user_enrolled: bool,
}

/// The link by which a person reached the sign-in. It decides the next step after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsentEntry {
    /// `consent_uri`, which still works.
    Link,
    /// `authorization_uri`, whose state is used up.
    Address,
    /// Unknown, or not disclosed.
    #[default]
    Unknown,
}
