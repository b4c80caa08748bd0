//! Who may call: `[callers]`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Grpc, error::Problems, value};
use crate::domain::{TokenAlgorithm, begins_with, is_caller_prefix, is_trust_domain};

/// Keys are fetched every five minutes, give or take: younger than this they must be believed.
const LEAST_KEY_AGE: Duration = Duration::from_mins(10);

/// A larger difference between clocks is no leeway but a wrong clock, and each minute of it is one that a stolen token
/// lives longer.
const MOST_LEEWAY: Duration = Duration::from_mins(5);

/// Claims that say something else than who the caller is, or that differ from token to token.
const NOT_CALLER_CLAIMS: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];

/// The longest name of a claim, and the longest pattern, in bytes.
const MAX_NAME_BYTES: usize = 256;

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
    /// The audience that `aud` must hold.
    pub audience: String,
    /// Audiences of which `aud` must hold one, where there are several.
    pub audiences: Vec<String>,
    /// The claim whose value names the caller.
    pub caller_claim: String,
    /// The algorithms with which tokens may be signed.
    #[serde(deserialize_with = "algorithms")]
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far the issuer's clock and ours may be apart, in either direction.
    #[serde(deserialize_with = "value::duration")]
    pub leeway: Duration,
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
    /// Of several names, the one that matches names the caller.
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
                "must not list an algorithm that proves nothing: whoever can verify an HMAC can also make one, and \
                 `none` is no signature; choose among {supported}"
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

    /// A token must be meant for one entry: those of one issuer must differ in their audiences or in their keys.
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
                "is another entry's too, with a common audience and the same keys: a token could be meant for either; \
                 give the two different audiences or different keys, or keep one of them with `audiences`",
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

impl Mtls {
    fn check(&self, problems: &mut Problems) {
        for (name, given) in
            [("identity", self.identity.is_some()), ("pattern", self.pattern.is_some())]
        {
            if given && !self.enabled {
                let key = format!("callers.mtls.{name}");
                problems.add(
                    key,
                    "needs callers.mtls.enabled = true: without it no certificate names a caller",
                );
            }
        }
        let Some(pattern) = &self.pattern else { return };
        let plain = (1..=MAX_NAME_BYTES).contains(&pattern.len())
            && pattern.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain {
            problems.add(
                "callers.mtls.pattern",
                "must be 1 to 256 visible ASCII characters without spaces, in which * stands for any characters, \
                 such as \"spiffe://prod.example.org/*\"",
            );
        } else if pattern.starts_with('^') || pattern.ends_with('$') || pattern.contains('\\') {
            problems.add(
                "callers.mtls.pattern",
                "is no regular expression: only * has a meaning (any characters), and the whole name must match, as \
                 in \"spiffe://prod.example.org/*\"",
            );
        }
    }
}

impl JwtIssuer {
    /// The audiences, whichever key gives them.
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
            problems.add(format!("{key}.audiences"), "holds an empty audience: take it out");
        }
    }

    fn check_claim(&self, key: &str, problems: &mut Problems) {
        let claim = self.caller_claim.as_str();
        if !(1..=MAX_NAME_BYTES).contains(&claim.len()) || claim.trim() != claim {
            problems.add(
                format!("{key}.caller_claim"),
                "must be the name of a claim whose value is a string, such as \"azp\"; without it `sub` counts",
            );
        } else if NOT_CALLER_CLAIMS.contains(&claim) {
            problems.add(
                format!("{key}.caller_claim"),
                "names no caller: iss, aud, exp, nbf, iat and jti say something else, or differ from token to token; \
                 choose a claim that always names the same workload, such as \"sub\" or \"azp\"",
            );
        }
    }

    fn check(&self, key: &str, problems: &mut Problems) {
        if self.issuer.trim().is_empty() {
            problems.add(format!("{key}.issuer"), "is missing");
        }
        self.check_audiences(key, problems);
        self.check_claim(key, problems);
        if self.leeway > MOST_LEEWAY {
            problems.add(
                format!("{key}.leeway"),
                "must be at most 5m: a token lives so much longer than its issuer says; set the clocks right instead",
            );
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
