//! Texts to compare with, which may be open at either end.

/// A text with `*` at its start or end, or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Anything may stand before it.
    pub open_start: bool,
    /// What must stand there.
    pub text: String,
    /// Anything may stand behind it.
    pub open_end: bool,
}

impl Pattern {
    /// Whether this is exactly the text, or begins, ends or goes on with it where it is open.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => text == self.text,
            (false, true) => text.starts_with(&self.text),
            (true, false) => text.ends_with(&self.text),
            (true, true) => text.contains(&self.text),
        }
    }

    /// Whether the text contains it, in upper or lower case.
    pub(super) fn is_in(&self, text: &str) -> bool {
        text.contains(&self.text) || text.to_lowercase().contains(&self.text.to_lowercase())
    }

    /// Whether it is open anywhere.
    pub(super) fn is_open(&self) -> bool {
        self.open_start || self.open_end
    }
}
