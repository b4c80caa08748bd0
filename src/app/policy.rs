//! The policy files: read at the start and reloaded when they change. Every change is recorded in the audit trail.

use std::{
    convert::Infallible,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::{
    access::{MAX_POLICY_FILE_BYTES, Policies, PolicyError, PolicyProblem, PolicySet, PolicyText},
    audit::{AuditedDecision, EventClass, EventOrigin, Trail},
    config::{Config, ConfigError, Problem},
    domain::{ApplicationId, AuditedCaller, Decision, Reason, file_text},
    ports::{ChangeDetector, Clock, Reloadable, explain_read_error},
};

/// The interval at which the policy files are read and compared.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The actions and the caller of these audit events.
const LOADED: &str = "policy.load";
const RELOADED: &str = "policy.reload";
const GATEWAY: &str = "gateway";

/// Parses the configured policies; returns them with their warnings, or `None` if none are configured.
pub(crate) fn inspect_policy(
    config: &Config,
) -> Result<Option<(PolicySet, Vec<PolicyProblem>)>, PolicyError> {
    let Some(policy) = &config.policy.file else { return Ok(None) };
    let entities = config.policy.entities_file.as_deref();
    let applications: Vec<_> = config.applications.iter().map(|a| a.id.clone()).collect();
    parse(policy, entities, &read(policy, entities), &applications).map(Some)
}

/// The policy files and the policies in force.
pub(super) struct PolicyFiles {
    policy: PathBuf,
    entities: Option<PathBuf>,
    applications: Vec<ApplicationId>,
    policies: Arc<Policies>,
    settling: Mutex<ChangeDetector>,
    hasher: RandomState,
    /// The initial policy, until it is recorded in the audit trail.
    first: std::sync::Mutex<Option<LoadedPolicy>>,
    trail: OnceLock<Arc<Trail>>,
}

/// The facts about a loaded policy that the audit trail records.
struct LoadedPolicy {
    text: Vec<u8>,
    policies: usize,
    groups: usize,
}

impl LoadedPolicy {
    fn new(contents: &Contents, set: &PolicySet) -> Self {
        let (policy, entities) = contents;
        let entities = entities.as_ref().and_then(|text| text.as_ref().ok());
        let texts = policy.iter().chain(entities).map(String::as_bytes);
        let text = texts.collect::<Vec<_>>().join(&b'\n');
        Self { text, policies: set.policies(), groups: set.groups() }
    }
}

/// The content of the policy file and the entities file, or the errors of reading them.
type Contents = (Result<String, String>, Option<Result<String, String>>);

impl PolicyFiles {
    /// Reads the files for the first time. Returns `None` if none are configured.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, ConfigError> {
        let Some(policy) = config.policy.file.clone() else { return Ok(None) };
        let entities = config.policy.entities_file.clone();
        let applications: Vec<_> = config.applications.iter().map(|a| a.id.clone()).collect();
        let contents = read(&policy, entities.as_deref());
        let hasher = RandomState::new();
        let fingerprint = hasher.hash_one(&contents);
        let parsed = parse(&policy, entities.as_deref(), &contents, &applications);
        let (set, warnings) = parsed.map_err(|error| to_config_error(config, error))?;
        let first = LoadedPolicy::new(&contents, &set);
        warn(&warnings);
        tracing::info!(file = %policy.display(), policies = set.policies(), "policy loaded");
        Ok(Some(Self {
            policy,
            entities,
            applications,
            policies: Arc::new(Policies::new(set)),
            settling: Mutex::new(ChangeDetector::new(fingerprint)),
            hasher,
            first: std::sync::Mutex::new(Some(first)),
            trail: OnceLock::new(),
        }))
    }

    /// Returns the policies in force.
    pub(super) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies)
    }

    /// Records the initial policy, and each later change, in the audit trail.
    pub(super) fn attach_trail(&self, trail: &Arc<Trail>) {
        let _ = self.trail.set(Arc::clone(trail));
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(first) = first {
            self.record(LOADED, Ok(&first));
        }
    }

    /// Records an event without waiting for it: a loaded policy is in force immediately.
    fn record(&self, action: &'static str, outcome: Result<&LoadedPolicy, &PolicyError>) {
        let Some(trail) = self.trail.get() else { return };
        let (reason, error_reason) = match outcome {
            Ok(LoadedPolicy { text, policies, groups }) => {
                let digest = trail.digest(text).map(|byte| format!("{byte:02x}")).concat();
                (format!("sha256:{digest} ({policies} policies, {groups} groups)"), None)
            }
            Err(PolicyError(problems)) => {
                let problems = problems.len();
                let text = format!("{problems} problems; the previous policy stays in force");
                (text, Some(Reason::InvalidArgument))
            }
        };
        let caller = AuditedCaller {
            id: GATEWAY.into(),
            method: GATEWAY.into(),
            ..AuditedCaller::default()
        };
        let origin = EventOrigin { caller, reason: reason.into(), ..EventOrigin::default() };
        let decided = AuditedDecision::new(action, GATEWAY, Decision::Allowed);
        let event = origin.event(decided, error_reason.into());
        if trail.record_in_background(event, EventClass::Change).is_err() {
            tracing::error!(action, "the audit trail is full: a change of the policy is not in it");
        }
    }

    /// Reloads changed files, forever.
    pub(super) async fn watch(&self, clock: &dyn Clock) -> Infallible {
        loop {
            clock.sleep(POLL_INTERVAL).await;
            self.reload_if_changed(false).await;
        }
    }

    async fn reload_if_changed(&self, asked: bool) {
        let mut settling = self.settling.lock().await;
        let (policy, entities) = (self.policy.clone(), self.entities.clone());
        // Reading can block, because the folder may be on a network.
        let reading = tokio::task::spawn_blocking(move || read(&policy, entities.as_deref()));
        let Ok(contents) = reading.await else { return };
        if !settling.should_reload(self.hasher.hash_one(&contents), asked) {
            return;
        }
        let (policy, entities) = (self.policy.clone(), self.entities.clone());
        let applications = self.applications.clone();
        // Parsing a large policy takes long and would block other work of this task, such as the emergency stop.
        let parsing = tokio::task::spawn_blocking(move || {
            let (set, warnings) = parse(&policy, entities.as_deref(), &contents, &applications)?;
            Ok((LoadedPolicy::new(&contents, &set), set, warnings))
        });
        let Ok(parsed) = parsing.await else { return };
        match parsed {
            Ok((loaded, set, warnings)) => {
                warn(&warnings);
                self.record(RELOADED, Ok(&loaded));
                tracing::info!(file = %self.policy.display(), policies = set.policies(), "policy reloaded");
                self.policies.replace(set);
            }
            Err(error) => {
                self.record(RELOADED, Err(&error));
                for problem in error.0 {
                    tracing::error!(%problem, "the policy is invalid; the previous policy stays in force");
                }
            }
        }
    }
}

#[async_trait]
impl Reloadable for PolicyFiles {
    async fn reload(&self) {
        self.reload_if_changed(true).await;
    }
}

/// Parses the policies; returns them with their warnings.
fn parse(
    policy: &Path,
    entities: Option<&Path>,
    contents: &Contents,
    applications: &[ApplicationId],
) -> Result<(PolicySet, Vec<PolicyProblem>), PolicyError> {
    PolicySet::parse(&text(policy, entities, contents)?, applications)
}

/// Returns the text of both files, or the errors of reading them.
fn text(
    policy: &Path,
    entities: Option<&Path>,
    contents: &Contents,
) -> Result<PolicyText, PolicyError> {
    let (policy_text, entities_text) = contents.clone();
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

fn to_config_error(config: &Config, PolicyError(problems): PolicyError) -> ConfigError {
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
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() > MAX_POLICY_FILE_BYTES => {
            Err(format!("is larger than {MAX_POLICY_FILE_BYTES} bytes"))
        }
        Ok(_) => file_text(&bytes).map(str::to_owned).map_err(|error| error.to_string()),
        Err(error) => Err(explain_read_error(&error).to_owned()),
    }
}
