//! From `[callers]`, `[policy]` and `[quotas]` to what lets callers in, and what keeps that up to date.

use std::{
    convert::Infallible,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::Read as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::{Surroundings, storage::problem};
use crate::{
    access::{
        Access, Identification, IssuerKeys, IssuerRules, MAX_POLICY_FILE_BYTES, Policies,
        PolicyError, PolicyProblem, PolicySet, PolicyText, QuotaRules, Rate, Rules,
    },
    config::{Config, ConfigError, JwtIssuer, Problem, Quota, Quotas},
    crypto::KeyedDigest,
    domain::ApplicationId,
    issuers::{IssuerEndpoint, KeyEndpoint, KeyFile},
    ports::{Clock, JwksSource, Reloadable, Settling},
};

/// How often the policy files are looked at. Content is compared, as for the files of TLS.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// What lets callers in, and the work that keeps it up to date.
pub(super) struct Doors {
    pub(super) access: Access,
    upkeep: Upkeep,
}

/// Runs as long as callers are let in.
#[derive(Default)]
pub(super) struct Upkeep {
    issuers: Vec<Arc<IssuerKeys>>,
    policy: Option<Arc<PolicyFiles>>,
}

impl Doors {
    /// Reads the policy. Fetches nothing yet: an issuer that is down must not keep the gateway from starting.
    pub(super) fn new(config: &Config, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let clock = Arc::clone(&surroundings.clock);
        let quotas = quota_rules(&config.quotas);
        let policy = PolicyFiles::load(config)?.map(Arc::new);
        let policies = policy.as_ref().map(|policy| Arc::clone(&policy.policies));
        let mut upkeep = Upkeep { issuers: Vec::new(), policy };
        let access = if config.callers.insecure_anonymous {
            let rules = policies.map_or(Rules::PermitAll, Rules::Policies);
            Access::insecure_anonymous(rules, quotas, clock)
        } else {
            let issuers = issuers(config, surroundings);
            upkeep.issuers = issuers.iter().map(|(_, keys)| Arc::clone(keys)).collect();
            let digest = KeyedDigest::new();
            let digest = digest.map_err(|error| problem(config, "callers", error.to_string()))?;
            let callers =
                Identification::new(issuers, config.callers.mtls.enabled, Arc::new(digest));
            let missing = || problem(config, "policy.file", "is missing".to_owned());
            let policies = policies.ok_or_else(missing)?;
            Access::new(callers, policies, quotas, clock)
        };
        Ok(Self { access, upkeep })
    }

    pub(super) fn open(self) -> (Access, Upkeep) {
        (self.access, self.upkeep)
    }
}

impl Upkeep {
    /// What can be read again when somebody asks for it.
    pub(super) fn reloadables(&self) -> Vec<Arc<dyn Reloadable>> {
        let policy = self.policy.iter().map(|policy| Arc::clone(policy) as Arc<dyn Reloadable>);
        policy.chain(self.issuers.iter().map(|keys| Arc::clone(keys) as _)).collect()
    }

    /// Keeps keys and policy up to date, until it is dropped.
    pub(super) async fn run(self, clock: Arc<dyn Clock>) {
        let keys = join_all(self.issuers.iter().map(|keys| keys.keep_fresh()));
        let policy = async {
            match &self.policy {
                Some(policy) => match policy.watch(&*clock).await {},
                None => std::future::pending().await,
            }
        };
        tokio::join!(keys, policy);
    }
}

fn issuers(config: &Config, surroundings: &Surroundings) -> Vec<(IssuerRules, Arc<IssuerKeys>)> {
    let one = |issuer: &JwtIssuer| {
        let rules = IssuerRules {
            issuer: issuer.issuer.clone(),
            audience: issuer.audience.clone(),
            caller_prefix: issuer.caller_prefix.clone(),
            spiffe_trust_domain: issuer.spiffe_trust_domain.clone(),
            max_lifetime: issuer.max_lifetime,
            max_key_age: issuer.max_key_age,
        };
        let Surroundings { clock, random } = surroundings.clone();
        let name = issuer.issuer.clone();
        let keys = IssuerKeys::new(name, source(issuer), issuer.max_key_age, clock, random);
        (rules, Arc::new(keys))
    };
    config.callers.jwt.iter().map(one).collect()
}

fn source(issuer: &JwtIssuer) -> Arc<dyn JwksSource> {
    match &issuer.jwks_file {
        Some(file) => Arc::new(KeyFile::new(file.clone())),
        None => Arc::new(KeyEndpoint::new(IssuerEndpoint {
            issuer: issuer.issuer.clone(),
            jwks_uri: issuer.jwks_uri.clone(),
            ca_file: issuer.ca_file.clone(),
            bearer_token_file: issuer.bearer_token_file.clone(),
        })),
    }
}

/// How many keys of an issuer can be used, read as they are for calls; else why none.
pub(crate) async fn usable_keys(issuer: &JwtIssuer) -> Result<usize, String> {
    let body = source(issuer).fetch().await.map_err(|error| error.to_string())?;
    IssuerKeys::usable_in(&body)
}

/// The policies that are configured, if any are, and what is worth a warning in them.
pub(crate) fn inspect_policy(
    config: &Config,
) -> Result<Option<(PolicySet, Vec<PolicyProblem>)>, PolicyError> {
    let Some(policy) = &config.policy.file else { return Ok(None) };
    let entities = config.policy.entities_file.as_deref();
    let applications: Vec<_> = config.applications.iter().map(|a| a.id.clone()).collect();
    parse(policy, entities, read(policy, entities), &applications).map(Some)
}

fn quota_rules(quotas: &Quotas) -> QuotaRules {
    let rate = |quota: Quota| {
        let per_second = NonZeroU32::new(quota.per_second)?;
        let burst = quota.burst.and_then(NonZeroU32::new).unwrap_or(per_second);
        Some(Rate { per_second, burst })
    };
    QuotaRules {
        per_caller: quotas.per_caller.and_then(rate),
        per_caller_and_tenant: quotas.per_caller_and_tenant.and_then(rate),
        refused_per_source: rate(quotas.refused_per_source),
    }
}

/// The policy files, and what of them is in force.
struct PolicyFiles {
    policy: PathBuf,
    entities: Option<PathBuf>,
    applications: Vec<ApplicationId>,
    policies: Arc<Policies>,
    settling: Mutex<Settling>,
    hasher: RandomState,
}

/// The files as they were at one moment, unreadable ones included.
type Contents = (Result<String, String>, Option<Result<String, String>>);

impl PolicyFiles {
    /// Reads them for the first time. `None` if none are configured.
    fn load(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(policy) = config.policy.file.clone() else { return Ok(None) };
        let entities = config.policy.entities_file.clone();
        let applications: Vec<_> = config.applications.iter().map(|a| a.id.clone()).collect();
        let contents = read(&policy, entities.as_deref());
        let hasher = RandomState::new();
        let fingerprint = hasher.hash_one(&contents);
        let parsed = parse(&policy, entities.as_deref(), contents, &applications);
        let (set, warnings) = parsed.map_err(|error| in_configuration(config, error))?;
        warn(&warnings);
        tracing::info!(file = %policy.display(), policies = set.policies(), "policy loaded");
        Ok(Some(Self {
            policy,
            entities,
            applications,
            policies: Arc::new(Policies::new(set)),
            settling: Mutex::new(Settling::new(fingerprint)),
            hasher,
        }))
    }

    /// Takes what changes, for ever.
    async fn watch(&self, clock: &dyn Clock) -> Infallible {
        loop {
            clock.sleep(LOOK_AT_FILES).await;
            self.look(false).await;
        }
    }

    async fn look(&self, asked: bool) {
        let mut settling = self.settling.lock().await;
        let (policy, entities) = (self.policy.clone(), self.entities.clone());
        // The folder may be a network's.
        let reading = tokio::task::spawn_blocking(move || read(&policy, entities.as_deref()));
        let Ok(contents) = reading.await else { return };
        if !settling.look(self.hasher.hash_one(&contents), asked) {
            return;
        }
        match parse(&self.policy, self.entities.as_deref(), contents, &self.applications) {
            Ok((set, warnings)) => {
                warn(&warnings);
                tracing::info!(file = %self.policy.display(), policies = set.policies(), "policy reloaded");
                self.policies.replace(set);
            }
            Err(PolicyError(problems)) => {
                for problem in problems {
                    tracing::error!(%problem, "policy cannot be used; what was in force before stays in force");
                }
            }
        }
    }
}

#[async_trait]
impl Reloadable for PolicyFiles {
    async fn reload(&self) {
        self.look(true).await;
    }
}

/// Policies and warnings in the files.
fn parse(
    policy: &Path,
    entities: Option<&Path>,
    contents: Contents,
    applications: &[ApplicationId],
) -> Result<(PolicySet, Vec<PolicyProblem>), PolicyError> {
    PolicySet::parse(&text(policy, entities, contents)?, applications)
}

/// What the files say, if both can be read.
fn text(
    policy: &Path,
    entities: Option<&Path>,
    (policy_text, entities_text): Contents,
) -> Result<PolicyText, PolicyError> {
    let unreadable = |file: &Path, message: String| PolicyProblem {
        file: file.display().to_string(),
        line: None,
        message,
    };
    let entities_name = entities.map(|file| file.display().to_string());
    let entities_text = entities_text.transpose();
    match (policy_text, entities_text) {
        (Ok(policy_text), Ok(entities)) => Ok(PolicyText {
            policy_name: policy.display().to_string(),
            policy: policy_text,
            entities_name,
            entities,
        }),
        (policy_text, entities_text) => {
            let of_policy = policy_text.err().map(|what| unreadable(policy, what));
            let of_entities = entities_text.err().zip(entities);
            let of_entities = of_entities.map(|(what, file)| unreadable(file, what));
            Err(PolicyError(of_policy.into_iter().chain(of_entities).collect()))
        }
    }
}

fn warn(warnings: &[PolicyProblem]) {
    for warning in warnings {
        tracing::warn!(%warning, "policy");
    }
}

fn in_configuration(config: &Config, PolicyError(problems): PolicyError) -> ConfigError {
    let problem = |problem: PolicyProblem| Problem {
        key: "policy".to_owned(),
        line: None,
        message: problem.to_string(),
    };
    let problems = problems.into_iter().map(problem).collect();
    ConfigError { file: config.file.clone(), problems }
}

fn read(policy: &Path, entities: Option<&Path>) -> Contents {
    (read_bounded(policy), entities.map(read_bounded))
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let limit = u64::try_from(MAX_POLICY_FILE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() > MAX_POLICY_FILE_BYTES => {
            Err(format!("is larger than {MAX_POLICY_FILE_BYTES} bytes"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!(
            "cannot be read ({error}); relative paths begin at the folder of the configuration file"
        )),
    }
}
