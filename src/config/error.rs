//! Problems of a configuration, reported all at once: one per line, each with its key and its solution.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// One problem. It never contains a value from the file, which may be a misplaced secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `applications[0].client_id`; empty for a problem of the whole file.
    pub key: String,
    /// The line in the file, starting at 1, if it is known.
    pub line: Option<usize>,
    /// The problem and its solution.
    pub message: String,
}

/// An invalid configuration. Displays one problem per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// All problems, in the order of the file.
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

/// Formats a problem as `file:line: key: message`, which editors and terminals turn into a link.
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

/// A collection of problems and warnings, so that one run reports all of them.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    unreadable_keys: BTreeSet<String>,
}

impl Problems {
    /// Adds a problem with the value at `key`.
    pub(super) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let key = key.into();
        // An unreadable value was reported and removed, so do not also report that it is missing.
        if !self.unreadable_keys.contains(&key) {
            self.errors.push(Problem { key, line: None, message: message.into() });
        }
    }

    /// Adds a value that could not be read. Later problems with that key are ignored.
    pub(super) fn add_unreadable(
        &mut self,
        key: String,
        line: Option<usize>,
        message: String,
        meant: Option<String>,
    ) {
        self.unreadable_keys.extend(meant);
        self.unreadable_keys.insert(key.clone());
        self.errors.push(Problem { key, line, message });
    }

    /// Adds a warning about a setting that is valid but probably unintended.
    pub(super) fn warn(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem { key: key.into(), line: None, message: message.into() });
    }

    /// Returns all warnings as lines, or all errors.
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
