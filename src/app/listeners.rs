//! Binds the sockets of all listeners and loads their TLS files.

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tokio::net::TcpListener;

use super::start_error::StartError;
use crate::{
    config::{self, Config, ConfigError, Problem},
    domain::TrustedProxies,
    listen::{FrontProxies, Protocol, ServerTls, TlsFiles, TlsProblem, bound_socket},
    ports::{Clock, Reloadable},
};

/// The backlog of `listen(2)`: thousands of callers may connect at once.
const LISTEN_BACKLOG: u32 = 4096;

/// All listeners. They are bound first, so that nothing else starts if one of them fails.
pub(super) struct Listeners {
    pub(super) grpc: Listener,
    pub(super) http: Option<Listener>,
    pub(super) egress: Option<Listener>,
    pub(super) admin: TcpListener,
}

/// A bound socket with its TLS configuration and trusted proxies.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<Arc<ServerTls>>,
    pub(super) proxies: FrontProxies,
}

impl Listeners {
    /// Reads all TLS files, then binds all addresses.
    pub(super) fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut problems = Vec::new();
        let mut tls = |files: Option<TlsFiles>| {
            let loaded = files.map(|files| {
                let listener = files.listener;
                let loaded = ServerTls::load(files, Arc::clone(clock));
                loaded.map_err(|found| problems.extend(to_config_problems(listener, found))).ok()
            });
            loaded.flatten().map(Arc::new)
        };
        let (grpc_tls, http_tls) = (tls(grpc_files(config)), tls(http_files(config)));
        let egress_tls = tls(egress_files(config));
        if !problems.is_empty() {
            return Err(ConfigError { file: config.file.clone(), problems }.into());
        }
        let http = match &config.http {
            Some(http) => {
                let socket = listen("http.listen", http.listen)?;
                let proxies = proxies(&http.trusted_proxies, http.proxy_protocol);
                Some(Listener { socket, tls: http_tls, proxies })
            }
            None => None,
        };
        let egress = match &config.egress {
            Some(egress) => {
                let socket = listen("egress.listen", egress.listen)?;
                let proxies = proxies(&egress.trusted_proxies, egress.proxy_protocol);
                Some(Listener { socket, tls: egress_tls, proxies })
            }
            None => None,
        };
        let grpc = Listener {
            socket: listen("grpc.listen", config.grpc.listen)?,
            tls: grpc_tls,
            proxies: proxies(&config.grpc.trusted_proxies, config.grpc.proxy_protocol),
        };
        Ok(Self { egress, grpc, http, admin: listen("admin.listen", config.admin.listen)? })
    }

    /// Returns the TLS files, which can be reloaded.
    pub(super) fn reloadables(&self) -> impl Iterator<Item = Arc<dyn Reloadable>> {
        let others = self.http.iter().chain(&self.egress);
        let others = others.filter_map(|listener| listener.tls.as_ref());
        self.grpc.tls.iter().chain(others).map(|tls| Arc::clone(tls) as _)
    }
}

/// The start and end of the validity of a listener's certificate, if they can be read.
pub(crate) type Validity = Option<(Timestamp, Timestamp)>;

/// Checks the TLS files of each listener that has any; returns the results with the section names.
pub(crate) fn inspect_tls(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Vec<(&'static str, Result<Validity, Vec<Problem>>)> {
    let all = [grpc_files(config), http_files(config), egress_files(config)].into_iter().flatten();
    let inspect = |files: TlsFiles| {
        let listener = files.listener;
        let inspected = ServerTls::inspect(&files, Arc::clone(clock));
        (listener, inspected.map_err(|found| to_config_problems(listener, found).collect()))
    };
    all.map(inspect).collect()
}

fn grpc_files(config: &Config) -> Option<TlsFiles> {
    // If tokens name callers, too, a client with a token needs no certificate.
    let required = config.callers.jwt.is_empty();
    Some(files("grpc", Protocol::Http2, config.grpc.tls.as_ref()?, required))
}

fn http_files(config: &Config) -> Option<TlsFiles> {
    let tls = config.http.as_ref()?.tls.as_ref()?;
    Some(files("http", Protocol::Http2OrHttp1, tls, true))
}

fn egress_files(config: &Config) -> Option<TlsFiles> {
    let tls = config.egress.as_ref()?.tls.as_ref()?;
    Some(files("egress", Protocol::Http2OrHttp1, tls, config.callers.jwt.is_empty()))
}

fn files(listener: &'static str, speaks: Protocol, tls: &config::Tls, required: bool) -> TlsFiles {
    let config::Tls { certificate_file, private_key_file, client_ca_file } = tls.clone();
    TlsFiles {
        listener,
        protocol: speaks,
        certificate: certificate_file,
        private_key: private_key_file,
        client_ca: client_ca_file,
        client_certificate_required: required,
    }
}

fn to_config_problems(
    listener: &'static str,
    problems: Vec<TlsProblem>,
) -> impl Iterator<Item = Problem> {
    problems.into_iter().map(move |problem| Problem {
        key: format!("{listener}.tls.{}", problem.key),
        line: None,
        message: problem.to_string(),
    })
}

fn proxies(trusted: &TrustedProxies, protocol: bool) -> FrontProxies {
    FrontProxies { trusted: trusted.clone(), proxy_protocol: protocol }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || bound_socket(address)?.listen(LISTEN_BACKLOG);
    bind().map_err(|source| StartError::listen(key, address, source))
}
