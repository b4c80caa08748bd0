//! Callers: the internal workloads that ask, and people at the command line.

use std::{fmt, sync::Arc};

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerMethod {
    /// It did not: `callers.insecure_anonymous`, on loopback only.
    Anonymous,
    /// By being able to read the store and the keyring.
    CommandLine,
}

/// Who is calling.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    id: Arc<str>,
    method: CallerMethod,
}

impl Caller {
    /// The caller of `callers.insecure_anonymous`.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { id: "anonymous".into(), method: CallerMethod::Anonymous }
    }

    /// A person at the command line, by the name the operating system gives.
    #[must_use]
    pub fn command_line(os_user: &str) -> Self {
        Self { id: format!("cli:{os_user}").into(), method: CallerMethod::CommandLine }
    }

    /// The id that policies and the audit trail name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it proved who it is.
    #[must_use]
    pub fn method(&self) -> CallerMethod {
        self.method
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}
