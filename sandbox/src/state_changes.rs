//! Notifications of tenant state changes, sent to the application's "Customer state change"
//! address.

use aws_lc_rs::error::Unspecified;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::faults::Fault;
use crate::jwt;
use crate::platform::Platform;
use crate::world::Tenant;

pub(crate) const USER_AGENT: &str = "SuperOffice";

/// The change of a tenant, with the numbers of `ChangeType` (documented).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ChangeType {
    /// An upgrade.
    Upgrade = 0,
    /// A restored backup.
    BackupRestored = 1,
    /// A suspension.
    Suspend = 2,
    /// The end of a suspension.
    Resume = 3,
    /// A deletion.
    Delete = 4,
    /// A move to another host.
    Move = 5,
}

/// The kind of forgery of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgery {
    /// The token is signed with a key outside the key set, and names that key.
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

/// A notification to send. Sending it does not change the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// The tenant.
    pub tenant: String,
    /// The change.
    pub change: ChangeType,
    /// The target: `http://host:port/path`. SuperOffice requires HTTPS.
    pub target: String,
    /// The audience of the token; none by default, because it is not documented.
    #[serde(default)]
    pub audience: Option<String>,
    /// Further claims of the token; none by default, because they are not documented.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// The forgery, if any.
    #[serde(default)]
    pub forgery: Option<Forgery>,
}

impl StateChange {
    /// Returns a genuine notification.
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

    /// Returns the documented body. The token is signed like id tokens, by the same issuer
    /// (observed in a sample).
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
        let mut claims = jwt::time_claims(platform, fault.as_ref());
        let issuer = match self.forgery {
            Some(Forgery::WrongIssuer) => "SuperOffice AS".to_owned(),
            _ => platform.rules().issuer,
        };
        claims.insert("iss".to_owned(), json!(issuer));
        if let Some(audience) = &self.audience {
            claims.insert("aud".to_owned(), json!(audience));
        }
        claims.extend(self.claims.clone());
        jwt::encode_token(platform, claims, fault.as_ref())
    }
}
