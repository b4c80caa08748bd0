//! Texts of audit events that are cheap to clone.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// A static or shared text. Cloning it copies no bytes.
#[derive(Clone)]
pub enum AuditText {
    /// A static text.
    Fixed(&'static str),
    /// A shared text.
    Shared(Arc<str>),
}

impl Deref for AuditText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl Default for AuditText {
    fn default() -> Self {
        Self::Fixed("")
    }
}

impl PartialEq for AuditText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AuditText {}

impl Hash for AuditText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for AuditText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for AuditText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&'static str> for AuditText {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<Arc<str>> for AuditText {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for AuditText {
    fn from(text: String) -> Self {
        if text.is_empty() { Self::default() } else { Self::Shared(text.into()) }
    }
}
