//! Damage of files, with file and offset.

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// The most damages that are kept.
const MAX_DAMAGES: usize = 256;

/// A damaged place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// The offset of the first byte that cannot be read as what it should be.
    pub offset: u64,
    /// The problem.
    pub problem: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, problem } = self;
        write!(f, "{}, byte {offset}: {problem}", file.display())
    }
}

/// The damages that were found, each once.
#[derive(Debug, Default)]
pub(crate) struct DamageLog(Mutex<Vec<Damage>>);

impl DamageLog {
    /// Adds a damage, and logs it if it is new.
    pub(crate) fn report(&self, damage: Damage) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MAX_DAMAGES || found.contains(&damage) {
            return;
        }
        let Damage { file, offset, problem } = &damage;
        tracing::error!(file = %file.display(), offset, problem, "the audit journal is damaged");
        found.push(damage);
    }

    pub(crate) fn found(&self) -> Vec<Damage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
