//! Applications: a SuperOffice client id in one environment.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::{ApplicationId, Obstacle};

/// A SuperOffice Online environment (SUPEROFFICE.md 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Development.
    Sod,
    /// Stage.
    QaOnline,
    /// Production.
    Online,
}

/// The text names no environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an environment is one of sod (development), qaonline (stage), online (production)")]
pub struct UnknownEnvironment;

impl Environment {
    /// The name in configuration, which is also the sub-domain of the login host.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sod => "sod",
            Self::QaOnline => "qaonline",
            Self::Online => "online",
        }
    }

    /// The login host, without a trailing slash. It is also the issuer of id tokens.
    #[must_use]
    pub fn login_uri(self) -> String {
        format!("https://{}.superoffice.com", self.as_str())
    }
}

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(text: &str) -> Result<Self, UnknownEnvironment> {
        [Self::Sod, Self::QaOnline, Self::Online]
            .into_iter()
            .find(|environment| environment.as_str() == text)
            .ok_or(UnknownEnvironment)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The last time SuperOffice refused an application, or could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationFailure {
    /// When.
    pub time: Timestamp,
    /// What, and how to mend it.
    pub obstacle: Obstacle,
}

/// What may be shown of an application.
#[derive(Debug, Clone)]
pub struct ApplicationView {
    /// Our name for it.
    pub id: ApplicationId,
    /// Where it lives.
    pub environment: Environment,
    /// SuperOffice's name for it (public).
    pub client_id: String,
    /// RFC 7638 thumbprints of the public halves of its RSA keys.
    pub key_ids: Vec<String>,
    /// When SuperOffice last issued a credential to it, since this process started.
    pub last_success: Option<Timestamp>,
    /// When that last failed, since this process started.
    pub last_failure: Option<ApplicationFailure>,
}
