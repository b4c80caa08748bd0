//! Authentication of callers: `[callers]`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Grpc, error::Problems, value};
use crate::domain::{TokenAlgorithm, is_caller_prefix, is_trust_domain, starts_with_ignore_case};

/// The minimum of `max_key_age`. Keys are fetched about every five minutes, so it must allow at least one failed fetch.
const MIN_KEY_AGE: Duration = Duration::from_mins(10);

/// The maximum leeway. A larger difference between clocks means a wrong clock, and each minute of leeway extends the
/// lifetime of a stolen token.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

/// Claims that do not identify the caller, or that differ from token to token.
const NOT_CALLER_CLAIMS: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// The maximum length of a claim name and of a pattern, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// `[callers]`: how callers prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callers {
    /// Whether every caller is `anonymous` and credentials are ignored. Loopback only.
    pub insecure_anonymous: bool,
    /// The issuers whose tokens are accepted.
    pub jwt: Vec<JwtIssuer>,
    /// The settings of client certificates.
    pub mtls: Mtls,
}

/// One `[[callers.jwt]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtIssuer {
    /// The `iss` claim.
    pub issuer: String,
    /// The audience that `aud` must contain.
    pub audience: String,
    /// Alternative audiences; `aud` must contain one of them or `audience`.
    pub audiences: Vec<String>,
    /// The claim whose value names the caller.
    pub caller_claim: String,
    /// The accepted signature algorithms.
    #[serde(deserialize_with = "algorithms")]
    pub algorithms: Vec<TokenAlgorithm>,
    /// The tolerated difference between the issuer's clock and the gateway's clock, in either direction.
    #[serde(deserialize_with = "value::duration")]
    pub leeway: Duration,
    /// The URI of the issuer's keys. Without it and `jwks_file`, it is found by OpenID Connect discovery.
    #[serde(deserialize_with = "value::some_web_uri")]
    pub jwks_uri: Option<String>,
    /// A file with the issuer's keys.
    pub jwks_file: Option<PathBuf>,
    /// PEM certificates of the authorities that may issue the certificate of the issuer's host.
    pub ca_file: Option<PathBuf>,
    /// A file with the bearer token for fetching the issuer's keys.
    pub bearer_token_file: Option<PathBuf>,
    /// The prefix of the caller's id; the claim's value follows it.
    pub caller_prefix: String,
    /// The only trust domain for which subjects that start with `spiffe://` are accepted.
    pub spiffe_trust_domain: Option<String>,
    /// The maximum lifetime of a token; tokens issued for longer are rejected.
    #[serde(deserialize_with = "value::some_duration")]
    pub max_lifetime: Option<Duration>,
    /// The age until which the last keys are used while new ones cannot be fetched.
    #[serde(deserialize_with = "value::duration")]
    pub max_key_age: Duration,
}

impl Default for JwtIssuer {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            audiences: Vec::new(),
            caller_claim: "sub".to_owned(),
            algorithms: TokenAlgorithm::ALL.to_vec(),
            leeway: Duration::from_secs(30),
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
    /// The kind of name in the certificate that names the caller.
    pub identity: Option<CertificateIdentity>,
    /// A pattern that chooses the caller's name if the certificate has several.
    pub pattern: Option<String>,
}

/// A kind of name in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateIdentity {
    /// A URI in `subjectAltName`.
    Uri,
    /// A DNS name in `subjectAltName`.
    Dns,
    /// The common name of the subject.
    CommonName,
}

fn algorithms<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<TokenAlgorithm>, D::Error> {
    let supported = TokenAlgorithm::list(&TokenAlgorithm::ALL);
    let form = || D::Error::custom(format!("must be a list of algorithms in quotes: {supported}"));
    let names = Vec::<String>::deserialize(value).map_err(|_| form())?;
    let mut algorithms = Vec::new();
    for name in names {
        if name.starts_with("HS") || name.eq_ignore_ascii_case("none") {
            return Err(D::Error::custom(format!(
                "must not list an algorithm that proves nothing: everyone who can verify an HMAC can also forge one, and \
                 `none` is not a signature; use some of {supported}"
            )));
        }
        let algorithm = TokenAlgorithm::from_name(&name).ok_or_else(form)?;
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    if algorithms.is_empty() { Err(form()) } else { Ok(algorithms) }
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
        self.mtls.check(problems);
        let client_ca = grpc.tls.as_ref().and_then(|tls| tls.client_ca_file.as_ref());
        if self.mtls.enabled && client_ca.is_none() {
            problems.add(
                "callers.mtls.enabled",
                "needs grpc.tls.client_ca_file, the certificates of the authorities that issue client certificates",
            );
        }
    }

    fn check_anonymous(&self, listeners: &[(&str, SocketAddr)], problems: &mut Problems) {
        if !self.jwt.is_empty() || self.mtls.enabled {
            problems.add(
                "callers.insecure_anonymous",
                "ignores all credentials, so it cannot be combined with callers.jwt or callers.mtls: remove one",
            );
        }
        for (section, listen) in listeners {
            if !listen.ip().is_loopback() {
                problems.add(
                    format!("{section}.listen"),
                    "must be a loopback address such as 127.0.0.1, because callers.insecure_anonymous = true accepts \
                     every caller",
                );
            }
        }
    }

    /// Checks that each token matches only one entry: entries of one issuer must have different audiences or keys.
    fn check_issuer(&self, index: usize, issuer: &JwtIssuer, problems: &mut Problems) {
        let mut others = self.jwt.iter().take(index);
        let same = |other: &JwtIssuer| {
            let shared =
                other.all_audiences().any(|one| issuer.all_audiences().any(|two| one == two));
            other.issuer == issuer.issuer
                && shared
                && (&other.jwks_uri, &other.jwks_file) == (&issuer.jwks_uri, &issuer.jwks_file)
        };
        if !issuer.issuer.is_empty() && others.any(same) {
            problems.add(
                format!("callers.jwt[{index}].issuer"),
                "is also used by another entry with a common audience and the same keys, so a token would match both; \
                 give the two different audiences or keys, or keep one entry with `audiences`",
            );
        }
    }

    /// Checks that two issuers cannot name the same caller. Case is ignored, because people read names.
    fn check_prefix(&self, index: usize, issuer: &JwtIssuer, problems: &mut Problems) {
        let nested = self.jwt.iter().take(index).any(|other| {
            let (one, two) = (&other.caller_prefix, &issuer.caller_prefix);
            let both_empty = one.is_empty() && two.is_empty();
            let both_given = !one.is_empty() && !two.is_empty();
            both_empty
                || (both_given
                    && (starts_with_ignore_case(one, two) || starts_with_ignore_case(two, one)))
        });
        if nested {
            problems.add(
                format!("callers.jwt[{index}].caller_prefix"),
                "is equal to another issuer's prefix, or one of the two starts with the other, so two issuers could name \
                 the same caller; give each its own, such as \"ci:\" (one may be empty)",
            );
        }
    }
}

impl Mtls {
    fn check(&self, problems: &mut Problems) {
        for (name, given) in
            [("identity", self.identity.is_some()), ("pattern", self.pattern.is_some())]
        {
            if given && !self.enabled {
                let key = format!("callers.mtls.{name}");
                problems.add(
                    key,
                    "needs callers.mtls.enabled = true: without it, certificates do not name callers",
                );
            }
        }
        let Some(pattern) = &self.pattern else { return };
        let plain = (1..=MAX_NAME_BYTES).contains(&pattern.len())
            && pattern.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            problems.add(
                "callers.mtls.pattern",
                "must be 1 to 256 visible ASCII characters without spaces, where * matches any characters, \
                 such as \"spiffe://prod.example.org/*\"",
            );
        } else if pattern.starts_with('^') || pattern.ends_with('$') || pattern.contains('\\') {
            problems.add(
                "callers.mtls.pattern",
                "is not a regular expression: only * is special (it matches any characters), and the whole name must match, \
                 such as \"spiffe://prod.example.org/*\"",
            );
        }
    }
}

impl JwtIssuer {
    /// Returns the audiences of both keys.
    pub fn all_audiences(&self) -> impl Iterator<Item = &str> {
        let one = Some(self.audience.as_str()).filter(|audience| !audience.is_empty());
        one.into_iter().chain(self.audiences.iter().map(String::as_str))
    }

    fn check_audiences(&self, key: &str, problems: &mut Problems) {
        if self.all_audiences().all(|audience| audience.trim().is_empty())
            && self.audiences.is_empty()
        {
            let what = "is missing: without it, tokens for other services would be accepted";
            problems.add(format!("{key}.audience"), what);
        }
        if self.audiences.iter().any(|audience| audience.trim().is_empty()) {
            problems.add(format!("{key}.audiences"), "contains an empty audience: remove it");
        }
    }

    fn check_claim(&self, key: &str, problems: &mut Problems) {
        let claim = self.caller_claim.as_str();
        if !(1..=MAX_NAME_BYTES).contains(&claim.len()) || claim.trim() != claim {
            problems.add(
                format!("{key}.caller_claim"),
                "must be the name of a claim whose value is a string, such as \"azp\"; the default is `sub`",
            );
        } else if NOT_CALLER_CLAIMS.contains(&claim) {
            problems.add(
                format!("{key}.caller_claim"),
                "does not identify a caller: iss, aud, exp, nbf, iat and jti have another meaning, or differ from token to \
                 token; choose a claim that always identifies the same workload, such as \"sub\" or \"azp\"",
            );
        }
    }

    fn check(&self, key: &str, problems: &mut Problems) {
        if self.issuer.trim().is_empty() {
            problems.add(format!("{key}.issuer"), "is missing");
        }
        self.check_audiences(key, problems);
        self.check_claim(key, problems);
        if self.leeway > MAX_LEEWAY {
            problems.add(
                format!("{key}.leeway"),
                "must be at most 5m, because it extends the lifetime of every token; correct the clocks instead",
            );
        }
        if self.jwks_uri.is_some() && self.jwks_file.is_some() {
            problems.add(format!("{key}.jwks_uri"), "jwks_file is also set; remove one of the two");
        }
        let discovered = self.jwks_uri.is_none() && self.jwks_file.is_none();
        if discovered && !self.issuer.trim().is_empty() && value::web_uri(&self.issuer).is_err() {
            problems.add(
                format!("{key}.issuer"),
                "is not an https:// URI, so its keys cannot be found by discovery: set jwks_uri or jwks_file",
            );
        }
        if !is_caller_prefix(&self.caller_prefix) {
            problems.add(
                format!("{key}.caller_prefix"),
                "must be visible ASCII without spaces, and must not produce a reserved name: anonymous, cli:…, \
                 spiffe://… (for SPIFFE ids, set spiffe_trust_domain and no prefix)",
            );
        }
        if self.spiffe_trust_domain.as_ref().is_some_and(|domain| !is_trust_domain(domain)) {
            problems.add(
                format!("{key}.spiffe_trust_domain"),
                "must be only the name of a trust domain, such as \"example.org\": lower case, without spiffe://",
            );
        }
        if self.max_key_age < MIN_KEY_AGE {
            problems.add(
                format!("{key}.max_key_age"),
                "must be at least 10m, because keys are fetched about every five minutes",
            );
        }
        if self.max_lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
            problems.add(format!("{key}.max_lifetime"), "must be greater than zero");
        }
    }
}
