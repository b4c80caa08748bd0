//! What is permitted and what is recorded: `[policy]`, `[audit]`, `[log]`, `[telemetry]`, `[envoy]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{error::Problems, secret, value};

/// `[policy]`: Cedar policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The policies.
    pub file: Option<PathBuf>,
    /// Members of caller groups and tenant groups.
    pub entities_file: Option<PathBuf>,
}

/// `[audit]`: the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// When an event must be in the store.
    pub durability: AuditDurability,
    /// How long a call waits for the store to take its event.
    #[serde(deserialize_with = "value::duration")]
    pub max_wait: Duration,
    /// Events older than this are removed; kept for ever if not given.
    #[serde(deserialize_with = "value::some_duration")]
    pub retention: Option<Duration>,
}

/// When an event must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditDurability {
    /// Before the answer is on the wire.
    BeforeResponse,
    /// Soon after.
    AfterResponse,
}

/// `[log]`: the process's own log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least level that is written.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Least level that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What somebody must look at.
    Error,
    /// And what somebody should know.
    Warn,
    /// And what happened.
    Info,
    /// And how.
    Debug,
    /// And everything else.
    Trace,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people at a terminal.
    Pretty,
}

/// `[telemetry]`: traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where traces go, by OTLP over gRPC.
    #[serde(deserialize_with = "value::some_endpoint")]
    pub otlp_endpoint: Option<String>,
}

/// `[envoy]`: external authorization for Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Envoy {
    /// Whether the service is offered.
    pub enabled: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            durability: AuditDurability::BeforeResponse,
            // A commit takes milliseconds; a store that needs longer is in trouble.
            max_wait: Duration::from_secs(2),
            retention: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Json }
    }
}

impl LogLevel {
    /// The level as filters spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Log {
    /// The log filter: the environment variable `RUST_LOG` if it is set, else the level.
    #[must_use]
    pub fn filter(&self) -> String {
        environment_filter().unwrap_or_else(|| self.level.as_str().to_owned())
    }
}

/// `RUST_LOG`, if it is set to something.
pub(super) fn environment_filter() -> Option<String> {
    secret::environment("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty())
}

impl Policy {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for file in [&mut self.file, &mut self.entities_file] {
            *file = file.take().map(|file| folder.join(file));
        }
    }
}

impl Audit {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.max_wait.is_zero() {
            problems.add("audit.max_wait", "must be longer than nothing");
        }
        if self.retention.is_some_and(|retention| retention.is_zero()) {
            problems.add(
                "audit.retention",
                "must be longer than nothing; leave it out to keep all events",
            );
        }
    }
}
