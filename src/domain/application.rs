//! Applications: a SuperOffice client id in one environment.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::{ApplicationId, Obstacle};

/// A SuperOffice CRM Online environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Development.
    Sod,
    /// Stage.
    QaOnline,
    /// Production.
    Online,
}

/// The text does not name an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an environment is one of sod (development), qaonline (stage), online (production)")]
pub struct UnknownEnvironment;

impl Environment {
    /// Returns the name in the configuration, which is also the sub-domain of the login host.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sod => "sod",
            Self::QaOnline => "qaonline",
            Self::Online => "online",
        }
    }

    /// Returns the URI of the login host, without a trailing slash. It is also the issuer of id tokens.
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

/// The last failure of an application: SuperOffice refused it or was unreachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationFailure {
    /// The time of the failure.
    pub time: Timestamp,
    /// The problem and its correction.
    pub obstacle: Obstacle,
}

/// The public data of an application.
#[derive(Debug, Clone)]
pub struct ApplicationView {
    /// The gateway's name for the application.
    pub id: ApplicationId,
    /// The environment.
    pub environment: Environment,
    /// SuperOffice's name for the application, which is public.
    pub client_id: String,
    /// The RFC 7638 thumbprints of its public RSA keys.
    pub key_ids: Vec<String>,
    /// The time when SuperOffice last issued a credential to it, since this process started.
    pub last_success: Option<Timestamp>,
    /// The last failure to issue a credential, since this process started.
    pub last_failure: Option<ApplicationFailure>,
}
