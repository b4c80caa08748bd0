//! The listeners: `[grpc]`, `[http]`, `[admin]`, `[egress]`.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{error::Problems, value};
use crate::domain::TrustedProxies;

/// `[grpc]`: the gRPC API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grpc {
    /// The address and port.
    #[serde(deserialize_with = "value::listen")]
    pub listen: SocketAddr,
    /// Whether server reflection is served.
    pub reflection: bool,
    /// Whether to listen beyond loopback without TLS.
    pub allow_plaintext: bool,
    /// The deadline of calls without one.
    #[serde(deserialize_with = "value::duration")]
    pub default_deadline: Duration,
    /// The age at which a connection gets a GOAWAY, so that the client opens a new one.
    #[serde(deserialize_with = "value::duration")]
    pub max_connection_age: Duration,
    /// The networks of the proxies in front whose forwarded client addresses are trusted.
    #[serde(deserialize_with = "value::trusted_proxies")]
    pub trusted_proxies: TrustedProxies,
    /// Whether those proxies start each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The certificate and key, if the listener uses TLS.
    pub tls: Option<Tls>,
}

/// `[http]`: consent pages and webhooks. Without the section, there is no such listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The address and port.
    #[serde(deserialize_with = "value::listen")]
    pub listen: SocketAddr,
    /// The address at which browsers and SuperOffice reach this listener, without a trailing slash.
    #[serde(deserialize_with = "value::some_origin")]
    pub public_uri: Option<String>,
    /// The networks of the proxies in front whose forwarded client addresses are trusted.
    #[serde(deserialize_with = "value::trusted_proxies")]
    pub trusted_proxies: TrustedProxies,
    /// Whether those proxies start each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The certificate and key, if the listener uses TLS.
    pub tls: Option<Tls>,
}

/// `[admin]`: health and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address and port.
    #[serde(deserialize_with = "value::listen")]
    pub listen: SocketAddr,
}

/// `[egress]`: the proxy that adds the credential. Without the section, there is no such listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// The address and port.
    #[serde(deserialize_with = "value::listen")]
    pub listen: SocketAddr,
    /// The address at which callers reach this listener, without a trailing slash.
    #[serde(deserialize_with = "value::some_origin")]
    pub public_uri: Option<String>,
    /// The certificate and key, if the listener uses TLS.
    pub tls: Option<Tls>,
    /// Whether to listen beyond loopback without TLS.
    pub allow_plaintext: bool,
    /// The maximum size of a request body in bytes; 0 for no limit.
    pub max_body_bytes: u64,
    /// The networks of the proxies in front whose forwarded client addresses are trusted.
    #[serde(deserialize_with = "value::trusted_proxies")]
    pub trusted_proxies: TrustedProxies,
    /// Whether those proxies start each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// `tls` of a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM certificate chain, the listener's own certificate first.
    pub certificate_file: PathBuf,
    /// PEM private key of that certificate.
    pub private_key_file: PathBuf,
    /// PEM certificates of the authorities whose client certificates are accepted.
    pub client_ca_file: Option<PathBuf>,
}

/// Returns a loopback address: by default, nothing is reachable from outside.
fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            listen: loopback(50051),
            reflection: false,
            allow_plaintext: false,
            default_deadline: Duration::from_secs(30),
            max_connection_age: Duration::from_mins(30),
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            tls: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: loopback(8080),
            public_uri: None,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
            tls: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: loopback(9090) }
    }
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            listen: loopback(8081),
            public_uri: None,
            tls: None,
            allow_plaintext: false,
            max_body_bytes: 0,
            trusted_proxies: TrustedProxies::default(),
            proxy_protocol: false,
        }
    }
}

impl Tls {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.certificate_file, &mut self.private_key_file] {
            if !file.as_os_str().is_empty() {
                *file = folder.join(&*file);
            }
        }
        self.client_ca_file = self.client_ca_file.take().map(|file| folder.join(file));
    }

    fn check(&self, section: &str, problems: &mut Problems) {
        for (key, file) in [
            ("certificate_file", &self.certificate_file),
            ("private_key_file", &self.private_key_file),
        ] {
            if file.as_os_str().is_empty() {
                let key = format!("{section}.tls.{key}");
                problems.add(key, "is missing; TLS needs certificate_file and private_key_file");
            }
        }
    }
}

impl Grpc {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(tls) = &self.tls {
            tls.check("grpc", problems);
        }
        check_proxies("grpc", &self.trusted_proxies, self.proxy_protocol, problems);
        check_plaintext("grpc", self.listen, self.tls.as_ref(), self.allow_plaintext, problems);
        for (key, duration) in [
            ("grpc.default_deadline", self.default_deadline),
            ("grpc.max_connection_age", self.max_connection_age),
        ] {
            if duration.is_zero() {
                problems.add(key, "must be greater than zero");
            }
        }
    }
}

impl Http {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(tls) = &self.tls {
            tls.check("http", problems);
        }
        check_proxies("http", &self.trusted_proxies, self.proxy_protocol, problems);
        // A public address beyond loopback is https://, so a proxy in front terminates TLS.
        if self.tls.is_none() && self.public_uri.is_none() && !self.listen.ip().is_loopback() {
            problems.add(
                "http.listen",
                "requests of browsers and SuperOffice would cross the network unencrypted: set http.tls, or listen on \
                 127.0.0.1, or, if a proxy in front terminates TLS, set http.public_uri to its https:// address",
            );
        }
    }
}

impl Egress {
    pub(super) fn check(&self, problems: &mut Problems) {
        if let Some(tls) = &self.tls {
            tls.check("egress", problems);
        }
        check_proxies("egress", &self.trusted_proxies, self.proxy_protocol, problems);
        check_plaintext("egress", self.listen, self.tls.as_ref(), self.allow_plaintext, problems);
    }
}

/// Checks that the PROXY protocol is used only with trusted proxies: without them, either every header would be
/// rejected, or everyone could forge a client address.
fn check_proxies(section: &str, trusted: &TrustedProxies, protocol: bool, problems: &mut Problems) {
    if protocol && trusted.is_empty() {
        problems.add(
            format!("{section}.proxy_protocol"),
            format!(
                "needs {section}.trusted_proxies, the networks of the proxies whose PROXY protocol headers are trusted, \
                 such as {section}.trusted_proxies = [\"10.0.0.0/8\"]"
            ),
        );
    }
}

/// Checks that credentials cross the network unencrypted only if the configuration allows it.
fn check_plaintext(
    section: &str,
    listen: SocketAddr,
    tls: Option<&Tls>,
    allowed: bool,
    problems: &mut Problems,
) {
    if tls.is_none() && !allowed && !listen.ip().is_loopback() {
        problems.add(
            format!("{section}.listen"),
            format!(
                "credentials would cross the network unencrypted: set {section}.tls, or listen on 127.0.0.1, \
                 or set {section}.allow_plaintext = true if a proxy or service mesh encrypts"
            ),
        );
    }
}
