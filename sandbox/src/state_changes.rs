//! Notifications of what happened to a tenant, sent to the application's "Customer state change"
//! address (SUPEROFFICE.md 8).

use aws_lc_rs::error::Unspecified;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::jwt;
use crate::platform::Platform;
use crate::world::Tenant;

pub(crate) const AGENT: &str = "SuperOffice";

/// What happened to a tenant, with the numbers of `ChangeType` (SUPEROFFICE.md 8, documented).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ChangeType {
    /// It was upgraded.
    Upgrade = 0,
    /// An older state of it was restored.
    BackupRestored = 1,
    /// It was switched off.
    Suspend = 2,
    /// It was switched on again.
    Resume = 3,
    /// It was deleted.
    Delete = 4,
    /// It lives on another host.
    Move = 5,
}

/// How a notification is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// The token is signed with a key that is in no key set, and names that key.
    ForeignKey,
    /// The token's signature does not match.
    WrongSignature,
    /// The token says `"alg": "none"` and is not signed.
    AlgNone,
    /// The token is signed with HS256, with the public key (PEM) as the secret.
    Hs256PublicKey,
    /// The token expired an hour ago.
    Expired,
    /// The token's issuer is `SuperOffice AS`.
    WrongIssuer,
    /// There is no token.
    NoToken,
}

impl Forgery {
    fn fault(self) -> Option<Fault> {
        match self {
            Self::ForeignKey => Some(Fault::ForeignKey),
            Self::WrongSignature => Some(Fault::WrongSignature),
            Self::AlgNone => Some(Fault::AlgNone),
            Self::Hs256PublicKey => Some(Fault::Hs256PublicKey),
            Self::Expired => Some(Fault::ExpiredToken),
            Self::WrongIssuer | Self::NoToken => None,
        }
    }
}

/// A notification to send. It says that something happened; it does not make it happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The tenant.
    pub tenant: String,
    /// What happened.
    pub change: ChangeType,
    /// Where it goes: `http://host:port/path`. The real service demands HTTPS.
    pub target: String,
    /// The audience of the token; none by default, since it is not documented.
    #[serde(default)]
    pub audience: Option<String>,
    /// What else the token claims; nothing by default, since it is not documented.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// How it is forged, if it is.
    #[serde(default)]
    pub forgery: Option<Forgery>,
}

impl StateChange {
    /// A genuine one.
    #[must_use]
    pub fn new(tenant: &str, change: ChangeType, target: &str) -> Self {
        Self {
            tenant: tenant.to_owned(),
            change,
            target: target.to_owned(),
            audience: None,
            claims: Map::new(),
            forgery: None,
        }
    }

    /// The documented body; the token is signed as id tokens are, by their issuer (SUPEROFFICE.md
    /// 8, seen in the documentation's sample).
    pub(crate) fn body(&self, platform: &Platform, tenant: &Tenant) -> Result<Value, Unspecified> {
        let mut body = json!({
            "ChangeType": self.change as u8,
            "ContextIdentifier": self.tenant,
            "VersionName": "Release_11.10_2026.02.24-02",
            "FileVersion": "11.10.9551.1121",
        });
        let Some(fields) = body.as_object_mut() else {
            return Ok(body);
        };
        if self.forgery != Some(Forgery::NoToken) {
            fields.insert("Token".to_owned(), json!(self.token(platform)?));
        }
        if self.change == ChangeType::Move {
            let address = platform.addresses.api(tenant.host);
            let host = address.strip_prefix("http://").unwrap_or(address);
            fields.insert("PublicEndpoint".to_owned(), json!(host));
        }
        Ok(body)
    }

    fn token(&self, platform: &Platform) -> Result<String, Unspecified> {
        let fault = self.forgery.and_then(Forgery::fault);
        let mut claims = jwt::times(platform, fault.as_ref());
        let issuer = match self.forgery {
            Some(Forgery::WrongIssuer) => "SuperOffice AS".to_owned(),
            _ => platform.rules().issuer,
        };
        claims.insert("iss".to_owned(), json!(issuer));
        if let Some(audience) = &self.audience {
            claims.insert("aud".to_owned(), json!(audience));
        }
        claims.extend(self.claims.clone());
        jwt::write(platform, claims, fault.as_ref())
    }
}
