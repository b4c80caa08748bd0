//! Looking at a login host without any credential: what `check` asks.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{
    client::{Answer, Profile, Repeat, json, unexpected},
    fault::Fault,
    jwks::{self, JWKS_PATH},
    login_host::LoginHost,
    skew, tenant_status,
};
use crate::{
    domain::{AllowedApiHosts, ContextIdentifier, TenantStatus},
    ports::{Clock, TenantStatusSource, UpstreamError},
};

const DISCOVERY: Profile =
    Profile { what: "discovery document", max_body_bytes: 64 * 1024, repeat: Repeat::Reads };

const DISCOVERY_PATH: &str = "/login/.well-known/openid-configuration";

/// Without these nobody can sign in.
const NEEDED: [&str; 4] = ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"];

/// Documented too (SUPEROFFICE.md 1.2); nothing fails without them.
const DOCUMENTED: [&str; 7] = [
    "scopes_supported",
    "response_modes_supported",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
    "token_endpoint_auth_methods_supported",
    "grant_types_supported",
];

/// The login host of one application, to be looked at.
pub struct Diagnosis {
    login: Arc<LoginHost>,
    allowed_api_hosts: AllowedApiHosts,
    clock: Arc<dyn Clock>,
}

/// A login host that answered.
#[derive(Debug)]
pub struct Reached {
    /// Its clock minus ours, if it told the time.
    pub clock_skew: Option<SignedDuration>,
    /// What it says of itself.
    pub discovery: Result<Discovery, UpstreamError>,
}

/// A discovery document. What is in it is compared and never shown.
#[derive(Debug)]
pub struct Discovery(Map<String, Value>);

impl Diagnosis {
    /// Connects nothing yet. `allowed_api_hosts` are the hosts that tenant status may name.
    #[must_use]
    pub fn new(
        login: Arc<LoginHost>,
        allowed_api_hosts: AllowedApiHosts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { login, allowed_api_hosts, clock }
    }

    /// Asks for the discovery document, once.
    ///
    /// # Errors
    /// If no answer came; how far it got is in the error.
    pub async fn reach(&self) -> Result<Reached, Fault> {
        let answer = self.login.ask_once(DISCOVERY, DISCOVERY_PATH).await?;
        let now = self.clock.now();
        let clock_skew = answer.date.as_deref().and_then(|date| skew::difference(date, now));
        Ok(Reached { clock_skew, discovery: Discovery::read(&answer) })
    }

    /// How many of its public keys are usable: at least one.
    ///
    /// # Errors
    /// If they cannot be read, or none is usable.
    pub async fn usable_keys(&self) -> Result<usize, UpstreamError> {
        jwks::count_usable(&self.login).await
    }
}

#[async_trait]
impl TenantStatusSource for Diagnosis {
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError> {
        tenant_status::read(&self.login, &*self.clock, &self.allowed_api_hosts, tenant).await
    }
}

impl Discovery {
    fn read(answer: &Answer) -> Result<Self, UpstreamError> {
        if !answer.status.is_success() {
            return Err(unexpected(DISCOVERY, answer.status));
        }
        json(DISCOVERY, &answer.body).map(Self)
    }

    /// Needed fields that it lacks.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let there = |name: &str| self.text(name).is_some_and(|text| !text.is_empty());
        NEEDED.into_iter().filter(|name| !there(name)).collect()
    }

    /// Documented fields that it lacks and nobody needs.
    #[must_use]
    pub fn also_missing(&self) -> Vec<&'static str> {
        let there = |name: &str| self.0.get(name).is_some_and(Value::is_array);
        DOCUMENTED.into_iter().filter(|name| !there(name)).collect()
    }

    /// Whether it names this issuer.
    #[must_use]
    pub fn is_of(&self, issuer: &str) -> bool {
        self.text("issuer") == Some(issuer)
    }

    /// Whether the public keys are where they are documented to be, and where we read them.
    #[must_use]
    pub fn has_documented_keys(&self, login_uri: &str) -> bool {
        self.text("jwks_uri").and_then(|uri| uri.strip_prefix(login_uri)) == Some(JWKS_PATH)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: &str = "https://sod.superoffice.com";

    fn documented() -> Map<String, Value> {
        let text = r#"{
            "issuer": "https://sod.superoffice.com",
            "authorization_endpoint": "https://sod.superoffice.com/login/common/oauth/authorize",
            "token_endpoint": "https://sod.superoffice.com/login/common/oauth/tokens",
            "jwks_uri": "https://sod.superoffice.com/login/.well-known/jwks",
            "scopes_supported": ["openid"],
            "response_modes_supported": ["form_post", "fragment", "query"],
            "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "grant_types_supported": ["implicit", "authorization_code", "refresh_token"]
        }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_documented_example_has_nothing_against_it() {
        let document = Discovery(documented());
        assert!(document.missing().is_empty() && document.also_missing().is_empty());
        assert!(document.is_of(LOGIN) && document.has_documented_keys(LOGIN));
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named() {
        let mut fields = documented();
        fields.remove("token_endpoint");
        fields.insert("jwks_uri".to_owned(), Value::from(1));
        fields.insert("scopes_supported".to_owned(), Value::from("openid"));
        let document = Discovery(fields);
        assert_eq!(document.missing(), ["token_endpoint", "jwks_uri"]);
        assert_eq!(document.also_missing(), ["scopes_supported"]);
    }

    #[test]
    fn another_issuer_and_other_keys_are_seen() {
        for (field, value) in [
            ("issuer", "https://sod.superoffice.com.evil.example"),
            ("issuer", "https://sod.superoffice.com/"),
            ("jwks_uri", "https://evil.example/login/.well-known/jwks"),
            ("jwks_uri", "https://sod.superoffice.com/login/.well-known/jwks2"),
        ] {
            let mut fields = documented();
            fields.insert(field.to_owned(), Value::from(value));
            let document = Discovery(fields);
            assert!(!(document.is_of(LOGIN) && document.has_documented_keys(LOGIN)), "{value}");
        }
    }
}
