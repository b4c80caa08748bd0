//! The validation of one entry.

use std::num::NonZeroU32;

use super::{Application, ApplicationEntry, SecretSources};
use crate::{
    config::{document::nearest, error::Problems, value},
    domain::{AllowedApiHosts, ApplicationId, Environment, RedirectUris, ReturnPrefix},
};

/// Common names of environments, and the names that SuperOffice uses.
const ENVIRONMENTS: [(&str, &str); 11] = [
    ("sod", "sod"),
    ("dev", "sod"),
    ("development", "sod"),
    ("qaonline", "qaonline"),
    ("qa", "qaonline"),
    ("stage", "qaonline"),
    ("staging", "qaonline"),
    ("test", "qaonline"),
    ("online", "online"),
    ("prod", "online"),
    ("production", "online"),
];

impl ApplicationEntry {
    /// Checks the entry without comparing it with others.
    pub(super) fn check(
        self,
        key: &str,
        secrets: Option<SecretSources>,
        problems: &mut Problems,
    ) -> Option<Application> {
        let id = self.check_id(key, problems);
        let environment = self.check_environment(key, problems);
        let client = self.client_id.bytes().all(|b| b.is_ascii_graphic());
        if self.client_id.is_empty() || !client {
            let message = "must be the client id that SuperOffice assigned to the application, without white space";
            problems.add(format!("{key}.client_id"), message);
        }
        let redirects = self.check_redirects(key, problems);
        let at_least_1 = |number: u32, name: &str, problems: &mut Problems| {
            if number == 0 {
                problems.add(format!("{key}.{name}"), "must be at least 1");
            }
            NonZeroU32::new(number)
        };
        let calls_per_second = at_least_1(self.calls_per_second, "calls_per_second", problems);
        let burst = self.burst.map_or(calls_per_second, |own| at_least_1(own, "burst", problems));
        let hosts = check_hosts(self.allowed_api_hosts, key, problems);
        let environment = environment?;
        let login_uri = self.login_uri.unwrap_or_else(|| environment.login_uri());
        Some(Application {
            id: id?,
            environment,
            client_id: self.client_id,
            secrets: secrets?,
            redirects,
            issuer: self.issuer.unwrap_or_else(|| login_uri.clone()),
            login_uri,
            allowed_api_hosts: hosts?,
            calls_per_second: calls_per_second?,
            burst: burst?,
            allow_reveal_application_token: self.allow_reveal_application_token,
        })
    }

    fn check_id(&self, key: &str, problems: &mut Problems) -> Option<ApplicationId> {
        let checked = self.id.parse::<ApplicationId>();
        checked
            .map_err(|error| {
                problems.add(format!("{key}.id"), missing_or(&self.id, &error.to_string()));
            })
            .ok()
    }

    fn check_environment(&self, key: &str, problems: &mut Problems) -> Option<Environment> {
        let checked = self.environment.parse::<Environment>();
        let words = ENVIRONMENTS.map(|(word, _)| word);
        let meant = nearest(&self.environment, &words)
            .and_then(|near| ENVIRONMENTS.iter().find(|(word, _)| *word == near))
            .map(|(_, name)| format!("did you mean {name}? "));
        checked
            .map_err(|error| {
                let rule = format!("{}{error}", meant.unwrap_or_default());
                let message = missing_or(&self.environment, &rule);
                problems.add(format!("{key}.environment"), message);
            })
            .ok()
    }

    fn check_redirects(&self, key: &str, problems: &mut Problems) -> RedirectUris {
        let own = self.redirect_uri.iter().map(|uri| ("redirect_uri".to_owned(), uri));
        let others = self.redirect_uris.iter().enumerate();
        let others = others.map(|(index, uri)| (format!("redirect_uris[{index}]"), uri));
        for (name, uri) in own.chain(others) {
            if let Err(message) = value::web_uri(uri) {
                problems.add(format!("{key}.{name}"), message);
            }
        }
        let mut return_prefixes = Vec::new();
        for (index, text) in self.return_uri_prefixes.iter().enumerate() {
            match value::web_uri(text).and_then(|_| ReturnPrefix::new(text)) {
                Ok(prefix) => return_prefixes.push(prefix),
                Err(message) => {
                    problems.add(format!("{key}.return_uri_prefixes[{index}]"), message);
                }
            }
        }
        RedirectUris {
            own: self.redirect_uri.clone(),
            others: self.redirect_uris.clone(),
            return_prefixes,
        }
    }
}

fn missing_or(given: &str, rule: &str) -> String {
    let missing = if given.is_empty() { "is missing: " } else { "" };
    format!("{missing}{rule}")
}

fn check_hosts(
    entries: Vec<String>,
    key: &str,
    problems: &mut Problems,
) -> Option<AllowedApiHosts> {
    let key = format!("{key}.allowed_api_hosts");
    if entries.is_empty() {
        problems.add(key, "must name at least one host; remove it to use superoffice.com");
        return None;
    }
    AllowedApiHosts::new(entries)
        .map_err(|_| {
            let message = "must be host names or IP addresses in lower case, without scheme, port, path and wildcard";
            problems.add(key, message);
        })
        .ok()
}
