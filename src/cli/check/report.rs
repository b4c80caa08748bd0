//! The report: the results of all checks, and their output.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

use serde_json::{Value, json};

use crate::config::Problem;

/// The maximum number of lines for checks with the same topic and state. JSON has all checks.
const MAX_LINES_PER_KIND: usize = 20;

/// The solution for messages without one.
const DEFAULT_REMEDY: &str = "correct it; `tenant-gateway config` prints every option";

macro_rules! topics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// The topic of a check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Topic { $($(#[$doc])* $variant),+ }

        impl Topic {
            const NAMES: &'static [&'static str] = &[$($name),+];

            /// Returns the id of the check.
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

topics! {
    /// The configuration file.
    Configuration = "configuration",
    /// The secrets.
    Secret = "secret",
    /// The private keys of applications.
    PrivateKey = "private_key",
    /// The certificate and key of a listener.
    Tls = "tls",
    /// Outbound connections: proxy and certificate authorities.
    Network = "network",
    /// The policy.
    Policy = "policy",
    /// The authentication of callers.
    Callers = "callers",
    /// The keyring.
    Keyring = "keyring",
    /// The address of a listener.
    Listener = "listener",
    /// The store's file.
    Store = "store",
    /// The store's schema version.
    StoreSchema = "store_schema",
    /// The binding of an application id in the store.
    Application = "application",
    /// A stored system user token.
    SystemUserToken = "system_user_token",
    /// Writes to the store.
    StoreWritable = "store_writable",
    /// The reachability of a login host.
    LoginHost = "login_host",
    /// The clocks of a login host and this machine.
    Clock = "clock",
    /// The discovery document of a login host.
    Discovery = "discovery",
    /// The public keys of a login host.
    Jwks = "jwks",
    /// The status of a tenant.
    TenantStatus = "tenant_status",
    /// The exchange of a system user token, which is never tried.
    Exchange = "exchange",
}

impl Topic {
    /// Returns whether a failure means a wrong configuration.
    fn is_configuration(self) -> bool {
        matches!(
            self,
            Self::Configuration
                | Self::Secret
                | Self::PrivateKey
                | Self::Tls
                | Self::Network
                | Self::Policy
                | Self::Keyring
                | Self::Application
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl State {
    const ALL: [Self; 4] = [Self::Failed, Self::Warning, Self::Ok, Self::Skipped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn mark(self, terminal: bool) -> &'static str {
        match (self, terminal) {
            (Self::Ok, true) => "✓",
            (Self::Warning, true) => "!",
            (Self::Failed, true) => "✗",
            (Self::Skipped, true) => "-",
            (Self::Ok, false) => "ok",
            (Self::Warning, false) => "warn",
            (Self::Failed, false) => "FAIL",
            (Self::Skipped, false) => "skip",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone)]
pub(super) struct Check {
    topic: Topic,
    state: State,
    found: String,
    place: Option<String>,
    remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(topic: Topic, found: impl Into<String>) -> Self {
        Self { topic, state: State::Ok, found: found.into(), place: None, remedy: None }
    }

    pub(super) fn skipped(topic: Topic, found: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::ok(topic, found) }
    }

    pub(super) fn warning(
        topic: Topic,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { state: State::Warning, remedy: Some(remedy.into()), ..Self::ok(topic, found) }
    }

    pub(super) fn failed(
        topic: Topic,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { state: State::Failed, remedy: Some(remedy.into()), ..Self::ok(topic, found) }
    }

    /// Creates a check from a message that contains the problem and then, after `; ` or `. `, the solution.
    pub(super) fn from_message(topic: Topic, state: State, message: &str) -> Self {
        let ends = ["; ", ". "].map(|end| message.find(end));
        let end = ends.into_iter().flatten().min();
        let parts = end.and_then(|end| Some((message.get(..end)?, message.get(end + 2..)?)));
        let (found, remedy) = parts.unwrap_or((message, DEFAULT_REMEDY));
        Self { state, remedy: Some(remedy.to_owned()), ..Self::ok(topic, found) }
    }

    /// Creates a check from a problem of the configuration.
    pub(super) fn from_problem(topic: Topic, state: State, problem: &Problem) -> Self {
        Self::from_message(topic, state, &problem.message).at(&problem.key)
    }

    /// Sets the place: a configuration key, a file or a tenant.
    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()).filter(|place| !place.is_empty()), ..self }
    }

    fn as_json(&self) -> Value {
        json!({
            "id": self.topic.as_str(),
            "state": self.state.as_str(),
            "found": self.found,
            "where": self.place,
            "mend": self.remedy,
        })
    }

    fn as_line(&self, terminal: bool) -> String {
        let place = self.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let joint = |remedy: &str| if remedy.starts_with(char::is_uppercase) { '.' } else { ';' };
        let remedy = self.remedy.as_ref().map(|remedy| format!("{} {remedy}", joint(remedy)));
        let remedy = remedy.unwrap_or_default();
        line(self.state, self.topic, &format!("{place}{}{remedy}", self.found), terminal)
    }
}

fn line(state: State, topic: Topic, text: &str, terminal: bool) -> String {
    let marks = State::ALL.map(|state| state.mark(terminal).chars().count());
    let marks = marks.into_iter().max().unwrap_or_default();
    let topics = Topic::NAMES.iter().map(|name| name.len()).max().unwrap_or_default();
    // One line per check, even if a path contains control characters.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{:<marks$}  {:<topics$}  {text}\n", state.mark(terminal), topic.as_str())
}

/// All checks, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Report {
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    fn count(&self, state: State) -> usize {
        self.checks.iter().filter(|check| check.state == state).count()
    }

    /// Returns the exit code. A wrong configuration takes precedence over other failures.
    pub(super) fn exit_code(&self) -> ExitCode {
        let mut failed = self.checks.iter().filter(|check| check.state == State::Failed).peekable();
        if failed.peek().is_none() {
            ExitCode::SUCCESS
        } else if failed.any(|check| check.topic.is_configuration()) {
            ExitCode::from(2)
        } else {
            ExitCode::FAILURE
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let checks: Vec<_> = self.checks.iter().map(Check::as_json).collect();
        json!({ "ok": self.count(State::Failed) == 0, "checks": checks })
    }

    pub(super) fn as_text(&self, terminal: bool) -> String {
        let mut text = String::new();
        let mut shown = BTreeMap::<_, usize>::new();
        for check in &self.checks {
            let shown = shown.entry((check.topic, check.state)).or_default();
            *shown += 1;
            if *shown <= MAX_LINES_PER_KIND {
                text.push_str(&check.as_line(terminal));
            }
        }
        for ((topic, state), number) in
            shown.into_iter().filter(|(_, number)| *number > MAX_LINES_PER_KIND)
        {
            let more =
                format!("… and {} more; --output json has them all", number - MAX_LINES_PER_KIND);
            text.push_str(&line(state, topic, &more, terminal));
        }
        let counts = State::ALL.map(|state| (self.count(state), state));
        let counts = counts.into_iter().filter(|(number, _)| *number > 0);
        let counts: Vec<_> = counts.map(|(n, state)| format!("{n} {}", state.as_str())).collect();
        let _ = write!(text, "\n{}\n", counts.join(", "));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_message_into_problem_and_solution() {
        for (message, found, remedy) in [
            ("is missing; set it or x_env", "is missing", "set it or x_env"),
            ("k.toml: no keyring. Make one; or not", "k.toml: no keyring", "Make one; or not"),
            ("must be at least 1", "must be at least 1", DEFAULT_REMEDY),
        ] {
            let check = Check::from_message(Topic::Secret, State::Failed, message);
            assert_eq!((check.found.as_str(), check.remedy.as_deref()), (found, Some(remedy)));
        }
    }

    #[test]
    fn counts_checks_beyond_the_maximum_number_of_lines() {
        let mut report = Report::default();
        report.add(Check::ok(Topic::Store, "opens"));
        for number in 0..MAX_LINES_PER_KIND + 7 {
            report.add(Check::warning(Topic::TenantStatus, format!("n{number}"), "wait"));
        }
        let text = report.as_text(false);
        assert_eq!(text.lines().count(), 1 + MAX_LINES_PER_KIND + 1 + 2, "{text}");
        assert!(text.contains("warn  tenant_status      … and 7 more; --output json"), "{text}");
        assert!(text.ends_with("\n27 warning, 1 ok\n"), "{text}");
        let checks = report.as_json();
        assert_eq!(checks["checks"].as_array().unwrap().len(), 28);
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
    }

    #[test]
    fn topics_have_unique_names() {
        let names: std::collections::BTreeSet<_> = Topic::NAMES.iter().collect();
        assert_eq!(names.len(), Topic::NAMES.len());
    }
}
