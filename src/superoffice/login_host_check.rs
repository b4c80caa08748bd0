//! Checks a login host without any credential, for the command `check`.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{
    client::{Answer, RequestLimits, RetryPolicy, json, unexpected_status},
    fault::Fault,
    jwks::{self, JWKS_PATH},
    login_host::LoginHost,
    skew, tenant_status,
};
use crate::{
    domain::{AllowedApiHosts, ContextIdentifier, TenantStatus},
    ports::{Clock, TenantStatusSource, UpstreamError},
};

const DISCOVERY: RequestLimits = RequestLimits {
    name: "discovery document",
    max_body_bytes: 64 * 1024,
    retry: RetryPolicy::Idempotent,
};

const DISCOVERY_PATH: &str = "/login/.well-known/openid-configuration";

/// Fields of the discovery document that signing in requires.
const REQUIRED_FIELDS: [&str; 4] =
    ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"];

/// Documented fields of the discovery document that the gateway does not use.
const OPTIONAL_FIELDS: [&str; 7] = [
    "scopes_supported",
    "response_modes_supported",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
    "token_endpoint_auth_methods_supported",
    "grant_types_supported",
];

/// A check of the login host of one application.
pub struct LoginHostCheck {
    login: Arc<LoginHost>,
    allowed_api_hosts: AllowedApiHosts,
    clock: Arc<dyn Clock>,
}

/// The result of a check to which the login host responded.
#[derive(Debug)]
pub struct LoginHostReport {
    /// Its time minus the local time, if the response had a `Date`.
    pub clock_skew: Option<SignedDuration>,
    /// Its discovery document.
    pub discovery: Result<Discovery, UpstreamError>,
}

/// A discovery document. Its content is compared and never displayed.
#[derive(Debug)]
pub struct Discovery(Map<String, Value>);

impl LoginHostCheck {
    /// Creates a check without connecting. `allowed_api_hosts` are the hosts that tenant status may name.
    #[must_use]
    pub fn new(
        login: Arc<LoginHost>,
        allowed_api_hosts: AllowedApiHosts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { login, allowed_api_hosts, clock }
    }

    /// Fetches the discovery document, without retries.
    ///
    /// # Errors
    /// If no response came. The error says how far the request got.
    pub async fn fetch_discovery(&self) -> Result<LoginHostReport, Fault> {
        let answer = self.login.get_once(DISCOVERY, DISCOVERY_PATH).await?;
        let now = self.clock.now();
        let clock_skew = answer.date.as_deref().and_then(|date| skew::difference(date, now));
        Ok(LoginHostReport { clock_skew, discovery: Discovery::read(&answer) })
    }

    /// Fetches the public keys and returns the number of usable ones; at least one.
    ///
    /// # Errors
    /// If the keys cannot be read, or none is usable.
    pub async fn count_usable_keys(&self) -> Result<usize, UpstreamError> {
        jwks::count_usable(&self.login).await
    }
}

#[async_trait]
impl TenantStatusSource for LoginHostCheck {
    async fn read(&self, tenant: ContextIdentifier) -> Result<TenantStatus, UpstreamError> {
        tenant_status::read(&self.login, &*self.clock, &self.allowed_api_hosts, tenant).await
    }
}

impl Discovery {
    fn read(answer: &Answer) -> Result<Self, UpstreamError> {
        if !answer.status.is_success() {
            return Err(unexpected_status(DISCOVERY, answer.status));
        }
        json(DISCOVERY, &answer.body).map(Self)
    }

    /// Returns the required fields that are missing.
    #[must_use]
    pub fn missing_required(&self) -> Vec<&'static str> {
        let there = |name: &str| self.text(name).is_some_and(|text| !text.is_empty());
        REQUIRED_FIELDS.into_iter().filter(|name| !there(name)).collect()
    }

    /// Returns the optional fields that are missing.
    #[must_use]
    pub fn missing_optional(&self) -> Vec<&'static str> {
        let there = |name: &str| self.0.get(name).is_some_and(Value::is_array);
        OPTIONAL_FIELDS.into_iter().filter(|name| !there(name)).collect()
    }

    /// Returns whether the document names this issuer.
    #[must_use]
    pub fn has_issuer(&self, issuer: &str) -> bool {
        self.text("issuer") == Some(issuer)
    }

    /// Returns whether `jwks_uri` is the documented address, which the gateway uses.
    #[must_use]
    pub fn has_documented_jwks_uri(&self, login_uri: &str) -> bool {
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
    fn accepts_the_documented_example() {
        let document = Discovery(documented());
        assert!(document.missing_required().is_empty() && document.missing_optional().is_empty());
        assert!(document.has_issuer(LOGIN) && document.has_documented_jwks_uri(LOGIN));
    }

    #[test]
    fn reports_fields_that_are_missing_or_have_another_type() {
        let mut fields = documented();
        fields.remove("token_endpoint");
        fields.insert("jwks_uri".to_owned(), Value::from(1));
        fields.insert("scopes_supported".to_owned(), Value::from("openid"));
        let document = Discovery(fields);
        assert_eq!(document.missing_required(), ["token_endpoint", "jwks_uri"]);
        assert_eq!(document.missing_optional(), ["scopes_supported"]);
    }

    #[test]
    fn detects_another_issuer_and_other_keys() {
        for (field, value) in [
            ("issuer", "https://sod.superoffice.com.evil.example"),
            ("issuer", "https://sod.superoffice.com/"),
            ("jwks_uri", "https://evil.example/login/.well-known/jwks"),
            ("jwks_uri", "https://sod.superoffice.com/login/.well-known/jwks2"),
        ] {
            let mut fields = documented();
            fields.insert(field.to_owned(), Value::from(value));
            let document = Discovery(fields);
            assert!(
                !(document.has_issuer(LOGIN) && document.has_documented_jwks_uri(LOGIN)),
                "{value}"
            );
        }
    }
}
