//! Reads the file and checks it completely.

use std::{io, net::SocketAddr, path::Path};

use serde::Deserialize;

use super::{
    Admin, Associates, Audit, Callers, Config, ConfigError, Crypto, Egress, Envoy, Grpc, Http,
    Lifecycle, Log, Login, Outbound, Policy, Quotas, SecretSources, Secrets, Telemetry, Tenants,
    Tickets, WebApi,
    application::{self, ApplicationEntry},
    document::Document,
    error::Problems,
    outbound::{self, ProxyEntry},
    secret::SecretFormat,
    storage::StoreEntry,
    unbuilt,
};
use crate::domain::file_text;

/// The keys whose values are lists.
const LISTS: [&str; 12] = [
    "applications",
    "applications.redirect_uris",
    "applications.return_uri_prefixes",
    "applications.allowed_api_hosts",
    "callers.jwt",
    "proxy.no_proxy",
    "outbound.nat64_prefixes",
    "callers.jwt.audiences",
    "callers.jwt.algorithms",
    "grpc.trusted_proxies",
    "http.trusted_proxies",
    "egress.trusted_proxies",
];

/// The sections of the file, unchecked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sections {
    grpc: Grpc,
    http: Option<Http>,
    admin: Admin,
    egress: Option<Egress>,
    proxy: Option<ProxyEntry>,
    outbound: Outbound,
    store: StoreEntry,
    crypto: Crypto,
    policy: Policy,
    audit: Audit,
    quotas: Quotas,
    tenants: Tenants,
    tickets: Tickets,
    associates: Associates,
    login: Login,
    web_api: WebApi,
    lifecycle: Lifecycle,
    log: Log,
    telemetry: Telemetry,
    envoy: Envoy,
    callers: Callers,
    pub(super) applications: Vec<ApplicationEntry>,
}

/// A configuration that may still have problems.
pub(super) struct Draft {
    config: Config,
    secrets: Vec<SecretSources>,
}

/// The configuration, the result of `also`, and the warnings.
type LoadResult<S> = Result<(Config, S, Vec<String>), ConfigError>;

/// Reads and checks the file, and calls `also` to read more, so that all problems are reported together.
pub(super) fn load<S>(
    file: &Path,
    also: impl FnOnce(&Draft, &mut Problems) -> Option<S>,
) -> LoadResult<S> {
    let mut problems = Problems::default();
    let text = read_text(file, &mut problems).unwrap_or_default();
    read(file, &text, problems, also)
}

/// Checks the text of the file. `problems` contains the problems of reading it.
pub(super) fn read<S>(
    file: &Path,
    text: &str,
    mut problems: Problems,
    also: impl FnOnce(&Draft, &mut Problems) -> Option<S>,
) -> LoadResult<S> {
    let document = Document::parse(text, &mut problems);
    let sections = document
        .as_ref()
        .filter(|_| problems.errors.is_empty())
        .and_then(|document| document.read(&mut problems));
    if let Some(document) = &document {
        document.refuse_lists(&LISTS, &mut problems);
    }
    let draft = sections.map(|sections: Sections| sections.check(file, &mut problems));
    if let Some(warning) = document.as_ref().and_then(unbuilt::warning) {
        problems.warn("", warning);
    }
    let also = draft.as_ref().and_then(|draft| also(draft, &mut problems));
    let warnings = problems.finish(file, |key| document.as_ref()?.line_of(key))?;
    match (draft, also) {
        (Some(draft), Some(also)) => Ok((draft.config, also, warnings)),
        // Unreachable: a missing part was reported as a problem, so `finish` has returned it.
        _ => Err(ConfigError { file: file.to_owned(), problems: Vec::new() }),
    }
}

fn read_text(file: &Path, problems: &mut Problems) -> Option<String> {
    let message = match std::fs::read(file) {
        Ok(bytes) => match file_text(&bytes) {
            Ok(text) => return Some(text.to_owned()),
            Err(error) => error.to_string(),
        },
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => {
                "there is no such file; name another with --config".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "cannot be read; give the user of this process read permission".to_owned()
            }
            kind => format!("cannot be read ({kind})"),
        },
    };
    problems.add("", message);
    None
}

impl ConfigError {
    /// Adds the line numbers of keys that were checked after the file was read.
    #[must_use]
    pub(crate) fn with_lines(mut self) -> Self {
        let text = std::fs::read(&self.file).unwrap_or_default();
        let text = file_text(&text).unwrap_or_default();
        if let Some(document) = Document::parse(text, &mut Problems::default()) {
            for problem in self.problems.iter_mut().filter(|problem| problem.line.is_none()) {
                problem.line = document.line_of(&problem.key);
            }
        }
        self
    }
}

/// Reads every secret that the draft names, even if it has other problems.
pub(super) fn read_secrets(draft: &Draft, problems: &mut Problems) -> Option<Secrets> {
    let password = draft.config.store.password.as_ref();
    let password = password.map(|source| source.read(SecretFormat::Line, problems));
    let proxy = draft.config.proxy.as_ref().filter(|proxy| proxy.username.is_some());
    let proxy = proxy.map(|proxy| proxy.read_password(problems));
    // Read all of them before a problem ends this function.
    let read: Vec<_> = draft.secrets.iter().map(|sources| sources.read(problems)).collect();
    Some(Secrets {
        applications: read.into_iter().collect::<Option<_>>()?,
        store_password: match password {
            Some(password) => Some(password?),
            None => None,
        },
        proxy_password: match proxy {
            Some(password) => Some(password?),
            None => None,
        },
    })
}

impl Sections {
    fn check(mut self, file: &Path, problems: &mut Problems) -> Draft {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        self.grpc.check(problems);
        if let Some(http) = &self.http {
            http.check(problems);
        }
        if let Some(egress) = &self.egress {
            egress.check(problems);
        }
        self.outbound.check(problems);
        self.crypto.check(problems);
        self.audit.check(problems);
        self.quotas.check(problems);
        self.tenants.check(problems);
        self.tickets.check(problems);
        self.associates.check(problems);
        self.login.check(problems);
        self.web_api.check(problems);
        self.lifecycle.check(&self.login, problems);
        self.callers.check(&self.grpc, &self.listeners(), problems);
        self.resolve(folder);
        let checked = application::check(self.applications, folder, problems);
        if self.http.is_none() {
            let sources = checked.secrets.iter().filter_map(SecretSources::webhook_secret);
            for source in sources {
                let message = "has no effect without [http], the listener that receives webhooks";
                problems.warn(source.key(), message);
            }
        }
        let config = Config {
            file: file.to_owned(),
            grpc: self.grpc,
            http: self.http,
            admin: self.admin,
            egress: self.egress,
            proxy: outbound::proxy(self.proxy, folder, outbound::environment_variable, problems),
            outbound: self.outbound,
            store: self.store.check(folder, problems),
            crypto: self.crypto,
            policy: self.policy,
            audit: self.audit,
            quotas: self.quotas,
            tenants: self.tenants,
            tickets: self.tickets,
            associates: self.associates,
            login: self.login,
            web_api: self.web_api,
            lifecycle: self.lifecycle,
            log: self.log,
            telemetry: self.telemetry,
            envoy: self.envoy,
            callers: self.callers,
            applications: checked.applications,
        };
        Draft { config, secrets: checked.secrets }
    }

    fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let http = self.http.iter().map(|http| ("http", http.listen));
        let egress = self.egress.iter().map(|egress| ("egress", egress.listen));
        let others = [("grpc", self.grpc.listen), ("admin", self.admin.listen)];
        http.chain(egress).chain(others).collect()
    }

    fn resolve(&mut self, folder: &Path) {
        let http = self.http.iter_mut().flat_map(|http| &mut http.tls);
        let egress = self.egress.iter_mut().flat_map(|egress| &mut egress.tls);
        for tls in self.grpc.tls.iter_mut().chain(http).chain(egress) {
            tls.resolve(folder);
        }
        self.outbound.resolve(folder);
        self.crypto.resolve(folder);
        self.policy.resolve(folder);
        self.audit.resolve(folder);
        self.callers.resolve(folder);
    }
}
