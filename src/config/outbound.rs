//! Outbound connections: `[proxy]` (or the environment variables in its place) and `[outbound]`.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::{
    error::Problems,
    secret::{self, Requirement, SecretFormat, SecretSource},
};
use crate::domain::{
    InvalidProxyUri, Nat64Prefix, NoProxy, ProxyAddress, ProxyUri, is_proxy_username,
};

/// The variables that name the proxy for https; the first one that is set wins. All targets are https, so `HTTP_PROXY`
/// is not used.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The variables that name the hosts that are reached without the proxy.
const NO_PROXY_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// `[outbound]`: connections to SuperOffice and to issuers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// PEM certificates of authorities that are trusted in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// The NAT64 prefixes of the own network, in addition to `64:ff9b::/96`.
    nat64_prefixes: Vec<String>,
}

/// The section `[proxy]`, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProxyEntry {
    https: Option<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    no_proxy: Vec<String>,
}

/// The outbound proxy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The address of the proxy.
    pub address: ProxyAddress,
    /// The user name for it.
    pub username: Option<String>,
    /// The hosts that are reached without the proxy.
    pub no_proxy: NoProxy,
    /// The section or the environment variable that names the proxy.
    pub source: &'static str,
    password: Option<Password>,
}

/// The location of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Password {
    Source(SecretSource),
    /// The password is in the URI in this environment variable.
    Variable(&'static str),
}

impl Outbound {
    pub(super) fn resolve(&mut self, folder: &Path) {
        self.ca_file = self.ca_file.take().map(|file| folder.join(file));
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.ca_file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
            problems.add("outbound.ca_file", "must be the path of a file");
        }
        for (index, text) in self.nat64_prefixes.iter().enumerate() {
            if let Err(error) = text.parse::<Nat64Prefix>() {
                problems.add(format!("outbound.nat64_prefixes[{index}]"), error.to_string());
            }
        }
    }

    /// Returns the NAT64 prefixes.
    #[must_use]
    pub fn nat64_prefixes(&self) -> Vec<Nat64Prefix> {
        self.nat64_prefixes.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

/// Returns the proxy of the section, or that of the environment where there is no section.
pub(super) fn proxy(
    section: Option<ProxyEntry>,
    folder: &Path,
    environment: impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<Proxy> {
    match section {
        Some(section) => section.check(folder, problems),
        None => proxy_from_environment(environment, problems),
    }
}

/// Returns the value of an environment variable that is set and not blank.
pub(super) fn environment_variable(name: &str) -> Option<String> {
    secret::environment(name).ok().filter(|value| !value.trim().is_empty())
}

impl ProxyEntry {
    fn check(self, folder: &Path, problems: &mut Problems) -> Option<Proxy> {
        let no_proxy = self.check_no_proxy(problems);
        let given = (self.password_file, self.password_env);
        let password = SecretSource::from_file_or_env(
            "proxy.password",
            given,
            Requirement::Optional,
            folder,
            problems,
        );
        if self.username.as_deref().is_some_and(|name| !is_proxy_username(name)) {
            problems.add(
                "proxy.username",
                "must not be empty and must not contain a colon or control characters",
            );
        }
        if let (Some(password), None) = (&password, &self.username) {
            problems.add(password.key(), "has no effect without proxy.username; add it");
        }
        let Some(text) = self.https else {
            if password.is_some() || self.username.is_some() || !no_proxy.is_empty() {
                problems.add(
                    "proxy.https",
                    "is missing; set it to the proxy, such as \"http://proxy.example.com:3128\", or leave [proxy] empty to \
                     use no proxy and ignore the environment variables",
                );
            }
            return None;
        };
        let ProxyUri { address, credential } = match ProxyUri::parse(&text) {
            Ok(uri) => uri,
            Err(error) => {
                problems.add("proxy.https", error.to_string());
                return None;
            }
        };
        // An empty user name is also rejected.
        if credential.is_some() || text.contains('@') {
            problems.add(
                "proxy.https",
                "must not contain a user name or password: this file must not contain secrets; set proxy.username, and \
                 proxy.password_file or proxy.password_env",
            );
        }
        let password = password.map(Password::Source);
        Some(Proxy { address, username: self.username, no_proxy, source: "[proxy]", password })
    }

    fn check_no_proxy(&self, problems: &mut Problems) -> NoProxy {
        let mut no_proxy = NoProxy::default();
        for (index, entry) in self.no_proxy.iter().enumerate() {
            if let Err(error) = no_proxy.add(entry) {
                problems.add(format!("proxy.no_proxy[{index}]"), error.to_string());
            }
        }
        no_proxy
    }
}

/// Returns the first variable that is set, and its value.
fn first(
    names: &[&'static str],
    environment: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| Some((*name, environment(name)?)))
}

fn proxy_from_environment(
    environment: impl Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<Proxy> {
    let (source, text) = first(&PROXY_VARIABLES, &environment)?;
    let uri = ProxyUri::parse_lenient(&text).map_err(|error| {
        let remedy = match error {
            InvalidProxyUri::Socks => "; or add a [proxy] section to this file, with or without https, to ignore the variable",
            _ => "",
        };
        problems.add("", format!("environment variable {source} {error}{remedy}"));
    });
    let ProxyUri { address, credential } = uri.ok()?;
    let mut no_proxy = NoProxy::default();
    if let Some((name, list)) = first(&NO_PROXY_VARIABLES, &environment) {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            // Other programs read the variable, too, and some accept other forms.
            if let Err(error) = no_proxy.add(entry) {
                let text =
                    format!("an entry of environment variable {name} has no effect: it {error}");
                problems.warn("", text);
            }
        }
    }
    let username = credential.map(|(name, _)| name);
    let password = username.is_some().then_some(Password::Variable(source));
    Some(Proxy { address, username, no_proxy, source, password })
}

impl Proxy {
    /// Returns the location of the password, if it is a separate file or variable.
    pub(super) fn password_source(&self) -> Option<&SecretSource> {
        match &self.password {
            Some(Password::Source(source)) => Some(source),
            _ => None,
        }
    }

    /// Reads the password; it is empty if none is configured.
    pub(super) fn read_password(&self, problems: &mut Problems) -> Option<SecretString> {
        match &self.password {
            None => Some(SecretString::default()),
            Some(Password::Source(source)) => source.read(SecretFormat::Line, problems),
            Some(Password::Variable(name)) => {
                let uri =
                    environment_variable(name).and_then(|text| ProxyUri::parse_lenient(&text).ok());
                let (_, password) = uri.and_then(|uri| uri.credential).unwrap_or_default();
                Some(password.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the proxy of an environment, and all problems and warnings.
    fn of(variables: &[(&str, &str)]) -> (Option<Proxy>, Vec<String>) {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
        };
        let mut problems = Problems::default();
        let proxy = proxy(None, Path::new(""), get, &mut problems);
        let messages = problems.errors.into_iter().chain(problems.warnings);
        (proxy, messages.map(|problem| problem.message).collect())
    }

    #[test]
    fn reports_an_invalid_proxy_variable_without_its_value() {
        for (value, why) in [
            ("socks5://user:hunter2@proxy:1080", "is a SOCKS proxy"),
            ("ftp://user:hunter2@proxy", "must be the URI of an HTTP proxy"),
            ("http://user:hunter2@proxy:3128/path", "must be the URI of an HTTP proxy"),
            ("http://user:hunter2%0d@proxy:3128", "percent-encode"),
        ] {
            let (proxy, messages) = of(&[("ALL_PROXY", value)]);
            assert_eq!(proxy, None, "{value}");
            assert!(messages.len() == 1 && messages[0].contains(why), "{messages:?}");
            assert!(
                messages[0].contains("ALL_PROXY") && !messages[0].contains("hunter2"),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn uses_the_first_non_empty_proxy_variable() {
        for (variables, wanted) in [
            (&[][..], None),
            (&[("HTTP_PROXY", "http://a")], None),
            (&[("HTTPS_PROXY", "")], None),
            (&[("all_proxy", "http://d"), ("https_proxy", "http://b")], Some(("https_proxy", "b"))),
            (&[("https_proxy", "http://b"), ("HTTPS_PROXY", "a:1")], Some(("HTTPS_PROXY", "a"))),
            (&[("ALL_PROXY", "http://c"), ("HTTPS_PROXY", "")], Some(("ALL_PROXY", "c"))),
        ] {
            let (proxy, messages) = of(variables);
            let found = proxy.as_ref().map(|proxy| (proxy.source, proxy.address.host.as_str()));
            assert_eq!((found, messages), (wanted, vec![]), "{variables:?}");
        }
    }

    #[test]
    fn no_proxy_variable_lists_direct_hosts_and_invalid_entries_are_warnings() {
        let list = "10.0.0.0/8, .internal\tkubernetes.default.svc,,re:*x, example.com:8443";
        let (proxy, messages) = of(&[("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", list)]);
        let no_proxy = proxy.unwrap().no_proxy;
        for host in ["10.1.2.3", "a.internal", "kubernetes.default.svc"] {
            assert!(no_proxy.matches(host, 443), "{host}");
        }
        assert!(no_proxy.matches("example.com", 8443));
        assert!(!no_proxy.matches("example.com", 443));
        assert!(
            messages.len() == 1 && messages[0].contains("no_proxy has no effect"),
            "{messages:?}"
        );
    }

    #[test]
    fn configuration_has_the_user_name_of_the_variable_but_not_its_password() {
        let (proxy, _) = of(&[("https_proxy", "http://bj%C3%B6rn:hunter2@proxy:3128")]);
        let proxy = proxy.unwrap();
        assert_eq!(proxy.username.as_deref(), Some("björn"));
        assert!(!format!("{proxy:?}{}", proxy.address).contains("hunter2"));
    }
}
