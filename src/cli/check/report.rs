//! What was found, check by check, and how it is shown.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};

use serde_json::{Value, json};

use crate::config::Problem;

/// So many checks of one kind and outcome are shown as lines; JSON has them all.
const MANY: usize = 20;

/// What to do where a message says only what is wrong.
const CORRECT_IT: &str = "correct it; `tenant-gateway config` prints every option";

macro_rules! topics {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// What is checked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Topic { $($(#[$doc])* $variant),+ }

        impl Topic {
            const NAMES: &'static [&'static str] = &[$($name),+];

            /// The id of the check.
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

topics! {
    /// The file itself, and what serving it needs.
    Configuration = "configuration",
    /// A secret can be read.
    Secret = "secret",
    /// A private key is one.
    PrivateKey = "private_key",
    /// Certificate and key of a listener.
    Tls = "tls",
    /// The way out: proxy and certificate authorities.
    Network = "network",
    /// What callers may do.
    Policy = "policy",
    /// How callers prove who they are.
    Callers = "callers",
    /// The keys that seal.
    Keyring = "keyring",
    /// An address can be listened on.
    Listener = "listener",
    /// The store opens.
    Store = "store",
    /// Its schema is ours.
    StoreSchema = "store_schema",
    /// An application id means what it meant.
    Application = "application",
    /// A stored system user token opens.
    SystemUserToken = "system_user_token",
    /// The store can be written.
    StoreWritable = "store_writable",
    /// A login host answers.
    LoginHost = "login_host",
    /// Its clock and ours agree.
    Clock = "clock",
    /// What it says of itself.
    Discovery = "discovery",
    /// Its public keys.
    Jwks = "jwks",
    /// A tenant can be used.
    TenantStatus = "tenant_status",
    /// What only an exchange shows.
    Exchange = "exchange",
}

impl Topic {
    /// Whether the operator wrote down something wrong, in contrast to something that fails.
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

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(super) struct Check {
    topic: Topic,
    state: State,
    found: String,
    place: Option<String>,
    mend: Option<String>,
}

impl Check {
    pub(super) fn ok(topic: Topic, found: impl Into<String>) -> Self {
        Self { topic, state: State::Ok, found: found.into(), place: None, mend: None }
    }

    pub(super) fn skipped(topic: Topic, found: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::ok(topic, found) }
    }

    pub(super) fn warning(topic: Topic, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Warning, mend: Some(mend.into()), ..Self::ok(topic, found) }
    }

    pub(super) fn failed(topic: Topic, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { state: State::Failed, mend: Some(mend.into()), ..Self::ok(topic, found) }
    }

    /// From a message that says what is wrong and then, after `; ` or as another sentence, how to mend it.
    pub(super) fn told(topic: Topic, state: State, message: &str) -> Self {
        let ends = ["; ", ". "].map(|end| message.find(end));
        let end = ends.into_iter().flatten().min();
        let parts = end.and_then(|end| Some((message.get(..end)?, message.get(end + 2..)?)));
        let (found, mend) = parts.unwrap_or((message, CORRECT_IT));
        Self { state, mend: Some(mend.to_owned()), ..Self::ok(topic, found) }
    }

    /// The same of a key of the configuration.
    pub(super) fn of_problem(topic: Topic, state: State, problem: &Problem) -> Self {
        Self::told(topic, state, &problem.message).at(&problem.key)
    }

    /// Where: a key of the configuration, a file, a tenant.
    pub(super) fn at(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()).filter(|place| !place.is_empty()), ..self }
    }

    fn as_json(&self) -> Value {
        json!({
            "id": self.topic.as_str(),
            "state": self.state.as_str(),
            "found": self.found,
            "where": self.place,
            "mend": self.mend,
        })
    }

    fn as_line(&self, terminal: bool) -> String {
        let place = self.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let joint = |mend: &str| if mend.starts_with(char::is_uppercase) { '.' } else { ';' };
        let mend = self.mend.as_ref().map(|mend| format!("{} {mend}", joint(mend)));
        let mend = mend.unwrap_or_default();
        line(self.state, self.topic, &format!("{place}{}{mend}", self.found), terminal)
    }
}

fn line(state: State, topic: Topic, text: &str, terminal: bool) -> String {
    let marks = State::ALL.map(|state| state.mark(terminal).chars().count());
    let marks = marks.into_iter().max().unwrap_or_default();
    let topics = Topic::NAMES.iter().map(|name| name.len()).max().unwrap_or_default();
    // One line a check, whatever is in a path.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{:<marks$}  {:<topics$}  {text}\n", state.mark(terminal), topic.as_str())
}

/// All that was found, in the order of looking.
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

    /// The exit code: wrong configuration comes before everything else.
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
            if *shown <= MANY {
                text.push_str(&check.as_line(terminal));
            }
        }
        for ((topic, state), number) in shown.into_iter().filter(|(_, number)| *number > MANY) {
            let more = format!("… and {} more; --output json has them all", number - MANY);
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
    fn a_message_is_split_into_what_is_wrong_and_how_to_mend_it() {
        for (message, found, mend) in [
            ("is missing; give it or x_env", "is missing", "give it or x_env"),
            ("k.toml: no keyring. Make one; or not", "k.toml: no keyring", "Make one; or not"),
            ("must be at least 1", "must be at least 1", CORRECT_IT),
        ] {
            let check = Check::told(Topic::Secret, State::Failed, message);
            assert_eq!((check.found.as_str(), check.mend.as_deref()), (found, Some(mend)));
        }
    }

    #[test]
    fn many_of_a_kind_are_counted_instead_of_shown() {
        let mut report = Report::default();
        report.add(Check::ok(Topic::Store, "opens"));
        for number in 0..MANY + 7 {
            report.add(Check::warning(Topic::TenantStatus, format!("n{number}"), "wait"));
        }
        let text = report.as_text(false);
        assert_eq!(text.lines().count(), 1 + MANY + 1 + 2, "{text}");
        assert!(text.contains("warn  tenant_status      … and 7 more; --output json"), "{text}");
        assert!(text.ends_with("\n27 warning, 1 ok\n"), "{text}");
        let checks = report.as_json();
        assert_eq!(checks["checks"].as_array().unwrap().len(), 28);
        assert_eq!(report.exit_code(), ExitCode::SUCCESS);
    }

    #[test]
    fn each_check_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Topic::NAMES.iter().collect();
        assert_eq!(names.len(), Topic::NAMES.len());
    }
}
