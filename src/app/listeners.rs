//! From the sections of listeners to bound sockets and their TLS.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use tokio::net::TcpListener;

use super::{StartError, Surroundings, parts::Parts};
use crate::{
    config::{self, Config, ConfigError, Problem, Secrets},
    crypto::WebhookKey,
    domain::{ApplicationId, TrustedProxies},
    http::{
        ConsentPages, EgressPorts, EgressRules, EgressServer, HttpDoors, HttpPorts, HttpServer,
        StateChanges, Webhooks,
    },
    listen::{
        FrontProxies, IntakeBudget, ServerTls, Speaks, TlsFiles, TlsProblem, bound_socket,
        why_not_bound,
    },
    ports::{Clock, Meter, Reloadable, WebhookVerifier},
};

/// Accepted connections that wait for a moment of ours: thousands of callers may come at once.
const LISTEN_BACKLOG: u32 = 4096;

/// Everything that is bound, so that nothing else is begun where one cannot be had.
pub(super) struct Listeners {
    pub(super) grpc: Listener,
    pub(super) http: Option<Listener>,
    pub(super) egress: Option<Listener>,
    pub(super) admin: TcpListener,
}

/// A socket, and what ends TLS on it.
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
                loaded.map_err(|found| problems.extend(told(listener, found))).ok()
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

    /// The TLS files, which can be read again.
    pub(super) fn reloadables(&self) -> impl Iterator<Item = Arc<dyn Reloadable>> {
        let others = self.http.iter().chain(&self.egress);
        let others = others.filter_map(|listener| listener.tls.as_ref());
        self.grpc.tls.iter().chain(others).map(|tls| Arc::clone(tls) as _)
    }
}

/// What stands on the listener of `[http]`.
pub(super) fn http_server(
    listener: Listener,
    config: &Config,
    secrets: &Secrets,
    parts: &Parts,
    surroundings: &Surroundings,
    meter: Arc<dyn Meter>,
    intake: Arc<IntakeBudget>,
) -> HttpServer {
    let webhooks = Webhooks {
        verifiers: verifiers(config, secrets),
        hints: Arc::clone(&parts.hints),
        attempts: Arc::clone(&parts.services.audit.attempts),
    };
    let Surroundings { clock, random, .. } = surroundings.clone();
    let services = &parts.services;
    let state_changes = StateChanges {
        hints: parts.state_hints.clone(),
        attempts: Arc::clone(&services.audit.attempts),
    };
    let consents = ConsentPages {
        consents: Arc::clone(&services.consents),
        attempts: Arc::clone(&services.audit.attempts),
        public_uri: config.http.as_ref().and_then(|http| http.public_uri.clone()),
    };
    let doors =
        HttpDoors { webhooks, state_changes: Some(state_changes), consents: Some(consents) };
    let Listener { socket, tls, proxies } = listener;
    HttpServer::new(socket, tls, proxies, doors, HttpPorts { clock, random, meter, intake })
}

/// What stands on the listener of `[egress]`.
pub(super) fn egress_server(
    listener: Listener,
    config: &Config,
    parts: &Parts,
    surroundings: &Surroundings,
    meter: Arc<dyn Meter>,
    intake: Arc<IntakeBudget>,
) -> EgressServer {
    let section = config.egress.as_ref();
    let rules = EgressRules {
        public_uri: section.and_then(|egress| egress.public_uri.clone()),
        max_body_bytes: section.map(|egress| egress.max_body_bytes).filter(|most| *most > 0),
        timeout: config.web_api.timeout,
    };
    let Surroundings { clock, random, .. } = surroundings.clone();
    let services = &parts.services;
    let needs = EgressPorts {
        access: Arc::clone(&services.access),
        egress: Arc::clone(&services.egress),
        trail: Arc::clone(&services.audit.trail),
        attempts: Arc::clone(&services.audit.attempts),
        clock,
        random,
        meter,
        intake,
    };
    let Listener { socket, tls, proxies } = listener;
    EgressServer::new(socket, tls, proxies, rules, needs)
}

fn verifiers(
    config: &Config,
    secrets: &Secrets,
) -> HashMap<ApplicationId, Arc<dyn WebhookVerifier>> {
    let with_secrets = config.applications.iter().zip(&secrets.applications);
    let of_one = with_secrets.filter_map(|(application, secrets)| {
        let key = WebhookKey::new(secrets.webhook_secret.as_ref()?);
        Some((application.id.clone(), Arc::new(key) as _))
    });
    of_one.collect()
}

/// From when until when the certificate of a listener is valid, if it tells.
pub(crate) type Validity = Option<(Timestamp, Timestamp)>;

/// Looks at the TLS files of each listener that has any, by its section.
pub(crate) fn inspect_tls(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Vec<(&'static str, Result<Validity, Vec<Problem>>)> {
    let all = [grpc_files(config), http_files(config), egress_files(config)].into_iter().flatten();
    let inspect = |files: TlsFiles| {
        let listener = files.listener;
        let inspected = ServerTls::inspect(&files, Arc::clone(clock));
        (listener, inspected.map_err(|found| told(listener, found).collect()))
    };
    all.map(inspect).collect()
}

fn grpc_files(config: &Config) -> Option<TlsFiles> {
    // Where tokens name callers too, who shows a token need not have a certificate.
    let required = config.callers.jwt.is_empty();
    Some(files("grpc", Speaks::Http2, config.grpc.tls.as_ref()?, required))
}

fn http_files(config: &Config) -> Option<TlsFiles> {
    let tls = config.http.as_ref()?.tls.as_ref()?;
    Some(files("http", Speaks::Http2OrHttp1, tls, true))
}

fn egress_files(config: &Config) -> Option<TlsFiles> {
    let tls = config.egress.as_ref()?.tls.as_ref()?;
    Some(files("egress", Speaks::Http2OrHttp1, tls, config.callers.jwt.is_empty()))
}

fn files(listener: &'static str, speaks: Speaks, tls: &config::Tls, required: bool) -> TlsFiles {
    let config::Tls { certificate_file, private_key_file, client_ca_file } = tls.clone();
    TlsFiles {
        listener,
        speaks,
        certificate: certificate_file,
        private_key: private_key_file,
        client_ca: client_ca_file,
        client_certificate_required: required,
    }
}

fn told(listener: &'static str, problems: Vec<TlsProblem>) -> impl Iterator<Item = Problem> {
    problems.into_iter().map(move |problem| Problem {
        key: format!("{listener}.tls.{}", problem.key),
        line: None,
        message: problem.to_string(),
    })
}

fn proxies(trusted: &TrustedProxies, protocol: bool) -> FrontProxies {
    FrontProxies { trusted: trusted.clone(), protocol }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || bound_socket(address)?.listen(LISTEN_BACKLOG);
    bind().map_err(|source| {
        let mend = why_not_bound(address, &source);
        StartError::Listen { key, address, source, mend }
    })
}
