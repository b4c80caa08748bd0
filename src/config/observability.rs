//! Policy, audit and telemetry: `[policy]`, `[audit]`, `[log]`, `[telemetry]`, `[envoy]`.

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
    /// The file with the policies.
    pub file: Option<PathBuf>,
    /// The file with the members of caller groups and tenant groups.
    pub entities_file: Option<PathBuf>,
}

/// `[audit]`: the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The time at which an event must be in the store.
    pub durability: AuditDurability,
    /// The longest wait of a call for the store to write its event.
    #[serde(deserialize_with = "value::duration")]
    pub max_wait: Duration,
    /// The age at which events are deleted; without it, events are kept as long as there is space.
    #[serde(deserialize_with = "value::some_duration")]
    pub retention: Option<Duration>,
    /// The directory of the audit journal; without it, the directory `audit` beside the store's file.
    pub directory: Option<PathBuf>,
    /// The size of a full segment of the journal, in bytes.
    pub segment_bytes: u64,
    /// The most bytes of the journal, beyond which its oldest events are deleted; without it, 70 % of the volume.
    pub max_bytes: Option<u64>,
}

/// The least number of segments for which there must be space: the one that is written, the one that is prepared, one
/// that is being compressed, and one with older events.
const MIN_SEGMENTS: u64 = 4;

/// The least and the largest size of a segment.
const MIN_SEGMENT_BYTES: u64 = 1024 * 1024;
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;

/// The time at which an event must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditDurability {
    /// Before the response is sent.
    BeforeResponse,
    /// Soon after the response.
    AfterResponse,
}

/// `[log]`: the log of the process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The minimum level.
    pub level: LogLevel,
    /// The format of the lines.
    pub format: LogFormat,
}

/// The minimum level of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors that need an action.
    Error,
    /// Also warnings.
    Warn,
    /// Also normal events.
    Info,
    /// Also details for debugging.
    Debug,
    /// Everything.
    Trace,
}

/// The format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for a terminal.
    Pretty,
}

/// `[telemetry]`: traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The endpoint that receives traces, by OTLP over gRPC.
    #[serde(deserialize_with = "value::some_endpoint")]
    pub otlp_endpoint: Option<String>,
}

/// `[envoy]`: external authorization for Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Envoy {
    /// Whether the authorization service is served.
    pub enabled: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            durability: AuditDurability::BeforeResponse,
            // A commit normally takes milliseconds.
            max_wait: Duration::from_secs(2),
            retention: None,
            directory: None,
            segment_bytes: 64 * 1024 * 1024,
            max_bytes: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Json }
    }
}

impl LogLevel {
    /// Returns the level as log filters spell it.
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
    /// Returns the log filter: the environment variable `RUST_LOG` if it is set, else the level.
    #[must_use]
    pub fn filter(&self) -> String {
        environment_filter().unwrap_or_else(|| self.level.as_str().to_owned())
    }
}

/// Returns `RUST_LOG`, if it is set and not blank.
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
    pub(super) fn resolve(&mut self, folder: &Path) {
        self.directory = self.directory.take().map(|directory| folder.join(directory));
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.max_wait.is_zero() {
            problems.add("audit.max_wait", "must be greater than zero");
        }
        if self.retention.is_some_and(|retention| retention.is_zero()) {
            problems
                .add("audit.retention", "must be greater than zero; remove it to keep all events");
        }
        if self.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
            problems
                .add("audit.directory", "must be a path; remove it for \"audit\" beside the store");
        }
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            let message = "must be between 1048576 (1 MiB) and 1073741824 (1 GiB)";
            problems.add("audit.segment_bytes", message);
        }
        if self.max_bytes.is_some_and(|max| max / MIN_SEGMENTS < self.segment_bytes) {
            let message = "must be at least four times audit.segment_bytes; raise it, or reduce audit.segment_bytes";
            problems.add("audit.max_bytes", message);
        }
    }
}
