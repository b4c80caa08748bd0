//! What is wrong with a configuration, all of it at once: one problem a line, each with its key and the mend.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// One thing that is wrong. Never holds a value from the file: it may be a secret in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `applications[0].client_id`; empty when the file as a whole is meant.
    pub key: String,
    /// The line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// The configuration cannot be used. Displays one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&located(&self.file, problem))?;
        }
        Ok(())
    }
}

/// `file:line: key: message`, the form that editors and terminals make a link of.
pub(super) fn located(file: &Path, problem: &Problem) -> String {
    let line = problem.line.map(|line| format!("{line}:"));
    let key = Some(&problem.key).filter(|key| !key.is_empty());
    format!(
        "{}:{} {}{}",
        file.display(),
        line.unwrap_or_default(),
        key.map(|key| format!("{key}: ")).unwrap_or_default(),
        problem.message
    )
}

/// Collects problems and warnings, so that one run tells everything.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    settled: BTreeSet<String>,
}

impl Problems {
    /// A rule is broken at `key`.
    pub(super) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        // A value that could not be read was dropped: that it is missing now is no news.
        if !self.settled.contains(&key) {
            self.errors.push(Problem { key, line: None, message: message.into() });
        }
    }

    /// The value at `key` could not be read; what later rules say about that key is left out.
    pub(super) fn add_unreadable(
        &mut self,
        key: String,
        line: Option<usize>,
        message: String,
        meant: Option<String>,
    ) {
        self.settled.extend(meant);
        self.settled.insert(key.clone());
        self.errors.push(Problem { key, line, message });
    }

    /// Something works but is probably not what was meant.
    pub(super) fn warn(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { key: key.into(), line: None, message: message.into() });
    }

    /// All warnings as lines, or all errors.
    pub(super) fn finish(
        self,
        file: &Path,
        line_of: impl Fn(&str) -> Option<usize>,
    ) -> Result<Vec<String>, ConfigError> {
        let place = |mut problem: Problem| {
            problem.line = problem.line.or_else(|| line_of(&problem.key));
            problem
        };
        if self.errors.is_empty() {
            let warnings = self.warnings.into_iter().map(place);
            return Ok(warnings.map(|warning| located(file, &warning)).collect());
        }
        let mut problems: Vec<_> = self.errors.into_iter().map(place).collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(0));
        Err(ConfigError { file: file.to_owned(), problems })
    }
}
