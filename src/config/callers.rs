//! Who may call: `[callers]`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{Grpc, error::Problems, value};
use crate::domain::{begins_with, is_caller_prefix, is_trust_domain};

/// Keys are fetched every five minutes, give or take: younger than this they must be believed.
const LEAST_KEY_AGE: Duration = Duration::from_mins(10);

/// `[callers]`: how callers prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callers {
    /// Everybody is `anonymous` and no credential is looked at. Loopback only.
    pub insecure_anonymous: bool,
    /// Issuers whose tokens are accepted.
    pub jwt: Vec<JwtIssuer>,
    /// Client certificates.
    pub mtls: Mtls,
}

/// One `[[callers.jwt]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtIssuer {
    /// The `iss` claim.
    pub issuer: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Where the issuer's keys are; found by discovery if neither this nor `jwks_file` is given.
    #[serde(deserialize_with = "value::some_web_uri")]
    pub jwks_uri: Option<String>,
    /// The issuer's keys.
    pub jwks_file: Option<PathBuf>,
    /// PEM certificates of the authorities that may sign the certificate of the issuer's host.
    pub ca_file: Option<PathBuf>,
    /// The token with which we fetch the issuer's keys.
    pub bearer_token_file: Option<PathBuf>,
    /// Put before the subject to make the caller's id.
    pub caller_prefix: String,
    /// Subjects that begin with `spiffe://` are accepted for this trust domain only.
    pub spiffe_trust_domain: Option<String>,
    /// Tokens issued for longer are refused.
    #[serde(deserialize_with = "value::some_duration")]
    pub max_lifetime: Option<Duration>,
    /// While the issuer does not answer, its keys are believed until they are this old.
    #[serde(deserialize_with = "value::duration")]
    pub max_key_age: Duration,
}

impl Default for JwtIssuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            jwks_uri: None,
            jwks_file: None,
            ca_file: None,
            bearer_token_file: None,
            caller_prefix: String::new(),
            spiffe_trust_domain: None,
            max_lifetime: None,
            max_key_age: Duration::from_hours(24),
        }
    }
}

/// `[callers.mtls]`: client certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mtls {
    /// Whether a client certificate names the caller.
    pub enabled: bool,
}

impl Callers {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for issuer in &mut self.jwt {
            for file in [&mut issuer.jwks_file, &mut issuer.ca_file, &mut issuer.bearer_token_file]
            {
                *file = file.take().map(|file| folder.join(file));
            }
        }
    }

    pub(super) fn check(
        &self,
        grpc: &Grpc,
        listeners: &[(&str, SocketAddr)],
        problems: &mut Problems,
    ) {
        if self.insecure_anonymous {
            self.check_anonymous(listeners, problems);
        }
        for (index, issuer) in self.jwt.iter().enumerate() {
            issuer.check(&format!("callers.jwt[{index}]"), problems);
            self.check_prefix(index, issuer, problems);
            self.check_issuer(index, issuer, problems);
        }
        let client_ca = grpc.tls.as_ref().and_then(|tls| tls.client_ca_file.as_ref());
        if self.mtls.enabled && client_ca.is_none() {
            problems.add(
                "callers.mtls.enabled",
                "needs grpc.tls.client_ca_file, the authorities whose certificates name callers",
            );
        }
    }

    fn check_anonymous(&self, listeners: &[(&str, SocketAddr)], problems: &mut Problems) {
        if !self.jwt.is_empty() || self.mtls.enabled {
            problems.add(
                "callers.insecure_anonymous",
                "looks at no credential, so it cannot be combined with callers.jwt or callers.mtls: remove one",
            );
        }
        for (section, listen) in listeners {
            if !listen.ip().is_loopback() {
                problems.add(
                    format!("{section}.listen"),
                    "must be a loopback address such as 127.0.0.1, because callers.insecure_anonymous = true lets \
                     everybody in",
                );
            }
        }
    }

    /// A token says by its issuer whose it is.
    fn check_issuer(&self, index: usize, issuer: &JwtIssuer, problems: &mut Problems) {
        let mut others = self.jwt.iter().take(index);
        if !issuer.issuer.is_empty() && others.any(|other| other.issuer == issuer.issuer) {
            problems.add(
                format!("callers.jwt[{index}].issuer"),
                "is another entry's too: a token could be meant for either; keep one of the two",
            );
        }
    }

    /// Two issuers must not be able to name the same caller. Case does not matter, because people read names.
    fn check_prefix(&self, index: usize, issuer: &JwtIssuer, problems: &mut Problems) {
        let nested = self.jwt.iter().take(index).any(|other| {
            let (one, two) = (&other.caller_prefix, &issuer.caller_prefix);
            let both_empty = one.is_empty() && two.is_empty();
            let both_given = !one.is_empty() && !two.is_empty();
            both_empty || (both_given && (begins_with(one, two) || begins_with(two, one)))
        });
        if nested {
            problems.add(
                format!("callers.jwt[{index}].caller_prefix"),
                "is empty, equal to or the beginning of another issuer's, or begins with it: two issuers could name \
                 the same caller; give each its own, such as \"ci:\" (one may be empty)",
            );
        }
    }
}

impl JwtIssuer {
    fn check(&self, key: &str, problems: &mut Problems) {
        for (name, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if text.trim().is_empty() {
                problems.add(format!("{key}.{name}"), "is missing");
            }
        }
        if self.jwks_uri.is_some() && self.jwks_file.is_some() {
            problems.add(format!("{key}.jwks_uri"), "jwks_file is given too; keep one of the two");
        }
        let discovered = self.jwks_uri.is_none() && self.jwks_file.is_none();
        if discovered && !self.issuer.trim().is_empty() && value::web_uri(&self.issuer).is_err() {
            problems.add(
                format!("{key}.issuer"),
                "is no https:// URI, so its keys cannot be found by discovery: give jwks_uri or jwks_file",
            );
        }
        if !is_caller_prefix(&self.caller_prefix) {
            problems.add(
                format!("{key}.caller_prefix"),
                "must be visible ASCII without spaces, and lead to no name that is taken: anonymous, cli:…, \
                 spiffe://… (for SPIFFE ids set spiffe_trust_domain and no prefix)",
            );
        }
        if self.spiffe_trust_domain.as_ref().is_some_and(|domain| !is_trust_domain(domain)) {
            problems.add(
                format!("{key}.spiffe_trust_domain"),
                "must be the name of a trust domain alone, such as \"example.org\": lower case, without spiffe://",
            );
        }
        if self.max_key_age < LEAST_KEY_AGE {
            problems.add(
                format!("{key}.max_key_age"),
                "must be at least 10m: keys are fetched again every five minutes, give or take",
            );
        }
        if self.max_lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            problems.add(format!("{key}.max_lifetime"), "must be longer than nothing");
        }
    }
}
