//! Builds the network settings that all outbound clients share from `[proxy]` and `[outbound]`.

use secrecy::SecretString;

use super::storage::config_problem;
use crate::{
    config::{Config, ConfigError, Proxy},
    outbound::{Network, NetworkError, NetworkOptions, OutboundProxy},
};

/// Reads the certificate authorities and sets up the outbound proxy. `password` is the password for the proxy.
pub(crate) fn network(
    config: &Config,
    password: Option<&SecretString>,
) -> Result<Network, ConfigError> {
    let options = NetworkOptions {
        proxy: config.proxy.as_ref().map(|proxy| outbound_proxy(proxy, password)),
        ca_file: config.outbound.ca_file.clone(),
        nat64_prefixes: config.outbound.nat64_prefixes(),
    };
    Network::new(options).map_err(|error| {
        let key = match &error {
            NetworkError::CaFile { .. } => "outbound.ca_file",
            NetworkError::Tls(_) => "outbound",
        };
        config_problem(config, key, error.to_string()).with_lines()
    })
}

fn outbound_proxy(proxy: &Proxy, password: Option<&SecretString>) -> OutboundProxy {
    let username = proxy.username.clone();
    OutboundProxy {
        address: proxy.address.clone(),
        credential: username.map(|name| (name, password.cloned().unwrap_or_default())),
        no_proxy: proxy.no_proxy.clone(),
    }
}

/// Logs the proxy that is used, without its credential.
pub(super) fn log_proxy(config: &Config) {
    let Some(proxy) = &config.proxy else { return };
    tracing::info!(
        proxy = %proxy.address,
        source = proxy.source,
        authenticates = proxy.username.is_some(),
        no_proxy_entries = proxy.no_proxy.len(),
        "outbound https goes through a proxy"
    );
}
