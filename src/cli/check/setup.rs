//! Checks of the configuration, secrets, private keys, TLS files, outbound network and keyring.

use std::{path::Path, sync::Arc};

use super::report::{Check, Report, State, Topic};
use crate::{
    app::{inspect_tls, network as network_of, read_keyring},
    config::{Config, ConfigError, Loaded, Proxy, ReadSecret},
    crypto::{Keyring, SigningKey},
    outbound::Network,
    ports::{Clock, SystemClock},
};

/// Reads the configuration file. If it is invalid, also reads its secrets, so that one run reports all problems.
pub(super) fn configuration(file: &Path, report: &mut Report) -> Option<Config> {
    let Loaded { config, warnings } = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(error) => {
            let all = Config::load_with_secrets(file).err().unwrap_or(error);
            add_problems(&all, report);
            return None;
        }
    };
    let place = file.display().to_string();
    let found = format!("is valid, with {}", count(config.applications.len(), "application"));
    report.add(Check::ok(Topic::Configuration, found).at(&place));
    for warning in warnings {
        let text = warning.strip_prefix(&place).unwrap_or(&warning).trim_start_matches([':', ' ']);
        let remedy = "remove it if it is not intended";
        report.add(Check::warning(Topic::Configuration, text, remedy).at(&place));
    }
    if let Err(error) = config.check_servable() {
        add_problems(&error, report);
    }
    Some(config)
}

fn add_problems(error: &ConfigError, report: &mut Report) {
    for problem in &error.problems {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = format!("{}{line} {}", error.file.display(), problem.key);
        let check = Check::from_problem(Topic::Configuration, State::Failed, problem);
        report.add(check.at(place.trim_end()));
    }
}

/// Reads every secret, and parses those that are private keys.
pub(super) fn secrets(config: &Config, report: &mut Report) {
    let mut keys = Vec::new();
    let mut readable = 0;
    for ReadSecret { source, is_private_key, secret, warnings } in config.read_each_secret() {
        for warning in &warnings {
            report.add(Check::from_problem(Topic::Secret, State::Warning, warning));
        }
        match secret {
            Err(problem) => report.add(Check::from_problem(Topic::Secret, State::Failed, &problem)),
            Ok(secret) => {
                readable += 1;
                keys.extend(is_private_key.then_some((source, secret)));
            }
        }
    }
    if readable > 0 {
        report.add(Check::ok(Topic::Secret, format!("{} readable", count(readable, "secret"))));
    }
    for (source, text) in keys {
        let check = match SigningKey::parse(&text) {
            Ok(key) => {
                let (bits, id) = (key.modulus_bits(), key.key_id());
                Check::ok(Topic::PrivateKey, format!("RSA, {bits} bits, key id {id}"))
            }
            Err(error) => {
                let message = format!("{}: {error}", source.place());
                Check::from_message(Topic::PrivateKey, State::Failed, &message)
            }
        };
        report.add(check.at(source.key()));
    }
}

/// Reads certificate, key and authorities of each listener with TLS.
pub(super) fn tls(config: &Config, report: &mut Report) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = clock.now();
    for (listener, inspected) in inspect_tls(config, &clock) {
        let check = match inspected {
            Ok(Some((from, until))) if now < from || until < now => Check::failed(
                Topic::Tls,
                format!(
                    "the certificate is valid from {from} until {until}, so callers reject it now"
                ),
                "renew the certificate, or correct the clock of this machine",
            ),
            Ok(Some((_, until))) => {
                Check::ok(Topic::Tls, format!("certificate and key match, valid until {until}"))
            }
            Ok(None) => Check::ok(Topic::Tls, "certificate and key match"),
            Err(problems) => {
                for problem in &problems {
                    report.add(Check::from_problem(Topic::Tls, State::Failed, problem));
                }
                continue;
            }
        };
        report.add(check.at(format!("{listener}.tls.certificate_file")));
    }
}

/// Reads the certificate authorities of outbound connections, and reports the proxy.
pub(super) fn network(config: &Config, report: &mut Report) -> Option<Network> {
    if let Some(Proxy { address, source, username, .. }) = &config.proxy {
        let credential = if username.is_some() { ", with user name and password" } else { "" };
        let found = format!("https goes through the proxy {address}{credential}");
        report.add(Check::ok(Topic::Network, found).at(*source));
    }
    match network_of(config, config.read_proxy_password().as_ref()) {
        Ok(network) => {
            if let Some(file) = &config.outbound.ca_file {
                let found = format!("the authorities in {} are also trusted", file.display());
                report.add(Check::ok(Topic::Network, found).at("outbound.ca_file"));
            }
            Some(network)
        }
        Err(error) => {
            for problem in &error.problems {
                report.add(Check::from_problem(Topic::Network, State::Failed, problem));
            }
            None
        }
    }
}

/// Reads the keyring, which must contain the store's active key.
pub(super) fn keyring(
    config: &Config,
    active: Option<&str>,
    report: &mut Report,
) -> Option<Keyring> {
    let keyring = match read_keyring(config) {
        Ok(keyring) => keyring,
        Err(error) => {
            for problem in &error.problems {
                report.add(Check::from_problem(Topic::Keyring, State::Failed, problem));
            }
            return None;
        }
    };
    let keys = count(keyring.keys().len(), "key");
    let check = match active {
        Some(id) if keyring.get(id).is_none() => Check::failed(
            Topic::Keyring,
            format!("{keys}, but not {id}, the active key of the store"),
            "restore the keyring that belongs to this store",
        ),
        Some(id) => Check::ok(Topic::Keyring, format!("{keys}; {id} is in use")),
        None => {
            let first = keyring.first_id();
            Check::ok(Topic::Keyring, format!("{keys}; {first} will be used from the first start"))
        }
    };
    report.add(check.at("crypto.keyring_file"));
    Some(keyring)
}

/// Formats a number with its noun: `1 key`, `2 keys`.
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
